"""A bar for the work under way: how far, how fast, how long; on a terminal, after two seconds.

In a pipe there is none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from fromscratch.cli.show import err, size

_QUIET_SECONDS = 2.0


class Report(Protocol):
    """What is told how the work advances."""

    def __call__(self, stage: str, done: int, total: int, counted: int | None = None) -> None:
        """Draws how far the work is.

        Args:
            stage: What is under way; another one takes the place of the one before.
            done: Of `total`.
            total: In any unit; 0 if it is not known.
            counted: What the rate is of, where that is not `done`.
        """


def tokens_a_second(rate: float) -> str:
    """A rate of tokens in words."""
    return f"{rate / 1e6:.1f}M tokens/s" if rate >= 1e5 else f"{rate:,.0f} tokens/s"


def bytes_a_second(rate: float) -> str:
    """A rate of bytes in words."""
    return f"{size(rate)}/s"


def items_a_second(rate: float) -> str:
    """A rate of whatever is counted, in words."""
    return f"{rate:,.1f}/s"


@contextmanager
def progress(in_words: Callable[[float], str], *, counts: bool = False) -> Iterator[Report]:
    """Yields what is told how the work advances.

    Args:
        in_words: Makes words of a rate, which is a number a second.
        counts: Whether the numbers themselves are shown: how many of how many.
    """
    if not err.is_terminal:
        yield lambda stage, done, total, counted=None: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        *([MofNCompleteColumn()] if counts else []),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=err, transient=True)
    began = time.monotonic()
    stages: dict[str, tuple[TaskID, float]] = {}

    def report(stage: str, done: int, total: int, counted: int | None = None) -> None:
        now = time.monotonic()
        if stage not in stages:
            for task, _ in stages.values():
                bar.update(task, visible=False)
            stages[stage] = (bar.add_task(stage, total=total or None, rate=""), now)
        task, start = stages[stage]
        rate = (done if counted is None else counted) / max(now - start, 1e-3)
        bar.update(task, completed=done, total=total or None, rate=in_words(rate))
        if now - began > _QUIET_SECONDS and not bar.live.is_started:
            bar.start()

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()
