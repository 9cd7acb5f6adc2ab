"""A schedule as one line of text: time runs to the right, the height is the share of the peak."""

from __future__ import annotations

from collections.abc import Sequence

_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII = " .:-=+*#@"


def blocks(values: Sequence[float], *, ascii_only: bool) -> str:
    """A character for each value; only 0 is blank, and only the largest is full.

    Args:
        values: Not negative.
        ascii_only: For an output that has no block characters.
    """
    marks = _ASCII if ascii_only else _BLOCKS
    peak = max(values, default=0.0)
    highest = len(marks) - 1
    return "".join(
        marks[0 if value <= 0 else max(1, int(highest * value / peak))] for value in values
    )
