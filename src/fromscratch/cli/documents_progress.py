"""How work on text is shown: a bar with rate and time left on a terminal, sentences everywhere.

In a pipe there is no bar. Ctrl-C ends the work with one line, and exit code 130.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from fromscratch.cli.progress import Bar, stopped_with_a_line
from fromscratch.cli.show import err, print_warning, size
from fromscratch.data.watching import Advance, Remark, Watch

_WORDS = {
    "tokenizer": "reading text for the tokenizer",
    "tokens": "turning text into tokens",
    "verifying": "checking parts",
    "joining": "joining parts",
    "reference": "asking the model before training",
}


@contextmanager
def documents_progress(
    again: str = "the same command goes on where it stopped",
) -> Iterator[Watch]:
    """Yields what is told how the work advances.

    Args:
        again: What comes of giving the command once more after Ctrl-C.
    """
    bar = Bar()
    first: dict[str, tuple[float, int]] = {}

    def show(advance: Advance) -> None:
        # What is downloaded is done with when there is other work; another file is another bar.
        key, now = advance.stage + advance.file, time.monotonic()
        since, before = first.setdefault(key, (now, advance.bytes))
        rate = (advance.bytes - before) / max(now - since, 1e-3)
        bar.show(
            key,
            advance.share or 0.0,
            None if advance.share is None else 1.0,
            words=_in_words(advance),
            rate=f"{size(rate)}/s" if rate else "",
        )

    def watch(event: Advance | Remark) -> None:
        if isinstance(event, Advance):
            show(event)
        elif event.is_warning:
            print_warning(event.sentence)
        else:
            err.print(event.sentence, markup=False)

    with stopped_with_a_line(bar, again):
        yield watch


def _in_words(advance: Advance) -> str:
    if advance.stage == "downloading":
        return f"downloading {advance.file}: {size(advance.bytes)}"
    counted = "pairs" if advance.stage == "reference" else "documents"
    return f"{_WORDS[advance.stage]}: {advance.documents:,} {counted}"
