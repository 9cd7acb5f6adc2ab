"""Reads a run folder as it is, whole or damaged.

In: a folder with any of recipe.toml, metrics.jsonl, samples.jsonl, events.jsonl. Out: a
`RunRecord`. What always holds: nothing inside the folder makes this raise. A file that is missing,
a line that is half written, a number that is no number becomes a `Problem` with its line numbers,
and the rest is kept. Of two rows for the same step the later one in the file wins: after a resume
it is the one that belongs to the weights that exist.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import RunPaths

FloatArray = npt.NDArray[np.float64]

# Beyond this a float no longer tells one step from the next.
_LARGEST_STEP = 2**53
_NON_FINITE = {"nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"}
_TRAINING_NUMBERS = ("tokens", "loss", "lr", "grad_norm", "tokens_per_s", "mfu", "seconds")
_VALIDATION_NUMBERS = ("tokens", "val_loss", "val_ppl", "val_bpb", "seconds")


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
        training: One row a logged step.
        validation: For each validation set its rows, in the order the sets first appeared.
        samples: By step, for each prompt at most one a step.
        events: In the order of the file.
        yardsticks: Those of the last `yardsticks` event.
        problems: What could not be read.
        health: For each part of the network what health.jsonl says of it, by step.
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
    health: Mapping[str, Table] = field(default_factory=dict)


@dataclass
class _Problems:
    """Collects line numbers under (file, what), in the order of first sight."""

    shown: int = 8
    found: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    def add(self, file: str, what: str, line: int | None = None) -> None:
        lines = self.found.setdefault((file, what), [])
        if line is not None:
            lines.append(line)

    def listed(self) -> tuple[Problem, ...]:
        return tuple(
            Problem(file, what, tuple(lines[: self.shown]), max(1, len(lines)))
            for (file, what), lines in self.found.items()
        )


def read_run(run: Path) -> RunRecord:
    """Reads a run folder.

    Args:
        run: The folder; which of its files exist does not matter.

    Raises:
        UserError: `run` is no folder.
    """
    if not run.is_dir():
        raise UserError(f"{run} is not a folder.", fix="Give the folder that `train` wrote.")
    paths = RunPaths(run)
    problems = _Problems()
    recipe_text, recipe = _read_recipe(paths.recipe, problems)
    training, validation = _read_metrics(paths.metrics, problems)
    samples = _read_samples(paths.samples, problems)
    events = _read_events(paths.events, problems)
    return RunRecord(
        name=run.resolve().name or str(run.resolve()),
        recipe_text=recipe_text,
        recipe=recipe,
        training=training,
        validation=validation,
        samples=samples,
        events=events,
        yardsticks=_yardsticks(events, paths.events.name, problems),
        problems=problems.listed(),
        health=_read_health(paths.health, problems),
    )


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


def _step(value: object) -> int | None:
    """A step number, or None for whatever cannot be one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _LARGEST_STEP:
        return None
    return value


def _rows(path: Path, problems: _Problems) -> list[tuple[int, dict[str, Any]]]:
    """The readable objects of a JSON-lines file with their line numbers."""
    rows: list[tuple[int, dict[str, Any]]] = []
    try:
        with open(path, "rb") as handle:
            for line, raw in enumerate(handle, start=1):
                if raw.isspace():
                    continue
                # ValueError covers bad JSON, bad UTF-8 and integers of absurd length.
                try:
                    row = json.loads(raw.decode("utf-8"))
                except (ValueError, RecursionError):
                    cut = not raw.endswith(b"\n")
                    problems.add(path.name, "half-written last line" if cut else "no JSON", line)
                    continue
                if isinstance(row, dict):
                    rows.append((line, row))
                else:
                    problems.add(path.name, "not a JSON object", line)
    except FileNotFoundError:
        problems.add(path.name, "is not there")
    except OSError as error:
        problems.add(path.name, f"could not be opened ({error.strerror})")
    return rows


def _read_recipe(path: Path, problems: _Problems) -> tuple[str | None, dict[str, Any]]:
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        problems.add(path.name, "is not there")
        return None, {}
    except OSError as error:
        problems.add(path.name, f"could not be opened ({error.strerror})")
        return None, {}
    try:
        return text, tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        problems.add(path.name, f"is not valid TOML ({error})")
        return text, {}


def _read_metrics(path: Path, problems: _Problems) -> tuple[Table, dict[str, Table]]:
    training: dict[int, dict[str, Any]] = {}
    validation: dict[str, dict[int, dict[str, Any]]] = {}
    for line, row in _rows(path, problems):
        step = _step(row.get("step"))
        if step is None:
            problems.add(path.name, "no usable step number", line)
            continue
        is_validation = "val_loss" in row or "val_bpb" in row
        if not is_validation and "loss" not in row:
            keys = ", ".join(sorted(map(str, row.keys() - {"step", "tokens", "seconds"})))[:80]
            problems.add(path.name, f"neither training nor validation, not shown ({keys})", line)
            continue
        for key in _VALIDATION_NUMBERS if is_validation else _TRAINING_NUMBERS:
            if row.get(key) is not None and number(row[key]) is None:
                problems.add(path.name, f"{key} is not a number", line)
        rows = training
        if is_validation:
            rows = validation.setdefault(str(row.get("set", "validation")), {})
        if step in rows:
            problems.add(path.name, "repeats a step; this later line was taken", line)
        rows[step] = row if is_validation else _with_rates(row)
    table = _table(training)
    for step in _backwards(table)[:1]:
        problems.add(path.name, f"the clock runs backwards after step {step:,}")
    return table, {name: _table(of_set) for name, of_set in validation.items()}


def _with_rates(row: dict[str, Any]) -> dict[str, Any]:
    """A training row with the learning rate of each group as a column of its own."""
    rates = row.get("lrs")
    if not isinstance(rates, Mapping):
        return row
    return {f"{name}_lr": rate for name, rate in rates.items()} | row


def _table(by_step: Mapping[int, dict[str, Any]]) -> Table:
    ordered = sorted(by_step.items())
    keys = dict.fromkeys(key for _, row in ordered for key in row if key != "step")
    columns: dict[str, FloatArray] = {}
    for key in keys:
        values = [number(row.get(key)) for _, row in ordered]
        if any(value is not None for value in values):
            # None becomes NaN in the conversion.
            columns[key] = np.array(values, dtype=np.float64)
    return Table(np.array([step for step, _ in ordered], dtype=np.float64), columns)


def _backwards(table: Table) -> list[int]:
    """The steps after which `seconds`, a sum over sessions, gets smaller."""
    seconds = table.column("seconds")
    known = np.isfinite(seconds)
    drops = np.flatnonzero(np.diff(seconds[known]) < 0)
    return [int(step) for step in table.step[known][drops]]


def _read_samples(path: Path, problems: _Problems) -> tuple[Sample, ...]:
    latest: dict[tuple[str, int], Sample] = {}
    for line, row in _rows(path, problems):
        step, text, prompt = _step(row.get("step")), row.get("text"), row.get("prompt", "")
        if step is None or not isinstance(text, str) or not isinstance(prompt, str):
            problems.add(path.name, "no usable step, prompt or text", line)
            continue
        latest[prompt, step] = Sample(step, prompt, text, _step(row.get("seed")))
    return tuple(sorted(latest.values(), key=lambda sample: sample.step))


def _read_events(path: Path, problems: _Problems) -> tuple[Event, ...]:
    events: list[Event] = []
    for line, row in _rows(path, problems):
        kind = row.get("event")
        if not isinstance(kind, str):
            problems.add(path.name, "does not name its event", line)
            continue
        message = row.get("message")
        extra = {k: v for k, v in row.items() if k not in ("event", "time", "step", "message")}
        events.append(
            Event(
                kind=kind,
                time=str(row.get("time", "")),
                step=_step(row.get("step")),
                message="" if message is None else str(message),
                extra=extra,
            )
        )
    return tuple(events)


def _read_health(path: Path, problems: _Problems) -> dict[str, Table]:
    parts: dict[str, dict[int, dict[str, Any]]] = {}
    # A run that does not measure it has no such file.
    for line, row in _rows(path, problems) if path.exists() else []:
        step, found = _step(row.get("step")), row.get("parts")
        if step is None or not isinstance(found, Mapping):
            problems.add(path.name, "no usable step or parts", line)
            continue
        for name, numbers in found.items():
            if isinstance(numbers, dict):
                parts.setdefault(str(name), {})[step] = numbers
    return {name: _table(of_part) for name, of_part in parts.items()}


def _yardsticks(events: Iterable[Event], file: str, problems: _Problems) -> tuple[Yardstick, ...]:
    rows: object = ()
    for event in events:
        if event.kind == "yardsticks":
            rows = event.extra.get("rows")
    if not isinstance(rows, (list, tuple)):
        problems.add(file, "the yardsticks are no list")
        return ()
    found = []
    for row in rows:
        bpb = number(row.get("bpb")) if isinstance(row, dict) else None
        if bpb is None or not math.isfinite(bpb) or bpb < 0 or "name" not in row:
            problems.add(file, "a yardstick has no name or no number")
        else:
            found.append(Yardstick(str(row["name"]), bpb))
    return tuple(found)
