"""Collected rows as the files of a run folder: metrics, samples and events.

In: what was collected of one run. Out: rows as training writes them (track/tracker.py), so that
whatever reads a run of ours reads this one. A field that the log lacks is absent.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fromscratch.foundation.files import dump_json
from fromscratch.foundation.names import RunPaths
from fromscratch.logs.clock import Clock
from fromscratch.logs.collected import SCORE, TRAINING, Collected, Row, encoded
from fromscratch.logs.items import Event

# The order in which training writes them.
_TRAINING = ("tokens", "loss", "lr", "grad_norm", "tokens_per_s", "mfu", "memory_gb", "seconds")
_VALIDATION = ("tokens", "val_loss", "val_ppl", "val_bpb", "seconds")
_ENDS = ("stopped", "finished")


@dataclass
class Written:
    """What the files hold.

    Attributes:
        steps: Training rows.
        first_step: The first row's; None if there is none.
        last_step: The last row's.
        first_time: When the first row was logged, if known.
        last_time: When the last row was.
        validations: Rows by set.
        scores: Rows with a benchmark's score.
        samples: How many texts.
        events: How many by kind.
        not_finite: Training rows whose loss is nan or inf.
        without_loss: Rows of training that say no loss, which no chart can show; not written.
        estimated_seconds: Whether the training time was worked out rather than logged.
    """

    steps: int = 0
    first_step: int | None = None
    last_step: int | None = None
    first_time: str | None = None
    last_time: str | None = None
    validations: dict[str, int] = field(default_factory=dict)
    scores: int = 0
    samples: int = 0
    events: dict[str, int] = field(default_factory=dict)
    not_finite: int = 0
    without_loss: int = 0
    estimated_seconds: bool = False


def write_run(
    paths: RunPaths, collected: Collected, part: int, clock: Clock, *, planned_steps: int | None
) -> Written:
    """Writes the files of one run and forces them to the disk.

    Args:
        paths: A folder that is there.
        collected: What was read.
        part: Which of its runs.
        clock: A new one.
        planned_steps: How many steps the run was meant to take, if known.
    """
    written = Written()
    write_lines(paths.metrics, _metrics(collected, part, clock, written), encoded)
    written.estimated_seconds = clock.estimated
    write_lines(paths.samples, _samples(collected, part, written))
    write_lines(paths.events, _events(collected, part, planned_steps, written))
    return written


def write_lines(
    path: Path, rows: Iterable[dict[str, Any]], encode: Callable[[dict[str, Any]], str] = dump_json
) -> None:
    """Writes JSON lines one by one and forces them to the disk."""
    with open(path, "w", encoding="utf-8", errors="replace", newline="\n") as file:
        for row in rows:
            file.write(encode(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _metrics(
    collected: Collected, part: int, clock: Clock, written: Written
) -> Iterator[dict[str, Any]]:
    for row in collected.rows(part):
        known = clock.tell(row)
        if row.kind == TRAINING and "loss" not in row.values:
            written.without_loss += 1
            continue
        _count(row, written)
        yield _line(row, known)


def _count(row: Row, written: Written) -> None:
    written.last_step = row.step
    if written.first_step is None:
        written.first_step, written.first_time = row.step, row.time
    written.last_time = row.time or written.last_time
    if row.kind == TRAINING:
        written.steps += 1
        written.not_finite += isinstance(row.values["loss"], str)  # as dump_json writes it
    elif row.kind == SCORE:
        written.scores += 1
    else:
        written.validations[row.set] = written.validations.get(row.set, 0) + 1


def _line(row: Row, known: dict[str, Any]) -> dict[str, Any]:
    values = {k: v for k, v in (row.values | known).items() if k != "session_seconds"}
    line: dict[str, Any] = {"step": row.step}
    if row.time is not None:
        line["time"] = row.time
    first: tuple[str, ...] = _TRAINING
    if row.kind == SCORE:
        first = ("tokens", "seconds")
    elif row.kind != TRAINING:
        line["set"] = row.set
        first = _VALIDATION
    line |= {key: values[key] for key in first if key in values}
    return line | {key: value for key, value in values.items() if key not in line}


def _samples(collected: Collected, part: int, written: Written) -> Iterator[dict[str, Any]]:
    for block in collected.samples(part):
        for text in block.texts:
            written.samples += 1
            line: dict[str, Any] = {"step": block.step, "prompt": text.prompt, "text": text.text}
            time = text.time or block.time
            yield line if time is None else line | {"time": time}


def _events(
    collected: Collected, part: int, planned_steps: int | None, written: Written
) -> Iterator[dict[str, Any]]:
    last: Event | None = None
    for event in collected.events(part):
        line = _event(event)
        if event.kind == "started" and planned_steps is not None:
            line["resolved"] = {"steps": planned_steps}
        written.events[event.kind] = written.events.get(event.kind, 0) + 1
        last = event
        yield line
    if last is not None and last.kind not in _ENDS and written.last_step is not None:
        # Whether it went on, nobody can say; that it runs on now would be wrong.
        end = Event("stopped", written.last_step, "the log ends here", written.last_time)
        yield _event(end)


def _event(event: Event) -> dict[str, Any]:
    line: dict[str, Any] = {"time": event.time or "", "event": event.kind}
    if event.step is not None:
        line["step"] = event.step
    return line | {"message": event.message} | dict(event.details)
