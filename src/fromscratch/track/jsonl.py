"""metrics, samples, health and events.jsonl: appended to, forced to disk before a checkpoint.

On resume, and when a run goes back to a checkpoint, the rows past its step are dropped from all but
the events, because the run is about to write them again; events are history and stay. While the
disk is full, rows wait in memory and are written as soon as there is room; `flush` fails as long as
some wait, so that no checkpoint is committed without them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fromscratch.foundation.files import dump_json, fsync_folder, read_json_lines, write_atomically
from fromscratch.foundation.names import RunPaths
from fromscratch.track.tracker import (
    HealthResult,
    HellaSwagResult,
    SampleResult,
    StepResult,
    ValidationResult,
    is_of_a_duty,
)


class JsonlTracker:
    """Writes a run's JSON-lines files.

    Args:
        paths: The run.
        resumed_step: Rows of later steps are dropped first; None starts the files anew.
        duties_done: Whether what follows the update of the resumed step is done. If not, the run
            is about to do them, and their rows are dropped as well.
    """

    def __init__(
        self, paths: RunPaths, *, resumed_step: int | None, duties_done: bool = True
    ) -> None:
        self._paths = paths
        self._keep_rows(resumed_step, duties_done)
        self._events = _Lines(paths.events)
        self._open()

    def _open(self) -> None:
        self._metrics = _Lines(self._paths.metrics)
        self._samples = _Lines(self._paths.samples)
        # Made with its first row: not every run looks at its health.
        self._health = _Lines(self._paths.health) if self._paths.health.exists() else None
        fsync_folder(self._paths.root)

    def _keep_rows(self, until: int | None, duties_done: bool) -> None:
        def keep(row: dict[str, Any], of_duty: bool) -> bool:
            if until is None:
                return False
            step = row.get("step", 0)
            return bool(step < until or (step == until and (duties_done or not of_duty)))

        _filter_rows(self._paths.metrics, lambda row: keep(row, of_duty=is_of_a_duty(row)))
        _filter_rows(self._paths.samples, lambda row: keep(row, of_duty=True))
        _filter_rows(self._paths.health, lambda row: keep(row, of_duty=False))

    def rewind(self, step: int, *, duties_done: bool) -> None:
        """Drops rows as a resume from this step does."""
        for lines in (self._metrics, self._samples, self._health):
            if lines is not None:
                lines.close()
        self._keep_rows(step, duties_done)
        self._open()

    def step(self, result: StepResult) -> None:
        """Appends a training row."""
        self._metrics.append(result.row())

    def validation(self, result: ValidationResult) -> None:
        """Appends a validation row."""
        self._metrics.append(result.row())

    def hellaswag(self, result: HellaSwagResult) -> None:
        """Appends a row of HellaSwag's answers."""
        self._metrics.append(result.row())

    def sample(self, result: SampleResult) -> None:
        """Appends a sample."""
        self._samples.append(result.row())

    def health(self, result: HealthResult) -> None:
        """Appends a row of what each layer did."""
        if self._health is None:
            self._health = _Lines(self._paths.health)
            fsync_folder(self._paths.root)
        self._health.append(result.row())

    def event(self, name: str, step: int, message: str, details: dict[str, Any]) -> None:
        """Appends an event and forces it to the disk: events explain what happened to a run."""
        self._events.append(_event_row(name, step, message, details))
        with suppress(OSError):  # it waits for room
            self._events.flush()

    def flush(self) -> None:
        """Forces all rows to the disk.

        Raises:
            OSError: The disk is full or failing; the rows are still here.
        """
        for lines in (self._metrics, self._samples, self._health):
            if lines is not None:
                lines.flush()

    def close(self) -> None:
        """Closes the files."""
        for lines in (self._metrics, self._samples, self._health, self._events):
            if lines is not None:
                lines.close()


def append_event(
    paths: RunPaths, name: str, step: int, message: str, details: dict[str, Any]
) -> None:
    """Adds one event to a run that is not training."""
    lines = _Lines(paths.events)
    try:
        lines.append(_event_row(name, step, message, details))
        lines.flush()
    finally:
        lines.close()


def _event_row(name: str, step: int, message: str, details: dict[str, Any]) -> dict[str, Any]:
    time = datetime.now(UTC).isoformat(timespec="seconds")
    return {"time": time, "event": name, "step": step, "message": message} | details


def _filter_rows(path: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Rewrites a JSON-lines file with the rows to keep, and without a half-written line."""
    if path.exists():
        kept = [dump_json(row) + "\n" for row in read_json_lines(path) if keep(row)]
        write_atomically(path, "".join(kept))


class _Lines:
    """A file that grows by whole rows; what the disk has no room for waits in memory."""

    def __init__(self, path: Path) -> None:
        if path.exists() and path.stat().st_size:
            with open(path, "rb+") as file:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a kill in the middle of a line
                    file.write(b"\n")
        # Unbuffered: a row that was logged is in the system's hands, also when we are killed.
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        self._waiting = b""

    def append(self, row: dict[str, Any]) -> None:
        """Adds a row, now or as soon as there is room."""
        self._waiting += dump_json(row).encode("utf-8", "replace") + b"\n"
        with suppress(OSError):
            self._write()

    def flush(self) -> None:
        """Forces everything to the disk; raises OSError while that cannot be done."""
        self._write()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self) -> None:
        while self._waiting:
            written = self._file.write(self._waiting)
            self._waiting = self._waiting[written or 0 :]
