"""A tracker that shows a run elsewhere, and can neither slow it nor end it.

In: the calls of a run, and what its own files say already. Out: the same in a `Sink` (TensorBoard's
files, a wandb run), which a thread of its own feeds, so that a slow disk or network holds nothing
up.

Always true: a mirror shows what the run's files say, each row once. A new session, and a run that
goes back to a checkpoint, shows it from the files again, or from where the sink says that it
stands: rows past that step are never there twice, and what a kill kept from the sink is there after
all. The first failure of a sink becomes one event of the run, and the sink is left alone from then
on.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from fromscratch.foundation.files import read_json_lines
from fromscratch.foundation.names import RunPaths
from fromscratch.track.tracker import (
    HellaSwagResult,
    SampleResult,
    StepResult,
    ValidationResult,
    is_of_a_duty,
)

# Rows that may wait; a sink that is further behind than this does not keep up.
_WAITING = 20_000
# Longer than a sink may take to begin and to finish. The state has been saved by then: a run that
# is killed while it waits loses nothing.
_CLOSING_SECONDS = 45.0

_POOLED = "validation"
_NOT_FINITE = {"nan", "inf", "-inf"}
_OF_EVERY_ROW = {"step", "set"}
_SHOWN_AS = {"lrs": "lr", "parts": "health"}

Kind = Literal["numbers", "sample", "event"]
Report = Callable[[str, int, str, dict[str, Any]], None]


@dataclass(frozen=True)
class Entry:
    """A row of one of a run's files."""

    kind: Kind
    row: Mapping[str, Any]

    @property
    def step(self) -> int:
        return int(self.row.get("step", 0))


class HasRow(Protocol):
    """A result of any kind."""

    def row(self) -> dict[str, Any]:
        """Its line in the run's file."""


class Sink(Protocol):
    """Where a mirror shows a run. All calls come from one thread, in the order of the run."""

    def open(self) -> int:
        """Makes ready, again after a `close`; returns the first step whose rows it has not yet."""

    def numbers(self, step: int, values: dict[str, float], seconds: float | None) -> None:
        """Shows numbers by name; `seconds` is the training time so far, where it is known."""

    def sample(self, step: int, prompt: str, text: str) -> None:
        """Shows a sample."""

    def event(self, step: int, name: str, message: str, details: Mapping[str, Any]) -> None:
        """Shows an event; the details of "started" are the run's environment."""

    def flush(self) -> None:
        """Hands on what is held back."""

    def close(self) -> None:
        """Ends; may take some seconds."""


@dataclass(frozen=True)
class _Again:
    """The sink is to begin, or to begin again, with these."""

    entries: list[Entry]


_Item = Entry | _Again | Literal["flush", "close"]


class Mirror:
    """Shows a run in a sink.

    Args:
        name: For messages.
        sink: What to feed; `say` tells the run what happens there.
        history: Reads what the run's files say.
        report: Takes an event of the run: name, step, message, details. Called by the thread that
            calls the mirror, never by the mirror's own.
    """

    def __init__(
        self,
        name: str,
        sink: Callable[[Callable[[str], None]], Sink],
        history: Callable[[], list[Entry]],
        report: Report,
    ) -> None:
        self.name = name
        self._report = report
        self._step = 0
        self._failed = False
        self._said: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._waiting: queue.Queue[_Item] = queue.Queue(_WAITING)
        self._sink = sink(lambda message: self._said.put(("tracker_note", message)))
        self._history = history
        self._put(_Again(history()))
        self._thread = threading.Thread(target=self._feed, name=f"{name} tracker", daemon=True)
        self._thread.start()

    def step(self, result: StepResult) -> None:
        """Shows a training row."""
        self._step = result.step
        self._put(Entry("numbers", result.row()))

    def validation(self, result: ValidationResult) -> None:
        """Shows a validation row."""
        self._put(Entry("numbers", result.row()))

    def hellaswag(self, result: HellaSwagResult) -> None:
        """Shows a row of HellaSwag's answers."""
        self._put(Entry("numbers", result.row()))

    def sample(self, result: SampleResult) -> None:
        """Shows a sample."""
        self._put(Entry("sample", result.row()))

    def event(self, name: str, step: int, message: str, details: dict[str, Any]) -> None:
        """Shows an event."""
        self._put(Entry("event", details | {"event": name, "step": step, "message": message}))

    def health(self, result: HasRow) -> None:
        """Shows what each layer did."""
        self._put(Entry("numbers", result.row()))

    def rewind(self, step: int, *, duties_done: bool) -> None:
        """Shows the run as its files say it up to a step, whether they have been cut yet or not."""

        def counts(entry: Entry) -> bool:
            of_duty = entry.kind == "sample" or is_of_a_duty(entry.row)
            at_once = entry.step < step or (entry.step == step and (duties_done or not of_duty))
            return at_once or entry.kind == "event"

        self._put(_Again([entry for entry in self._history() if counts(entry)]))

    def flush(self) -> None:
        """Asks the sink to hand on what it holds; a checkpoint does not wait for it."""
        self._put("flush")

    def close(self) -> None:
        """Ends the sink, and waits for it within bounds."""
        self._put("close")
        self._thread.join(_CLOSING_SECONDS)
        if self._thread.is_alive() and not self._failed:
            self._failed = True
            self._said.put(
                ("tracker_failed", f"had not finished after {_CLOSING_SECONDS:.0f} seconds")
            )
        self._pass_on_what_was_said()

    def _put(self, item: _Item) -> None:
        self._pass_on_what_was_said()
        if self._failed:
            return
        try:
            self._waiting.put_nowait(item)
        except queue.Full:
            self._failed = True
            self._said.put(("tracker_failed", f"is {_WAITING:,} rows behind"))
            self._pass_on_what_was_said()

    def _pass_on_what_was_said(self) -> None:
        while not self._said.empty():
            name, message = self._said.get()
            if name == "tracker_failed":
                message += "; it shows no more of this session, and the run's own files go on"
            self._report(name, self._step, f"{self.name}: {message}", {})

    # --- in the thread ----------------------------------------------------------------------------

    def _feed(self) -> None:
        try:
            first, opened = 0, False
            while not self._failed and (item := self._waiting.get()) != "close":
                if isinstance(item, _Again):
                    if opened:
                        self._sink.close()
                    first, opened = self._sink.open(), True
                    for entry in item.entries:
                        if entry.step >= first:
                            self._show(entry)
                elif isinstance(item, Entry):
                    if item.step >= first:
                        self._show(item)
                else:
                    self._sink.flush()
            self._sink.close()
        except Exception as error:  # whatever it is, it is no reason to stop training
            if not self._failed:
                self._failed = True
                self._said.put(("tracker_failed", f"{type(error).__name__}: {error}"))

    def _show(self, entry: Entry) -> None:
        row = entry.row
        if entry.kind == "numbers":
            self._sink.numbers(entry.step, numbers_of(row), _finite(row.get("seconds")))
        elif entry.kind == "sample":
            self._sink.sample(entry.step, str(row["prompt"]), str(row["text"]))
        else:
            told = {"event", "step", "message", "time"}
            details = {key: value for key, value in row.items() if key not in told}
            self._sink.event(entry.step, str(row["event"]), str(row.get("message", "")), details)


def history_of(paths: RunPaths) -> list[Entry]:
    """What a run's files say, by step; of one step: its numbers, samples, then events."""
    entries = [Entry("numbers", row) for row in read_json_lines(paths.metrics)]
    entries += [Entry("numbers", row) for row in read_json_lines(paths.health)]
    entries += [Entry("sample", row) for row in read_json_lines(paths.samples)]
    entries += [Entry("event", row) for row in read_json_lines(paths.events) if "event" in row]
    return sorted(entries, key=lambda entry: entry.step)


def numbers_of(row: Mapping[str, Any]) -> dict[str, float]:
    """A row's numbers by the name that a tracker shows them under.

    A number of a training row is `train/NAME`; what stands in a table is `TABLE/NAME` (`lrs` is
    `lr`, and the `parts` of the network are `health`), and so on inwards. Of a validation row,
    `val_bpb` is `val/bpb`, and `val/bpb/SET` where the set is not the whole of what is held out.
    `hellaswag_acc` is `hellaswag/acc`.
    """
    if "hellaswag_acc" in row:
        return {
            f"hellaswag/{key.removeprefix('hellaswag_')}": value
            for key, value in _flat(row)
            if key not in ("tokens", "seconds")
        }
    if "val_loss" in row:
        name = row.get("set", _POOLED)
        end = "" if name == _POOLED else f"/{name}"
        return {
            f"val/{key.removeprefix('val_')}{end}": value
            for key, value in _flat(row)
            if key not in ("tokens", "seconds")
        }
    return {key if "/" in key else f"train/{key}": value for key, value in _flat(row)}


def _flat(row: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, float]]:
    for key, value in row.items():
        if not prefix and key in _OF_EVERY_ROW:
            continue
        if isinstance(value, Mapping):
            shown = key if prefix else _SHOWN_AS.get(key, key)
            yield from _flat(value, f"{prefix}{shown}/")
        elif (number := _number(value)) is not None:
            yield prefix + key, number


def _number(value: Any) -> float | None:
    """A number, also one that JSON can only name; None for anything else."""
    if isinstance(value, int | float) or (isinstance(value, str) and value in _NOT_FINITE):
        return float(value)
    return None


def _finite(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and math.isfinite(number) else None
