"""The keys of a recipe as they are typed: `model.n_layer`, with what each may be.

In: the schema (recipe.py). Out: a table of dotted keys, for whoever completes, corrects or lists
them. A key inside a list of tables (`data.source`) is not typed alone, and is not in it.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from fromscratch.foundation.settings import descriptions
from fromscratch.runs.recipe import Recipe


@dataclass(frozen=True)
class RecipeKey:
    """A key.

    Attributes:
        name: Dotted.
        choices: The values there are, where they can be counted.
        words: What the schema says of it.
        default: Where a recipe does not say; None where that is worked out.
    """

    name: str
    choices: tuple[str, ...]
    words: str
    default: Any = None


@cache
def recipe_keys() -> Mapping[str, RecipeKey]:
    """Every key that an override can set, in the order of the schema."""
    return {key.name: key for key in _keys(Recipe, "")}


def _keys(model: type[BaseModel], prefix: str) -> Iterator[RecipeKey]:
    words = descriptions(model)
    for name, field in model.model_fields.items():
        table = _table(field.annotation)
        if table is not None:
            yield from _keys(table, f"{prefix}{name}.")
        else:
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            choices = tuple(_choices(field.annotation))
            yield RecipeKey(f"{prefix}{name}", choices, words.get(name, ""), default)


def _table(annotation: Any) -> type[BaseModel] | None:
    """The table that a field holds, also where it may be absent."""
    for kind in _alternatives(annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _choices(annotation: Any) -> Iterator[str]:
    for kind in _alternatives(annotation):
        if kind is bool:
            yield from ("true", "false")
        elif get_origin(kind) is Literal:
            yield from map(str, get_args(kind))


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """What an annotation allows: the members of a union, or itself."""
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(a for member in get_args(annotation) for a in _alternatives(member))
    if get_origin(annotation) is not None and get_origin(annotation).__name__ == "Annotated":
        return _alternatives(get_args(annotation)[0])
    return (annotation,)
