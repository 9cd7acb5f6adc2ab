"""Recipes as flat settings: what differs from the defaults, and between runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fromscratch.report.markup import Html, tag
from fromscratch.report.numerals import count
from fromscratch.report.shown import Shown

_ROWS = 150
_VALUE = 120


def recipe(runs: Sequence[Shown]) -> Html:
    """The recipe of a run with its differences from the defaults; of several, where they differ."""
    if len(runs) > 1:
        return _between(runs)
    record = runs[0].record
    if record.recipe_text is None:
        return Html()
    return tag(
        "section",
        tag("h2", "Recipe"),
        _from_defaults(record.recipe),
        tag(
            "details",
            tag("summary", "The resolved recipe (TOML)"),
            tag("pre", tag("code", record.recipe_text[:100_000])),
        ),
        id="recipe",
    )


def flat(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested tables as dotted names; lists stay whole."""
    found: dict[str, object] = {}
    for key, value in recipe.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{name}.")
        else:
            found[name] = value
    return found


def differences(recipes: Sequence[Mapping[str, Any]]) -> dict[str, list[object]]:
    """The settings that are not the same in all recipes, with each one's value; None: not set."""
    all_flat = [flat(recipe) for recipe in recipes]
    names = dict.fromkeys(name for settings in all_flat for name in settings)
    found = {}
    for name in names:
        values = [settings.get(name) for settings in all_flat]
        if any(not _equal(value, values[0]) for value in values[1:]):
            found[name] = values
    return found


def defaults() -> dict[str, object]:
    """What a recipe has where it says nothing, by dotted name."""
    # pydantic's schema takes a while to import.
    from fromscratch.runs.recipe import Recipe

    found: dict[str, object] = {}
    _defaults_of(Recipe, "", found)
    return found


def _defaults_of(table: Any, prefix: str, found: dict[str, object]) -> None:
    from pydantic import BaseModel

    for name, field in table.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            _defaults_of(kind, f"{prefix}{name}.", found)
        elif not field.is_required():
            value = field.get_default(call_default_factory=True)
            found[prefix + name] = list(value) if isinstance(value, tuple) else value


def _from_defaults(given: Mapping[str, Any]) -> Html:
    usual = defaults()
    rows = []
    for name, value in flat(given).items():
        if name in ("name", "description") or (name in usual and _equal(usual[name], value)):
            continue
        # A default of None is worked out from other settings.
        known = name in usual and usual[name] is not None
        default = _text(usual[name]) if known else "\u2013"
        rows.append([name, _text(value), default])
    if not rows:
        return Html()
    return _grid("What differs from the defaults", ["Setting", "This run", "Default"], rows)


def _between(runs: Sequence[Shown]) -> Html:
    without = [run.label for run in runs if not run.record.recipe]
    rows = [
        [name, *("\u2013" if value is None else _text(value) for value in values)]
        for name, values in differences([run.record.recipe for run in runs]).items()
        if name not in ("name", "description")
    ]
    parts = []
    if rows:
        title = "What differs between the recipes"
        parts.append(_grid(title, ["Setting", *(run.label for run in runs)], rows))
    elif len(without) < len(runs):
        parts.append(tag("p", "The recipes do not differ."))
    if without:
        parts.append(tag("p", f"Without a recipe: {', '.join(without)}.", class_="note"))
    return tag("section", tag("h2", "Recipes"), *parts, id="recipe")


def _grid(caption: str, heads: list[str], rows: list[list[str]]) -> Html:
    head = tag("tr", *(tag("th", h, scope="col") for h in heads))
    body = [
        tag("tr", tag("th", tag("code", row[0]), scope="row"), *(tag("td", v) for v in row[1:]))
        for row in rows[:_ROWS]
    ]
    if len(rows) > _ROWS:
        caption += f" ({count(len(rows) - _ROWS)} more)"
    grid = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return tag("div", grid, class_="scroll settings")


def _equal(one: object, other: object) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return one == other


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text[:_VALUE] + (" \u2026" if len(text) > _VALUE else "")
