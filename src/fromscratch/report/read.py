"""Reads a run folder as it is, whole or damaged, once or again while it grows.

In: a folder with any of recipe.toml, metrics.jsonl, samples.jsonl, events.jsonl, health.jsonl,
evals.jsonl. Out: a `RunRecord`. What always holds: nothing inside the folder makes this raise. A
file that is missing, a line that is half written, a number that is no number becomes a `Problem`
with its line numbers, and the rest is kept. Of two rows for the same step the later one in the file
wins: after a resume it is the one that belongs to the weights that exist.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fromscratch.evaluate.records import EvalRecord
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.names import RunPaths
from fromscratch.logs.record import imported_from
from fromscratch.report.lines import GrowingLines
from fromscratch.report.record import (
    Event,
    FloatArray,
    Problem,
    RunRecord,
    Sample,
    Table,
    Yardstick,
    number,
    step_number,
)
from fromscratch.report.tables import TableBuilder

__all__ = [
    "Event",
    "FloatArray",
    "Problem",
    "RunReader",
    "RunRecord",
    "Sample",
    "Table",
    "Yardstick",
    "is_run",
    "number",
    "read_run",
]

_TRAINING_NUMBERS = ("tokens", "loss", "lr", "grad_norm", "tokens_per_s", "mfu", "seconds")
_VALIDATION_NUMBERS = ("tokens", "val_loss", "val_ppl", "val_bpb", "seconds")
# How the key of a benchmark's score ends.
_SCORES = ("_acc", "_acc_norm", "core_metric")
_PARTS = 600


@dataclass
class _Problems:
    """Collects line numbers under (file, what), in the order of first sight."""

    shown: int = 8
    found: dict[tuple[str, str], tuple[list[int], list[int]]] = field(default_factory=dict)

    def add(self, file: str, what: str, line: int | None = None) -> None:
        lines, seen = self.found.setdefault((file, what), ([], [0]))
        if line is not None:
            seen[0] += 1
            if len(lines) < self.shown:
                lines.append(line)

    def listed(self) -> list[Problem]:
        return [
            Problem(file, what, tuple(lines), max(1, seen[0]))
            for (file, what), (lines, seen) in self.found.items()
        ]


def read_run(run: Path) -> RunRecord:
    """Reads a run folder.

    Args:
        run: The folder; which of its files exist does not matter.

    Raises:
        UserError: `run` is no folder.
    """
    return RunReader(run).read()


def is_run(folder: Path) -> bool:
    """Whether the folder has any of the files that a run, ours or an imported one, has."""
    paths = RunPaths(folder)
    return any(path.is_file() for path in (paths.recipe, paths.metrics, paths.events))


class RunReader:
    """Reads a run folder again and again; only what is new of its logs is read and parsed.

    Args:
        run: The folder; which of its files exist does not matter.

    Raises:
        UserError: `run` is no folder.
    """

    def __init__(self, run: Path) -> None:
        if not run.is_dir():
            raise UserError(f"{run} is not a folder.", fix="Give the folder that `train` wrote.")
        self.folder = run
        self._paths = RunPaths(run)
        self._metrics = _Metrics(self._paths.metrics)
        self._samples = _Samples(self._paths.samples)
        self._events = _Events(self._paths.events)
        self._health = _Health(self._paths.health)
        self._evals = _Evals(self._paths.evals)

    def read(self) -> RunRecord:
        """The run as its files are now."""
        problems = _Problems()
        imported = imported_from(self.folder)
        recipe_text: str | None = None
        recipe: dict[str, Any] = {}
        if imported is None or self._paths.recipe.exists():
            recipe_text, recipe = _read_recipe(self._paths.recipe, problems)
        listed = problems.listed()
        for file, optional in (
            (self._metrics, False),
            (self._samples, False),
            (self._events, False),
            (self._health, True),
            (self._evals, True),
        ):
            listed += file.update(optional=optional)
        training, trouble = self._metrics.training_table()
        more = _Problems()
        for what in trouble:
            more.add(self._paths.metrics.name, what)
        yardsticks = _yardsticks(self._events.events, self._paths.events.name, more)
        return RunRecord(
            name=_name(self.folder, imported),
            recipe_text=recipe_text,
            recipe=recipe,
            training=training,
            validation={name: t.table() for name, t in self._metrics.validation.items()},
            samples=tuple(sorted(self._samples.latest.values(), key=lambda sample: sample.step)),
            events=tuple(self._events.events),
            yardsticks=yardsticks,
            problems=tuple(listed + more.listed()),
            tasks=self._metrics.tasks.table(),
            health={part: t.table() for part, t in self._health.parts.items()},
            evals=tuple(self._evals.records),
            imported=imported,
        )


class _LogFile:
    """One JSON-lines file of the run: what its rows say, kept up to date."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._lines = GrowingLines(path)
        self._problems = _Problems()
        self.clear()

    def clear(self) -> None:
        """Forgets every row."""

    def take(self, line: int, row: dict[str, Any]) -> str:
        """Takes a row; returns what is wrong with it, or nothing."""
        raise NotImplementedError

    def update(self, *, optional: bool) -> list[Problem]:
        """Reads what is new; returns all that is wrong with the file so far."""
        fresh = self._lines.read()
        if fresh.again:
            self._problems = _Problems()
            self.clear()
        found = [(line, what) for line, what in fresh.broken]
        for line, row in fresh.rows:
            if wrong := self.take(line, row):
                found.append((line, wrong))
        for line, what in sorted(found):
            self.problem(what, line)
        listed = self._problems.listed()
        if fresh.cut is not None:
            listed.append(Problem(self.name, "half-written last line", (fresh.cut,)))
        if fresh.trouble and not (optional and fresh.trouble == "is not there"):
            listed.append(Problem(self.name, fresh.trouble))
        return listed

    def problem(self, what: str, line: int) -> None:
        self._problems.add(self.name, what, line)


class _Metrics(_LogFile):
    """metrics.jsonl: training, validation and benchmark rows."""

    def clear(self) -> None:
        self.training = TableBuilder()
        self.validation: dict[str, TableBuilder] = {}
        self.tasks = TableBuilder()

    def take(self, line: int, row: dict[str, Any]) -> str:
        step = step_number(row.get("step"))
        if step is None:
            return "no usable step number"
        is_validation = "val_loss" in row or "val_bpb" in row
        if not is_validation and "loss" not in row:
            if any(isinstance(key, str) and key.endswith(_SCORES) for key in row):
                self.tasks.add(step, row)
                return ""
            keys = ", ".join(sorted(map(str, row.keys() - {"step", "tokens", "seconds"})))[:80]
            return f"neither training nor validation, not shown ({keys})"
        for key in _VALIDATION_NUMBERS if is_validation else _TRAINING_NUMBERS:
            if row.get(key) is not None and number(row[key]) is None:
                self.problem(f"{key} is not a number", line)
        table = self.training
        if is_validation:
            table = self.validation.setdefault(str(row.get("set", "validation")), TableBuilder())
        repeated = table.add(step, row)
        return "repeats a step; this later line was taken" if repeated else ""

    def training_table(self) -> tuple[Table, list[str]]:
        """The training rows, and what cannot be right about them."""
        table = self.training.table()
        drops = _backwards(table)
        return table, [f"the clock runs backwards after step {step:,}" for step in drops[:1]]


class _Samples(_LogFile):
    def clear(self) -> None:
        self.latest: dict[tuple[str, int], Sample] = {}

    def take(self, line: int, row: dict[str, Any]) -> str:
        step, text, prompt = step_number(row.get("step")), row.get("text"), row.get("prompt", "")
        if step is None or not isinstance(text, str) or not isinstance(prompt, str):
            return "no usable step, prompt or text"
        self.latest[prompt, step] = Sample(step, prompt, text, step_number(row.get("seed")))
        return ""


class _Events(_LogFile):
    def clear(self) -> None:
        self.events: list[Event] = []

    def take(self, line: int, row: dict[str, Any]) -> str:
        kind = row.get("event")
        if not isinstance(kind, str):
            return "does not name its event"
        message = row.get("message")
        self.events.append(
            Event(
                kind=kind,
                time=str(row.get("time", "")),
                step=step_number(row.get("step")),
                message="" if message is None else str(message),
                extra={
                    k: v for k, v in row.items() if k not in ("event", "time", "step", "message")
                },
            )
        )
        return ""


class _Health(_LogFile):
    def clear(self) -> None:
        self.parts: dict[str, TableBuilder] = {}

    def take(self, line: int, row: dict[str, Any]) -> str:
        step, parts = step_number(row.get("step")), row.get("parts")
        if step is None or not isinstance(parts, Mapping):
            return "no usable step, or no parts of the network"
        for part, values in parts.items():
            if not isinstance(values, Mapping) or (
                part not in self.parts and len(self.parts) >= _PARTS
            ):
                return f"what it says of {str(part)[:40]} is no table of numbers"
            flat = {k: v for k, v in values.items() if not isinstance(v, Mapping)}
            self.parts.setdefault(str(part), TableBuilder()).add(step, flat)
        return ""


class _Evals(_LogFile):
    def clear(self) -> None:
        self.records: list[EvalRecord] = []

    def take(self, line: int, row: dict[str, Any]) -> str:
        try:
            record = EvalRecord.from_row(row)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            return "is no evaluation"
        # The types of a record are promises that a foreign line need not keep.
        texts = (record.kind, record.model.name, record.data.name, record.written)
        counts = [record.model.step, *(m.n for m in record.metrics.values())]
        if not all(isinstance(t, str) for t in texts) or any(
            n is not None and (isinstance(n, bool) or not isinstance(n, int | float))
            for n in counts
        ):
            return "is no evaluation"
        self.records.append(record)
        return ""


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


def _name(folder: Path, imported: Mapping[str, Any] | None) -> str:
    given = imported.get("name") if imported is not None else None
    if isinstance(given, str) and given.strip():
        return given
    whole = folder.resolve()
    return whole.name or str(whole)


def _backwards(table: Table) -> list[int]:
    """The steps after which `seconds`, a sum over sessions, gets smaller."""
    seconds = table.column("seconds")
    known = np.isfinite(seconds)
    drops = np.flatnonzero(np.diff(seconds[known]) < 0)
    return [int(step) for step in table.step[known][drops]]


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
