"""How an evaluation is shown while it goes on: a bar with rate and time left, after two seconds.

In a pipe there is none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fromscratch.cli.show import err

_QUIET_SECONDS = 2.0


@contextmanager
def eval_progress(name: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """Yields what takes (how much of `total` has been read, tokens computed).

    Args:
        name: What is evaluated.
        total: In the unit of what is read.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=err,
        transient=True,
    )
    task = bar.add_task(name.replace("[", "\\["), total=total or None, rate="")
    began = time.monotonic()
    shown = err.is_terminal

    def watch(passed: int, n_tokens: int) -> None:
        now = time.monotonic()
        rate = n_tokens / max(now - began, 1e-3)
        bar.update(task, completed=passed, rate=f"{rate:,.0f} tokens/s")
        if now - began > _QUIET_SECONDS and not bar.live.is_started:
            bar.start()

    try:
        yield watch if shown else lambda passed, n_tokens: None
    finally:
        if bar.live.is_started:
            bar.stop()
