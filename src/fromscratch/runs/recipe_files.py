"""Recipes from files and command lines.

`load_recipe` finds a recipe by name or path, applies overrides of the form `model.n_layer=6`, and
refuses unknown keys with the closest known one.
"""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin

import tomli_w
from pydantic import BaseModel, ValidationError

from fromscratch.foundation.errors import UserError, did_you_mean
from fromscratch.foundation.names import RUN_RECIPE
from fromscratch.runs.recipe import Recipe
from fromscratch.tokenizer.names import vocab_size_of


def shipped_recipes(*, with_model: bool = False) -> list[str]:
    """The names of the recipes in this package.

    Args:
        with_model: Leave out those that finetune whichever model `--from` names.
    """
    folder = resources.files("fromscratch.runs") / "recipes"
    names = sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )
    if not with_model:
        return names
    return [name for name in names if not needs_a_model(tomllib.loads(read_recipe(name)[1]))]


def load_recipe(
    name_or_path: str,
    overrides: Sequence[str] = (),
    *,
    complete: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Recipe:
    """Reads a recipe and applies overrides.

    Args:
        name_or_path: The name of a shipped recipe, or a TOML file.
        overrides: `dotted.key=value`, values as in TOML; a bare word is a string.
        complete: Fills in what the recipe leaves to the model that is started from
            (starting_model.py); None where it starts from nothing.

    Raises:
        UserError: No such recipe, an unknown key, a value that cannot be.
    """
    name, text = read_recipe(name_or_path)
    return parse_recipe(text, name=name, overrides=overrides, complete=complete)


def read_recipe(name_or_path: str) -> tuple[str, str]:
    """The name and the TOML text of a shipped recipe, or of a file.

    Raises:
        UserError: There is none.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix == ".toml" or path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"The recipe {path} cannot be read: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise UserError(f"The recipe {path} is not UTF-8 text.") from None
        name = path.stem
    else:
        name = name_or_path
        if path.is_dir():
            raise _not_a_recipe(path)
        if name not in shipped_recipes():
            raise UserError(
                f'There is no recipe "{name}".{did_you_mean(name, shipped_recipes())}',
                fix=f"Shipped: {', '.join(shipped_recipes())}; or give a path to a .toml file.",
            )
        text = (resources.files("fromscratch.runs") / "recipes" / f"{name}.toml").read_text("utf-8")
    return name, text


def _not_a_recipe(folder: Path) -> UserError:
    """A folder where a recipe's name is wanted: a run, or what somebody wants to train on."""
    if (folder / RUN_RECIPE).is_file():
        return UserError(
            f"{folder} is a run, not a recipe.",
            fix=f"Go on with it: fromscratch resume {shlex.quote(str(folder))}; or start another "
            f"like it: fromscratch train {shlex.quote(str(folder / RUN_RECIPE))}",
        )
    return UserError(
        f"{folder} is a folder, not a recipe.",
        fix="To train on what is in it: fromscratch train modern-124m "
        f"data.path={shlex.quote(str(folder))}",
    )


def parse_recipe(
    text: str,
    *,
    name: str,
    overrides: Sequence[str] = (),
    complete: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Recipe:
    """`load_recipe` for TOML text; `name` stands in where the text has none.

    Raises:
        UserError: As `load_recipe`.
    """
    values = _values(text, name)
    for override in overrides:
        _apply(values, override)
    if complete is not None:
        _refuse_unknown_keys(values, Recipe, prefix="")
        values = complete(values)
    elif needs_a_model(values):
        raise UserError(
            f"The recipe {name} finetunes a model, and does not say which.",
            fix=f"Name it: fromscratch train {name} --from MODEL.",
        )
    return recipe_from(values)


def completed_text(
    text: str,
    *,
    name: str,
    overrides: Sequence[str],
    complete: Callable[[dict[str, Any]], dict[str, Any]],
) -> str:
    """A recipe's TOML with what it leaves to the model that it starts from.

    Args:
        text: As it is written.
        name: Of the recipe.
        overrides: Changes that `complete` must know of; they are not written into it.
        complete: As for `load_recipe`.

    Raises:
        UserError: As `load_recipe`.
    """
    given, completed = _values(text, name), _values(text, name)
    for override in overrides:
        _apply(given, override)
    _refuse_unknown_keys(given, Recipe, prefix="")
    found = complete(given)
    for table in ("base", "chat", "data", "model"):
        if table in found:
            completed[table] = {k: v for k, v in found[table].items() if v is not None}
    return tomli_w.dumps(completed)


def _values(text: str, name: str) -> dict[str, Any]:
    """A recipe's tables as they are written."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"The recipe {name} is not valid TOML: {error}.") from None
    values.setdefault("name", name)
    return values


def needs_a_model(values: dict[str, Any]) -> bool:
    """Whether a recipe, as nested tables, can only be run on a model that is there already."""
    train, base = values.get("train"), values.get("base")
    finetunes = isinstance(train, dict) and train.get("objective", "pretrain") != "pretrain"
    return finetunes and not (isinstance(base, dict) and base.get("model"))


def recipe_from(values: dict[str, Any]) -> Recipe:
    """Checks a recipe given as nested tables.

    Raises:
        UserError: An unknown key, a value that cannot be.
    """
    _refuse_unknown_keys(values, Recipe, prefix="")
    model = values.get("model")
    if isinstance(model, dict) and not model.get("vocab_size"):
        tokenizer = values.get("data", {}).get("tokenizer", "gpt2")
        implied = vocab_size_of(tokenizer) if isinstance(tokenizer, str) else None
        if implied is not None:
            values = values | {"model": model | {"vocab_size": implied}}
    try:
        return Recipe(**values)
    except ValidationError as error:
        raise _first_problem(error) from None


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(
            f'"{override}" is not an override.',
            fix="Write key=value without spaces, e.g. optim.lr=6e-4; a glob goes in quotes.",
        )
    table = values
    *parents, last = key.strip().split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise UserError(f'"{key}": {parent} is not a table with keys.')
    if key.startswith("train.") and last in ("steps", "tokens", "epochs"):
        for other in ("steps", "tokens", "epochs"):
            table.pop(other, None)  # saying one replaces what the recipe says
    if key == "data.source":
        table.pop("path", None)  # a run on one text goes on with several
    if key == "data.path":
        table.pop("source", None)
        table.pop("stage", None)
    if key == "train.tokens_per_step" and isinstance(values.get("chat"), dict):
        values["chat"].pop("examples_per_step", None)
    table[last] = _value(text)


def _value(text: str) -> Any:
    """A TOML value; a number may have underscores or be 1e6; anything else is a string."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def _refuse_unknown_keys(values: dict[str, Any], model: type[BaseModel], *, prefix: str) -> None:
    known = model.model_fields
    for key, value in values.items():
        if key not in known:
            hint = did_you_mean(key, known, prefix=prefix)
            if not hint:  # the right key of the wrong table is the likeliest other mistake
                elsewhere = [p for p in _all_keys(Recipe, "") if p.rpartition(".")[2] == key]
                hint = f' Did you mean "{elsewhere[0]}"?' if elsewhere else ""
            raise UserError(f'There is no setting "{prefix}{key}".{hint}')
        table, many = _table_of(known[key].annotation)
        if table is not None and many and isinstance(value, list):
            for item in value:
                if isinstance(item, dict):
                    _refuse_unknown_keys(item, table, prefix=f"{prefix}{key}.")
        elif table is not None and not isinstance(value, dict):
            first = next(iter(table.model_fields))
            raise UserError(
                f"{prefix}{key} is a table: set a key in it, such as {prefix}{key}.{first}=..."
            )
        elif table is not None:
            _refuse_unknown_keys(value, table, prefix=f"{prefix}{key}.")


def _table_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The table that a field holds, if any, and whether it holds a list of them."""
    if get_origin(annotation) is list:
        return _table_of(get_args(annotation)[0])[0], True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    return None, False


def _all_keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for key, info in model.model_fields.items():
        table, _ = _table_of(info.annotation)
        if table is None:
            yield f"{prefix}{key}"
        else:
            yield from _all_keys(table, f"{prefix}{key}.")


def _first_problem(error: ValidationError) -> UserError:
    """The first of pydantic's findings, in our words."""
    first = error.errors()[0]
    if isinstance(inner := first.get("ctx", {}).get("error"), UserError):
        return inner
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "int_parsing":
        return UserError(
            f"{key} = {first['input']!r} is not a whole number; write 10000, 10_000 or 1e4."
        )
    if first["type"] == "missing":
        return UserError(f'The recipe lacks "{key}".')
    message = first["msg"][0].lower() + first["msg"][1:]
    return UserError(f"{key} = {first['input']!r}: {message}.")
