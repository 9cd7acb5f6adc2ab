"""A set of 64-bit numbers that may be larger than memory.

In: arrays of evenly spread numbers other than 0. Out: which of them are in the set. Always: memory
is bounded: by the table of recent numbers (16 MiB, and up to 64 where the file has gigabytes), one
part of the table on disk (16 MiB), and the arrays handed in.

Two hash tables with linear probing. New numbers go into one in memory; when it is full they move,
in order, into one in a nameless temporary file, which doubles when it is 60% full. The leading bits
of a number choose its slot, so a part of the file is a range of numbers: each part is mapped into
memory once for all the numbers that are looked for in it, and no longer. (Numbers written to the
file one batch at a time cost a page fault each: a third of the speed.) What a kill leaves behind is
nothing: the set is an index, and whoever keeps one can build it anew.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from fromscratch.data.splitmix import U64

Flags = npt.NDArray[np.bool_]
Slots = npt.NDArray[np.int64]

_PART_BITS = 21
# The memory's table is a sixteenth of the file's, between these: each time it is full, nearly every
# page of the file is written, so that for ten million documents with band keys a table of 16 MiB
# wrote 100 GB.
_RECENT_BITS = (21, 23)
_RECENT_SHARE = 4
_MOST_FILLED = 0.6
_PIECE = 1 << 17


class KeySet:
    """A set of 64-bit numbers on disk.

    Args:
        folder: Where the temporary file goes; it takes 13 to 27 bytes for each number.
        expected: How many numbers it will be given, if known: saves the doublings.
    """

    def __init__(self, folder: Path, *, expected: int = 0) -> None:
        self._folder = folder
        self._expected = expected
        self._recent_bits = _RECENT_BITS[0]
        self._recent = np.zeros(1 << self._recent_bits, dtype=np.uint64)
        self._file: BinaryIO | None = None
        self._bits = 0  # the file has 2^bits slots
        # What was put in each; a number put in again counts again, which costs only space.
        self._n_recent = self._n_filed = 0

    def contains(self, keys: U64) -> Flags:
        """Which of `keys` (n,) are in the set, (n,); 0 never is."""
        order = np.argsort(keys)
        ordered = keys[order]
        found = _find(self._recent, self._recent_slots(ordered), ordered)

        def look(table: U64, slots: Slots, part: slice) -> None:
            found[part] |= _find(table, slots, ordered[part])

        self._visit(ordered, look)
        found &= ordered != 0
        answer = np.empty_like(found)
        answer[order] = found
        return answer

    def add(self, keys: U64) -> None:
        """Puts `keys` (n,) into the set; 0 and what is in it already change nothing."""
        keys = keys[keys != 0]
        for start in range(0, len(keys), _PIECE):
            piece = keys[start : start + _PIECE]
            if self._n_recent + len(piece) > _MOST_FILLED * len(self._recent):
                self._file_recent()
            _insert(self._recent, self._recent_slots(piece), piece)
            self._n_recent += len(piece)

    def close(self) -> None:
        """Gives the disk space back."""
        if self._file is not None:
            self._file.close()

    def _recent_slots(self, keys: U64) -> Slots:
        return (keys >> np.uint64(64 - self._recent_bits)).astype(np.int64)

    def _visit(self, ordered: U64, act: Callable[[U64, Slots, slice], None]) -> None:
        """Calls `act` with each part of the file's table that ascending numbers fall into.

        `act` is given the part, the slots in it to which the numbers have first claim, and where
        they are in `ordered`. It must not keep the part.
        """
        if self._file is None or not len(ordered):
            return
        slots = (ordered >> np.uint64(64 - self._bits)).astype(np.int64)
        parts = slots >> _PART_BITS
        slots &= (1 << _PART_BITS) - 1
        edges = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(ordered)]
        size = 8 << _PART_BITS
        for start, stop in pairwise(edges):
            with mmap.mmap(self._file.fileno(), size, offset=int(parts[start]) * size) as mapped:
                table = np.frombuffer(mapped, dtype=np.uint64)
                act(table, slots[start:stop], slice(start, stop))
                del table  # a mapping that an array looks at cannot be closed

    def _file_recent(self) -> None:
        """Moves the recent numbers into the file."""
        total = self._n_filed + self._n_recent
        if self._file is None:
            self._bits = _bits_for(max(total, self._expected))
            self._file = _zeros(self._folder, 8 << self._bits)
        elif _bits_for(total) > self._bits:
            self._widen(_bits_for(total))
        self._recent.sort()
        self._insert_ordered(self._recent[np.searchsorted(self._recent, 1) :])
        low, high = _RECENT_BITS
        self._recent_bits = min(max(low, self._bits - _RECENT_SHARE), high)
        if len(self._recent) == 1 << self._recent_bits:
            self._recent[:] = 0
        else:
            self._recent = np.zeros(1 << self._recent_bits, dtype=np.uint64)
        self._n_filed, self._n_recent = total, 0

    def _widen(self, bits: int) -> None:
        assert self._file is not None
        old, size = self._file, 8 << self._bits
        self._file, self._bits = _zeros(self._folder, 8 << bits), bits
        with old:
            old.seek(0)
            for _ in range(0, size, 8 * _PIECE):
                keys = np.frombuffer(old.read(8 * _PIECE), dtype=np.uint64)
                self._insert_ordered(np.sort(keys[keys != 0]))

    def _insert_ordered(self, ordered: U64) -> None:
        for start in range(0, len(ordered), _PIECE):
            piece = ordered[start : start + _PIECE]

            def insert(table: U64, slots: Slots, part: slice, piece: U64 = piece) -> None:
                _insert(table, slots, piece[part])

            self._visit(piece, insert)


def _bits_for(numbers: int) -> int:
    """The size of a file's table, as a power of two: at least one part."""
    return max(_PART_BITS, math.ceil(math.log2(max(numbers, 1) / _MOST_FILLED)))


def _find(table: U64, slots: Slots, keys: U64) -> Flags:
    """Which of `keys` are in the table, looking from `slots` on until an empty one."""
    there = table[slots]
    found: Flags = there == keys
    left = np.flatnonzero(~found & (there != 0))
    last = len(table) - 1
    step = 0
    while len(left):
        step += 1
        there = table[(slots[left] + step) & last]
        same = there == keys[left]
        found[left] = same
        left = left[~same & (there != 0)]
    return found


def _insert(table: U64, slots: Slots, keys: U64) -> None:
    """Puts `keys` into the table."""
    last = len(table) - 1
    while len(keys):
        empty = table[slots] == 0
        table[slots[empty]] = keys[empty]  # of several that claim one slot, one gets it
        left = table[slots] != keys
        slots, keys = (slots[left] + 1) & last, keys[left]


def _zeros(folder: Path, size: int) -> BinaryIO:
    """A nameless file of `size` zero bytes whose space is really there.

    A mapped file with holes would end the process without a word when the disk is full.
    """
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed by the set)
    try:
        if not _allocate(file.fileno(), size):
            for start in range(0, size, 8 * _PIECE):
                file.write(bytes(min(8 * _PIECE, size - start)))
            file.flush()
    except OSError:
        file.close()
        raise
    return cast(BinaryIO, file)


def _allocate(descriptor: int, size: int) -> bool:
    """Whether the system could give the file its space at one stroke."""
    if not hasattr(os, "posix_fallocate"):
        return False
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that cannot
            return False
        raise
    return True
