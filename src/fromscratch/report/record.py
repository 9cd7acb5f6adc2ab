"""What a run folder says, as values: the types that flow through the report.

What always holds: a `RunRecord` was read completely; what could not be read of the files is among
its `problems` and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fromscratch.evaluate.records import EvalRecord

FloatArray = npt.NDArray[np.float64]

# Beyond this a float no longer tells one step from the next.
_LARGEST_STEP = 2**53
_NON_FINITE = {"nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"}


@dataclass(frozen=True)
class Problem:
    """Something in the run folder that could not be read, or cannot be right.

    Attributes:
        file: The file's name.
        what: A few words that complete "FILE: ...".
        lines: The first line numbers (1-based) it was seen on; empty if it concerns the whole file.
        count: How many lines there are in all.
    """

    file: str
    what: str
    lines: tuple[int, ...] = ()
    count: int = 1


@dataclass(frozen=True)
class Table:
    """Rows by ascending step, one column of float64 for each key that was ever a number.

    A value that is missing in a row is NaN; so is one that was recorded as NaN.
    """

    step: FloatArray
    columns: Mapping[str, FloatArray]

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.step)

    def column(self, name: str) -> FloatArray:
        """The column `name`, shape (rows,); all NaN if no row has it."""
        values = self.columns.get(name)
        return np.full(len(self.step), np.nan) if values is None else values

    def under(self, prefix: str) -> dict[str, FloatArray]:
        """The columns that came from a table in the row: of `drawn`, those named `drawn/NAME`."""
        start = f"{prefix}/"
        return {k.removeprefix(start): v for k, v in self.columns.items() if k.startswith(start)}


EMPTY_TABLE = Table(np.empty(0), {})


@dataclass(frozen=True)
class Sample:
    """What the model wrote after `prompt` at `step`."""

    step: int
    prompt: str
    text: str
    seed: int | None


@dataclass(frozen=True)
class Event:
    """One line of events.jsonl; `extra` holds the keys that only some kinds have."""

    kind: str
    time: str
    step: int | None
    message: str
    extra: Mapping[str, Any]


@dataclass(frozen=True)
class Yardstick:
    """Bits per byte of the held-out text by some other means, or by this model."""

    name: str
    bpb: float


@dataclass(frozen=True)
class RunRecord:
    """Everything a run folder says.

    Attributes:
        name: The folder's name.
        recipe_text: recipe.toml as it stands, None if there is none.
        recipe: The same, parsed; empty if it could not be.
        training: One row a logged step. What is a table in a row is a column for each of its
            keys: `lrs` gives `NAME_lr`, others `KEY/NAME`.
        validation: For each validation set its rows, in the order the sets first appeared.
        samples: By step, for each prompt at most one a step.
        events: In the order of the file.
        yardsticks: Those of the last `yardsticks` event.
        problems: What could not be read.
        tasks: Rows of benchmark scores made while training (`hellaswag_acc_norm`, ...).
        health: For each part of the network, from the input to the output, what it did.
        evals: Evaluations of the run's model, oldest first.
        imported: Of another trainer's run, what import.json says; None for a run of ours.
    """

    name: str
    recipe_text: str | None
    recipe: Mapping[str, Any]
    training: Table
    validation: Mapping[str, Table]
    samples: tuple[Sample, ...]
    events: tuple[Event, ...]
    yardsticks: tuple[Yardstick, ...]
    problems: tuple[Problem, ...]
    tasks: Table = EMPTY_TABLE
    health: Mapping[str, Table] = field(default_factory=dict)
    evals: tuple[EvalRecord, ...] = ()
    imported: Mapping[str, Any] | None = None


def number(value: object) -> float | None:
    """A JSON value as a float ("nan" and "inf" included, true as 1.0); None if it is no number."""
    if isinstance(value, float):
        return value
    if isinstance(value, int):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    if isinstance(value, str) and value.strip().lower() in _NON_FINITE:
        return float(value)
    return None


def step_number(value: object) -> int | None:
    """A step number, or None for whatever cannot be one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _LARGEST_STEP:
        return None
    return value
