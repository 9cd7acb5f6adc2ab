"""metrics.jsonl, samples.jsonl and events.jsonl: appended to, forced to disk before a checkpoint.

On resume the rows past the resumed step are dropped from metrics and samples, because the run is
about to write them again; events are history and stay.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from fromscratch.foundation.files import (
    RunPaths,
    dump_json,
    read_json_lines,
    write_atomically,
)
from fromscratch.track.tracker import SampleResult, StepResult, ValidationResult


class JsonlTracker:
    """Writes a run's three JSON-lines files.

    Args:
        paths: The run.
        resumed_step: Rows of later steps are dropped first; None starts the files anew.
        duties_done: Whether validation and samples of the resumed step are done. If not, the run
            is about to do them, and their rows are dropped as well.
    """

    def __init__(
        self, paths: RunPaths, *, resumed_step: int | None, duties_done: bool = True
    ) -> None:
        def keep(row: dict[str, Any], of_duty: bool) -> bool:
            if resumed_step is None:
                return False
            step = row.get("step", 0)
            return bool(
                step < resumed_step or (step == resumed_step and (duties_done or not of_duty))
            )

        _filter_rows(paths.metrics, lambda row: keep(row, of_duty="val_loss" in row))
        _filter_rows(paths.samples, lambda row: keep(row, of_duty=True))
        self._metrics = _open(paths.metrics)
        self._samples = _open(paths.samples)
        self._events = _open(paths.events)

    def step(self, result: StepResult) -> None:
        """Appends a training row."""
        _append(self._metrics, result.row())

    def validation(self, result: ValidationResult) -> None:
        """Appends a validation row."""
        _append(self._metrics, result.row())

    def sample(self, result: SampleResult) -> None:
        """Appends a sample."""
        _append(self._samples, result.row())

    def event(self, name: str, step: int, message: str, details: dict[str, Any]) -> None:
        """Appends an event and forces it to the disk: events explain what happened to a run."""
        _write_event(self._events, name, step, message, details)

    def flush(self) -> None:
        """Forces all rows to the disk."""
        for file in (self._metrics, self._samples):
            os.fsync(file.fileno())

    def close(self) -> None:
        """Closes the files."""
        for file in (self._metrics, self._samples, self._events):
            file.close()


def append_event(
    paths: RunPaths, name: str, step: int, message: str, details: dict[str, Any]
) -> None:
    """Adds one event to a run that is not training."""
    with _open(paths.events) as file:
        _write_event(file, name, step, message, details)


def _write_event(
    file: IO[str], name: str, step: int, message: str, details: dict[str, Any]
) -> None:
    time = datetime.now(UTC).isoformat(timespec="seconds")
    _append(file, {"time": time, "event": name, "step": step, "message": message} | details)
    os.fsync(file.fileno())


def _filter_rows(path: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Rewrites a JSON-lines file with the rows to keep, and without a half-written line."""
    if path.exists():
        kept = [dump_json(row) + "\n" for row in read_json_lines(path) if keep(row)]
        write_atomically(path, "".join(kept))


def _open(path: Path) -> IO[str]:
    if path.exists() and path.stat().st_size:
        with open(path, "rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a kill in the middle of a line
                file.write(b"\n")
    # Line buffering: a row that was logged is in the system's hands, also when we are killed.
    return open(path, "a", encoding="utf-8", buffering=1)


def _append(file: IO[str], row: dict[str, Any]) -> None:
    file.write(dump_json(row) + "\n")
