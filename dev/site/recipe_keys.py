"""The page of recipe keys: every table, and of every key its type, default, unit and meaning.

Made from the pydantic classes that read recipes, so it cannot name a key that is not one.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fromscratch.foundation.settings import descriptions, unit_of
from fromscratch.model.config import _FAMILY_DEFAULTS, ModelConfig
from fromscratch.runs.recipe import Recipe

_NUMBERS = {int: "whole number", float: "number", bool: "true or false", str: "text"}


@dataclass(frozen=True)
class Key:
    """One row of the page.

    Attributes:
        name: As it is written in its table.
        type: What may stand there, for people.
        default: Likewise; "required" where there is none.
        unit: What it counts; empty where it counts nothing.
        meaning: What it does.
    """

    name: str
    type: str
    default: str
    unit: str
    meaning: str


def tables(
    table: type[BaseModel] = Recipe, path: str = "", many: bool = False
) -> Iterator[tuple[str, type[BaseModel], list[Key]]]:
    """Every table with its heading in TOML, the outermost first; that one's heading is empty."""
    texts = descriptions(table)
    keys, below = [], []
    for name, field in table.model_fields.items():
        inner, is_list = _table_of(field.annotation)
        if inner is None:
            keys.append(_key(table, name, field, texts.get(name, "")))
        else:
            below.append((inner, f"{path}.{name}".lstrip("."), is_list))
    heading = (f"[[{path}]]" if many else f"[{path}]") if path else ""
    yield heading, table, keys
    for inner, inner_path, is_list in below:
        yield from tables(inner, inner_path, is_list)


def page() -> str:
    """The page, in Markdown."""
    parts = [
        "# Recipe keys\n",
        "A recipe is a TOML file with these tables. On the command line a key is written with the "
        "names of its tables: `fromscratch train try optim.lr=3e-4`. An unknown key is an error, "
        "and so is a value that the type does not allow. This page is made from the code.\n",
    ]
    for heading, table, keys in tables():
        parts.append(f"## `{heading}`\n" if heading else "## At the top\n")
        if heading:
            parts.append(_paragraphs(table))
        parts.append(_rows(keys))
        if table is ModelConfig:
            parts.append(_families())
    return "\n".join(parts)


def _key(table: type[BaseModel], name: str, field: FieldInfo, meaning: str) -> Key:
    if field.is_required():  # two keys are filled in before the class sees them, and say so
        default = "left out" if "Left out:" in meaning or "left out:" in meaning else "required"
    elif table is ModelConfig and field.default is None:
        default = "the family's"
    else:
        default = _value(field.get_default(call_default_factory=True))
    bounds = _bounds(field.metadata)
    kind = " or ".join(_types(field.annotation))
    return Key(name, f"{kind}{bounds}", default, unit_of(field), meaning)


def _value(value: Any) -> str:
    if value is None:
        return "left out"
    if isinstance(value, float) and not isinstance(value, bool):
        return f"`{value:g}`"
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _types(annotation: Any) -> list[str]:
    """The alternatives, as a person would say them."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return [f"`{part}`" for part in parts]
    if origin in (Union, types.UnionType):
        return [word for part in parts if part is not type(None) for word in _types(part)]
    if origin is list:
        return [f"list of {_types(parts[0])[0]}"]
    if origin is tuple:
        return [f"{len(parts)} {_types(parts[0])[0]}s"]
    if origin is dict:
        return ["table of numbers"]
    if hasattr(annotation, "__metadata__"):  # Annotated
        return _types(parts[0])
    return [_NUMBERS[annotation]]


def _bounds(metadata: list[Any]) -> str:
    said = []
    for bound in metadata:
        if isinstance(bound, Ge):
            said.append(f"from {bound.ge:,g}")
        elif isinstance(bound, Gt):
            said.append(f"above {bound.gt:,g}")
        elif isinstance(bound, Le):
            said.append(f"up to {bound.le:,g}")
        elif isinstance(bound, Lt):
            said.append(f"below {bound.lt:,g}")
    return f", {' '.join(said)}" if said else ""


def _table_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    if get_origin(annotation) is list:
        return _table_of(get_args(annotation)[0])[0], True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    return None, False


def _paragraphs(table: type[BaseModel]) -> str:
    return f"{(table.__doc__ or '').strip()}\n".replace("\n    ", "\n")


def _rows(keys: list[Key]) -> str:
    lines = ["| key | type | default | unit | |", "|---|---|---|---|---|"]
    for key in keys:
        cells = (f"`{key.name}`", key.type, key.default, key.unit, key.meaning)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _families() -> str:
    lines = ["What the families set:\n", "| key | `gpt2` | `modern` |", "|---|---|---|"]
    gpt2, modern = _FAMILY_DEFAULTS["gpt2"], _FAMILY_DEFAULTS["modern"]
    lines += [f"| `{key}` | {_value(gpt2[key])} | {_value(modern[key])} |" for key in gpt2]
    return "\n".join(lines) + "\n"
