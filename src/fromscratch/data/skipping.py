"""Which windows of a run are left out, as ranges of sample numbers.

A run that is rolled back leaves out the windows that led to its trouble. What comes at a position
is then a function of the position and these ranges, and of nothing else: they travel in the
checkpoint, and the order of all other windows stays as it was.

What always holds: ranges are [begin, end), sorted, and do not touch one another.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ranges = Sequence[Sequence[int]]
"""Pairs of the first sample number and the one after the last; lists, as JSON gives them."""


def with_range(ranges: Ranges, begin: int, end: int) -> list[list[int]]:
    """The ranges and one more, which may overlap them."""
    assert begin < end, "an empty range leaves nothing out"
    joined: list[list[int]] = []
    for first, last in sorted([*map(tuple, ranges), (begin, end)]):
        if joined and first <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], last)
        else:
            joined.append([first, last])
    return joined


def kept_numbers(first: int, n: int, ranges: Ranges) -> npt.NDArray[np.int64]:
    """The first `n` sample numbers from `first` on that are in none of the ranges, ascending."""
    parts: list[npt.NDArray[np.int64]] = []
    wanted = n
    for begin, end in ranges:
        if end <= first:
            continue
        before = min(wanted, max(0, begin - first))
        parts.append(np.arange(first, first + before, dtype=np.int64))
        wanted -= before
        if not wanted:
            break
        first = end
    parts.append(np.arange(first, first + wanted, dtype=np.int64))
    return np.concatenate(parts)


def before(ranges: Ranges, position: int) -> list[tuple[int, int]]:
    """The ranges up to a position."""
    return [(begin, min(end, position)) for begin, end in ranges if begin < position]
