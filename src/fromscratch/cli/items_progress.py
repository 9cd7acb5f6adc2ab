"""A bar for work counted in items that may have been begun before, and remarks in passing.

In a pipe there is no bar; remarks are said there, too. Ctrl-C ends the work with one line, and exit
code 130.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from fromscratch.cli.progress import Bar, stopped_with_a_line
from fromscratch.cli.show import err

_REMARK_EVERY = 5.0


class ItemsProgress:
    """What is told how the work advances.

    Args:
        bar: Shows it.
    """

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
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
        if stage != self._stage:
            self._stage, self._began = stage, time.monotonic()
        rate = (done - before) / max(time.monotonic() - self._began, 1e-3)
        shown = f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"
        self._bar.show(stage, done, total, rate=shown if rate else "")

    def remark(self, sentence: str) -> None:
        """Says something in passing; not more than one thing in five seconds."""
        now = time.monotonic()
        if now - self._remarked >= _REMARK_EVERY:
            self._remarked = now
            err.print(sentence, markup=False)


@contextmanager
def items_progress(again: str) -> Iterator[ItemsProgress]:
    """Yields what is told how the work advances.

    Args:
        again: What comes of giving the command once more after Ctrl-C.
    """
    bar = Bar(counts=True)
    with stopped_with_a_line(bar, again):
        yield ItemsProgress(bar)
