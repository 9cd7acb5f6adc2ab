"""A bar for the work under way: how far, how fast, how long; on a terminal, after two seconds.

In a pipe, in CI, in a notebook and on a dumb terminal there is none. All bars of the command line
are this one; what differs is what is counted, and the words for its rate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from fromscratch.cli.show import err, size

_QUIET_SECONDS = 2.0


class Bar:
    """The bar of one stage of the work; another stage takes the place of the one before.

    Args:
        counts: Whether the numbers themselves are shown: how many of how many.
    """

    def __init__(self, *, counts: bool = False) -> None:
        self._counts = counts
        self._bar: Progress | None = None
        self._began = time.monotonic()
        self._key = ""

    def show(
        self, key: str, done: float, total: float | None, *, words: str | None = None, rate: str
    ) -> None:
        """Draws how far the work is.

        Args:
            key: Which stage it is.
            done: Of `total`.
            total: In any unit; None or 0 where it is not known.
            words: What is written before the bar; the key where nothing else is said.
            rate: How fast, in words.
        """
        if not err.is_terminal or err.is_dumb_terminal:
            return
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=20),
                *([MofNCompleteColumn()] if self._counts else []),
                TextColumn("{task.fields[rate]}", markup=False),
                TimeRemainingColumn(),
                console=err,
                transient=True,
            )
        if key != self._key or not self._bar.task_ids:
            for task in self._bar.task_ids:
                self._bar.remove_task(task)
            self._key = key
            # What was done before is not counted into the time that is left; a share is no int.
            self._bar.add_task("", total=total or None, completed=done, rate="")  # type: ignore[arg-type]
        (task,) = self._bar.task_ids
        said = key if words is None else words
        self._bar.update(task, description=said, completed=done, total=total or None, rate=rate)
        if time.monotonic() - self._began > _QUIET_SECONDS and not self._bar.live.is_started:
            self._bar.start()

    def stop(self) -> None:
        """Takes the bar away."""
        if self._bar is not None and self._bar.live.is_started:
            self._bar.stop()


@contextmanager
def stopped_with_a_line(bar: Bar, again: str) -> Iterator[None]:
    """Ctrl-C ends the work with one line, and exit code 130.

    Args:
        bar: Is taken away at the end, whatever that is.
        again: What comes of giving the command once more.
    """
    try:
        yield
    except KeyboardInterrupt:
        bar.stop()
        err.print(f"Interrupted; {again}.", markup=False)
        raise typer.Exit(130) from None
    finally:
        bar.stop()


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
    bar = Bar(counts=counts)
    began: dict[str, float] = {}

    def report(stage: str, done: int, total: int, counted: int | None = None) -> None:
        now = time.monotonic()
        seconds = now - began.setdefault(stage, now)
        rate = (done if counted is None else counted) / max(seconds, 1e-3)
        bar.show(stage, done, total, rate=in_words(rate))

    try:
        yield report
    finally:
        bar.stop()
