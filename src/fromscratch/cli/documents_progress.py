"""How work on text is shown: a bar with rate and time left on a terminal, sentences everywhere.

In a pipe there is no bar. Ctrl-C ends the work with one line, and exit code 130.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from fromscratch.cli.show import err, print_warning, size
from fromscratch.data.watching import Advance, Remark, Watch

_WORDS = {
    "tokenizer": "reading text for the tokenizer",
    "tokens": "turning text into tokens",
    "joining": "joining parts",
    "reference": "asking the model before training",
}
_QUIET_SECONDS = 2.0


@contextmanager
def documents_progress(
    again: str = "the same command goes on where it stopped",
) -> Iterator[Watch]:
    """Yields what is told how the work advances.

    Args:
        again: What comes of giving the command once more after Ctrl-C.
    """
    bars = _Bars() if err.is_terminal else None

    def watch(event: Advance | Remark) -> None:
        if isinstance(event, Advance):
            if bars is not None:
                bars.show(event)
        elif event.is_warning:
            print_warning(event.sentence)
        else:
            err.print(event.sentence, markup=False)

    try:
        yield watch
    except KeyboardInterrupt:
        if bars is not None:
            bars.stop()
        err.print(f"Interrupted; {again}.")
        raise typer.Exit(130) from None
    finally:
        if bars is not None:
            bars.stop()


class _Bars:
    """A bar for the stage of the work, and below it one for a download; after two seconds."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=err,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._first: dict[str, tuple[float, int]] = {}
        self._began = time.monotonic()

    def show(self, advance: Advance) -> None:
        """Draws how far the work is."""
        now = time.monotonic()
        # What is downloaded is done with when there is other work; another file is another bar.
        key = advance.stage + advance.file
        total = None if advance.share is None else 1.0
        if key not in self._tasks:
            for task in self._tasks.values():
                self._progress.remove_task(task)
            self._tasks = {key: self._progress.add_task("", total=total, rate="")}
            # What was done before is not counted into the rate.
            self._progress.update(self._tasks[key], completed=advance.share or 0.0)
            self._first[key] = self._first.get(key, (now, advance.bytes))
        since, before = self._first[key]
        rate = (advance.bytes - before) / max(now - since, 1e-3)
        self._progress.update(
            self._tasks[key],
            description=_in_words(advance),
            total=total,
            completed=advance.share or 0.0,
            rate=f"{size(rate)}/s" if rate else "",
        )
        if now - self._began > _QUIET_SECONDS:
            self._progress.start()

    def stop(self) -> None:
        """Takes the bars away."""
        if self._progress.live.is_started:
            self._progress.stop()


def _in_words(advance: Advance) -> str:
    if advance.stage == "downloading":
        name = advance.file.replace("[", "\\[")
        return f"downloading {name}: {size(advance.bytes)}"
    counted = "pairs" if advance.stage == "reference" else "documents"
    return f"{_WORDS[advance.stage]}: {advance.documents:,} {counted}"
