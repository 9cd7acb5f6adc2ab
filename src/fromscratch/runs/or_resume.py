"""The same command again: `train --or-resume` where the run is there already.

In: the words of a `train` command and a run folder. Out: what of them is to be changed in that run,
for pick_up.py. A cell of a notebook, a crontab or a scheduler's script gives one command for ever:
the first time it starts the run, afterwards it goes on with it.

What always holds: an identical command changes nothing, also where `resume` was told to change
something in between. What the command itself says anew (`train.steps=2000` where 1000 stood) is
a deliberate change, as it is for `resume`. A recipe file that reads otherwise than when the run was
started is neither taken over nor ignored: it is refused (R37), and so is another recipe (R34).
"""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.names import RunPaths
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.recipe_files import load_recipe, read_recipe

_ONE_OF = (
    {"train.steps", "train.tokens", "train.epochs"},
    {"train.tokens_per_step", "chat.examples_per_step"},
    {"data.tokenizer", "model.vocab_size"},
)
"""Settings of which saying one replaces or decides the others."""
_SHOWN = 3


@dataclass(frozen=True)
class Again:
    """What a command means for a run that is there.

    Attributes:
        changes: Overrides to resume it with.
        asked: The recipe as the command has it, to be kept once they are in force.
    """

    changes: list[str]
    asked: Recipe


def default_folder(recipe: str, overrides: Sequence[str]) -> Path:
    """Where the runs of a recipe go that are not told where: runs/NAME.

    Raises:
        UserError: There is no such recipe.
    """
    name, text = read_recipe(recipe)
    with suppress(tomllib.TOMLDecodeError):  # whoever loads the recipe says where it is broken
        name = str(tomllib.loads(text).get("name", name))
    for key, _, value in (word.partition("=") for word in overrides):
        name = value if key.strip() == "name" else name
    return Path("runs") / name


def is_run(root: Path) -> bool:
    """Whether there is a run to go on with."""
    return RunPaths(root).recipe.is_file()


def asked_again(root: Path, recipe: str, overrides: Sequence[str], start: str | None) -> Again:
    """Compares a command with the one that the run was started by.

    Args:
        root: A run.
        recipe: A shipped recipe's name, or a file.
        overrides: `key=value`.
        start: The model that `--from` names; it need not be there any more.

    Raises:
        UserError: It is another recipe's run, or the recipe says something else than it did.
    """
    paths = RunPaths(root)
    # A run of an earlier release has kept only what became of it.
    known = paths.asked.is_file()
    then = load_recipe(str(paths.asked if known else paths.recipe))
    _check_start(root, then, start)
    now = load_recipe(recipe, overrides, complete=_completed_as(then) if start else None)
    if now.name != then.name:
        raise UserError(
            f'{root} is a run of the recipe "{then.name}", not of "{now.name}".',
            fix="Choose another --run.",
        )
    if not known:
        return Again(list(overrides), now)
    was, is_now = then.by_key(), now.by_key()
    changed = {key for key in was | is_now if was.get(key) != is_now.get(key)}
    said = {word.partition("=")[0].strip() for word in overrides}
    for group in _ONE_OF:
        said |= group if said & group else set()
    if unsaid := sorted(changed - said):
        raise _edited(root, recipe, [(key, was.get(key), is_now.get(key)) for key in unsaid])
    return Again([w for w in overrides if w.partition("=")[0].strip() in changed], now)


def _check_start(root: Path, then: Recipe, start: str | None) -> None:
    """Refuses another model to start from; the same one may have moved on, or be gone."""
    base = then.base.model
    if not start:
        same = not base
    else:
        # Of a run its best checkpoint was taken; today's may be another.
        same = start == base or Path(base).is_relative_to(Path(start).expanduser().resolve())
        same = same and bool(base)
    if not same:
        raise UserError(
            f"{root} was started {f'from {base}' if base else 'from no model'}, and the command "
            f"says {f'--from {start}' if start else 'no --from'}.",
            fix=f"Choose another --run, or go on with: fromscratch resume {shlex.quote(str(root))}",
        )


def _completed_as(then: Recipe) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Completes a recipe as the model that the run started from did."""

    def complete(values: dict[str, Any]) -> dict[str, Any]:
        kept = then.model_dump(exclude_none=True)
        chat, data = values.get("chat", {}), values.get("data", {})
        model = kept["model"] | {
            key: value
            for key, value in values.get("model", {}).items()
            if key in ("context", "dropout")
        }
        return values | {
            "base": kept["base"],
            "model": model,
            "data": {"tokenizer": kept["data"]["tokenizer"]} | data,
            "chat": {"template": kept["chat"].get("template")} | chat,
        }

    return complete


def _edited(root: Path, recipe: str, found: list[tuple[str, object, object]]) -> UserError:
    """What a recipe says now, and what the run was started with."""
    shown = ", ".join(f"{key}={now} (was {was})" for key, was, now in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    run = shlex.quote(str(root))
    words = [_override(key, now) for key, _, now in found[:_SHOWN]]
    add = f"To change that run, say it in the command: {' '.join(w for w in words if w)}. "
    return UserError(
        f"{recipe} is not what {root} was started with: {shown}{more}.",
        fix=f"{add if all(words) else ''}To go on as it was: fromscratch resume {run}. For a new "
        "run, choose another --run.",
    )


def _override(key: str, value: object) -> str | None:
    """A setting as a word of a command, where one word can say it."""
    if isinstance(value, bool):
        return f"{key}={str(value).lower()}"
    return f"{key}={shlex.quote(str(value))}" if isinstance(value, (int, float, str)) else None
