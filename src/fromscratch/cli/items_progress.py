"""A bar for work counted in items: rate and time left, on a terminal, after two seconds.

In a pipe there is no bar; remarks are said there, too. Ctrl-C ends the work with one line, and exit
code 130.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fromscratch.cli.show import err

_QUIET_SECONDS = 2.0
_REMARK_EVERY = 5.0


class ItemsProgress:
    """What is told how the work advances."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._began = time.monotonic()
        self._remarked = -_REMARK_EVERY
        self._stage = ""

    def show(self, stage: str, done: int, total: int, before: int = 0) -> None:
        """Draws how far the work is.

        Args:
            stage: What is under way.
            done: Items that are done, with those before.
            total: Items in all.
            before: Items that were done when it began: not counted into the rate.
        """
        if not err.is_terminal:
            return
        if stage != self._stage or self._bar is None:
            self.stop()
            self._stage, self._began = stage, time.monotonic()
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=err,
                transient=True,
            )
            self._bar.add_task(stage, total=total, completed=before, rate="")
        seconds = time.monotonic() - self._began
        rate = (done - before) / max(seconds, 1e-3)
        shown = f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"
        self._bar.update(self._bar.task_ids[0], completed=done, rate=shown if rate else "")
        if seconds > _QUIET_SECONDS:
            self._bar.start()

    def remark(self, sentence: str) -> None:
        """Says something in passing; not more than one thing in five seconds."""
        now = time.monotonic()
        if now - self._remarked >= _REMARK_EVERY:
            self._remarked = now
            err.print(sentence, markup=False)

    def stop(self) -> None:
        """Takes the bar away."""
        if self._bar is not None and self._bar.live.is_started:
            self._bar.stop()
        self._bar = None


@contextmanager
def items_progress(again: str) -> Iterator[ItemsProgress]:
    """Yields what is told how the work advances.

    Args:
        again: What comes of giving the command once more after Ctrl-C.
    """
    progress = ItemsProgress()
    try:
        yield progress
    except KeyboardInterrupt:
        progress.stop()
        err.print(f"Interrupted; {again}.", markup=False)
        raise typer.Exit(130) from None
    finally:
        progress.stop()
