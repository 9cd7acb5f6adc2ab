"""A bar for work counted in bytes: rate and time left, on a terminal, after two seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from fromscratch.cli.show import err

_QUIET_SECONDS = 2.0


@contextmanager
def bytes_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yields what takes (bytes done, bytes to do)."""
    if not err.is_terminal:
        yield lambda done, total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=err, transient=True)
    task = progress.add_task(what, total=None)
    began = time.monotonic()

    def report(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total)
        if time.monotonic() - began > _QUIET_SECONDS and not progress.live.is_started:
            progress.start()

    try:
        yield report
    finally:
        if progress.live.is_started:
            progress.stop()
