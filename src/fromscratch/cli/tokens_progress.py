"""A bar for work counted in tokens: rate and time left, on a terminal, after two seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from fromscratch.cli.show import err

_QUIET_SECONDS = 2.0


@contextmanager
def tokens_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yields what takes (what is under way, tokens done, tokens to do)."""
    if not err.is_terminal:
        yield lambda stage, done, total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=err, transient=True)
    began = time.monotonic()
    tasks: dict[str, tuple[TaskID, float]] = {}

    def report(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage not in tasks:
            for task, _ in tasks.values():
                progress.update(task, visible=False)
            tasks[stage] = (progress.add_task(stage, total=total, rate=""), now)
        task, start = tasks[stage]
        rate = f"{done / max(now - start, 1e-3) / 1e6:.1f}M tokens/s"
        progress.update(task, completed=done, total=total, rate=rate)
        if now - began > _QUIET_SECONDS and not progress.live.is_started:
            progress.start()

    try:
        yield report
    finally:
        if progress.live.is_started:
            progress.stop()
