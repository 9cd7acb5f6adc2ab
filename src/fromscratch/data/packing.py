"""Whole examples into rows of bounded length, so that little of them is empty.

In: lengths. Out: which examples share a row. Best fit decreasing (Johnson 1973): the longest
example first, each into the fullest row that still has room. Never more than 11/9 of the fewest
rows possible, and of examples much shorter than a row hardly more than the fewest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Packed:
    """Which examples are in which row.

    Attributes:
        order: (n,) the examples, row after row; in a row in the order of their numbers.
        starts: (rows + 1,) where in `order` each row begins, and the end.
    """

    order: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def row(self, number: int) -> npt.NDArray[np.int64]:
        """The examples in a row."""
        return self.order[self.starts[number] : self.starts[number + 1]]


def one_each(n: int) -> Packed:
    """Rows of one example."""
    return Packed(np.arange(n, dtype=np.int64), np.arange(n + 1, dtype=np.int64))


def pack(lengths: npt.NDArray[np.int64], capacity: int) -> Packed:
    """Packs examples; a function of its arguments alone.

    Args:
        lengths: (n,) of each, from 1 to `capacity`.
        capacity: Of a row.
    """
    assert not len(lengths) or 0 < lengths.min() <= lengths.max() <= capacity
    row_of = np.empty(len(lengths), dtype=np.int64)
    with_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms = 0  # bit r is set where some row has room for exactly r more
    rows = 0
    for example in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[example])
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = with_room[room].pop()
            if not with_room[room]:
                rooms ^= 1 << room
        else:
            room, row, rows = capacity, rows, rows + 1
        row_of[example] = row
        left = room - length
        if not with_room[left]:
            rooms |= 1 << left
        with_room[left].append(row)
    counts = np.bincount(row_of, minlength=rows)
    return Packed(
        np.argsort(row_of, kind="stable").astype(np.int64),
        np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
    )
