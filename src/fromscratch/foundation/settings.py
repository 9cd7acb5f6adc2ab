"""Tables of settings, and the units that their values are in.

Job: the one base of every table of a recipe. What comes in: classes whose fields each have a line
of text beneath them. What goes out: checked values, and for the reference (dev/site) what each key
means and is counted in. Always true: an unknown key is an error, and a value does not change once
it is read. No torch.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo


class Table(BaseModel):
    """A table of settings: the text beneath a key says what it is for.

    pydantic could read that text, but would open and parse every source file at each start, which
    takes longer than reading a recipe: `descriptions` does it for who wants them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Unit:
    """What a number counts, or is measured in; it has no effect on what is allowed."""

    name: str


Tokens = Annotated[int, Unit("tokens")]
Steps = Annotated[int, Unit("steps")]
Windows = Annotated[int, Unit("windows")]
Minutes = Annotated[float, Unit("minutes")]
Epochs = Annotated[float, Unit("epochs")]
Share = Annotated[float, Unit("share")]


def unit_of(field: FieldInfo) -> str:
    """The name of the unit that a key's values are in; empty where they have none."""
    return next((unit.name for unit in _units(field.annotation, field.metadata)), "")


def _units(annotation: Any, metadata: list[Any]) -> Iterator[Unit]:
    yield from (item for item in metadata if isinstance(item, Unit))
    for part in get_args(annotation):  # such as Annotated[int, Unit("tokens")] of ... | None
        yield from _units(part, list(getattr(part, "__metadata__", ())))


def descriptions(owner: type) -> dict[str, str]:
    """What stands beneath each attribute of a class in its source, on one line.

    Raises:
        OSError: The source is not there.
    """
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for attribute, text in zip(body.body, body.body[1:], strict=False):
        if not isinstance(attribute, ast.AnnAssign) or not isinstance(attribute.target, ast.Name):
            continue
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[attribute.target.id] = " ".join(str(text.value.value).split())
    return found
