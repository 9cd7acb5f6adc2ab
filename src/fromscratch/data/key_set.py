"""A set of 64-bit numbers that may be larger than memory.

In: arrays of evenly spread numbers other than 0. Out: which of them are in the set. Always: memory
is bounded, by one part of the table (16 MiB) and the arrays handed in.

A hash table with linear probing in a nameless temporary file, filled to 60% at most and doubled
when full. The leading bits of a number choose its slot, so the parts of the table are ranges of
numbers: an array of them is sorted once and visits each part once, which is mapped into memory for
that long and no longer. What a kill leaves behind is nothing: the set is an index, and whoever
keeps one can build it anew.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]

_FIRST_BITS = 16
_PART_BITS = 21
_MOST_FILLED = 0.6
_ZEROS = 1 << 20


class KeySet:
    """A set of 64-bit numbers on disk.

    Args:
        folder: Where the temporary file goes; it takes 13 to 27 bytes for each number.
        expected: How many numbers it will be given, if known: saves the doublings.
    """

    def __init__(self, folder: Path, *, expected: int = 0) -> None:
        self._folder = folder
        self._count = 0
        self._bits = _FIRST_BITS
        while expected > _MOST_FILLED * 2**self._bits:
            self._bits += 1
        self._file = _zeros(folder, 8 << self._bits)

    def __len__(self) -> int:
        return self._count

    def contains(self, keys: U64) -> Flags:
        """Which of `keys` (n,) are in the set, (n,); 0 never is."""
        found = np.zeros(len(keys), dtype=np.bool_)
        order = np.argsort(keys)
        order = order[keys[order] != 0]
        self._visit(
            keys[order],
            lambda table, slots, wanted, part: _put(
                found, order[part], _find(table, slots, wanted)
            ),
        )
        return found

    def add(self, keys: U64) -> None:
        """Puts `keys` (n,) into the set; those that are in it, and 0, change nothing."""
        unique = np.unique(keys)
        unique = unique[unique != 0]
        while self._count + len(unique) > _MOST_FILLED * 2**self._bits:
            self._double()
        self._insert(unique)

    def close(self) -> None:
        """Gives the disk space back."""
        self._file.close()

    def _insert(self, unique: U64) -> None:
        def insert(table: U64, slots: npt.NDArray[np.int64], wanted: U64, part: slice) -> None:
            self._count += _insert(table, slots, wanted)

        self._visit(unique, insert)

    def _visit(
        self,
        ordered: U64,
        act: Callable[[U64, npt.NDArray[np.int64], U64, slice], None],
    ) -> None:
        """Calls `act` with each part of the table that the ascending numbers `ordered` fall into.

        `act` is given the part, the slot in it that each number has first claim to, the numbers,
        and where they are in `ordered`. It must not keep the part.
        """
        if not len(ordered):
            return
        part_bits = min(self._bits, _PART_BITS)
        slots = (ordered >> np.uint64(64 - self._bits)).astype(np.int64)
        parts = slots >> part_bits
        slots &= (1 << part_bits) - 1
        edges = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(ordered)]
        size = 8 << part_bits
        for start, stop in pairwise(edges):
            with mmap.mmap(self._file.fileno(), size, offset=int(parts[start]) * size) as mapped:
                table = np.frombuffer(mapped, dtype=np.uint64)
                act(table, slots[start:stop], ordered[start:stop], slice(start, stop))
                del table  # a mapping that an array looks at cannot be closed

    def _double(self) -> None:
        old, old_bits = self._file, self._bits
        self._bits += 1
        self._count = 0
        self._file = _zeros(self._folder, 8 << self._bits)
        old.seek(0)
        with old:
            for _ in range(0, 8 << old_bits, _ZEROS):
                keys = np.frombuffer(old.read(_ZEROS), dtype=np.uint64)
                self._insert(np.sort(keys[keys != 0]))


def _find(table: U64, slots: npt.NDArray[np.int64], keys: U64) -> Flags:
    """Which of `keys` are in the table, looking from `slots` on until an empty one."""
    found = np.zeros(len(keys), dtype=np.bool_)
    left = np.arange(len(keys))
    last = len(table) - 1
    while len(left):
        there = table[slots]
        found[left] = there == keys
        going_on = (there != keys) & (there != 0)
        left, keys, slots = left[going_on], keys[going_on], (slots[going_on] + 1) & last
    return found


def _insert(table: U64, slots: npt.NDArray[np.int64], keys: U64) -> int:
    """Puts different `keys` into the table; returns how many were not in it."""
    new = 0
    last = len(table) - 1
    while len(keys):
        empty = table[slots] == 0
        table[slots[empty]] = keys[empty]  # of several that claim one slot, one gets it
        placed = table[slots] == keys
        new += int((placed & empty).sum())
        slots, keys = (slots[~placed] + 1) & last, keys[~placed]
    return new


def _put(into: Flags, places: npt.NDArray[np.intp], values: Flags) -> None:
    into[places] = values


def _zeros(folder: Path, size: int) -> BinaryIO:
    """A nameless file of `size` zero bytes whose space is really there.

    A mapped file with holes would end the process without a word when the disk is full.
    """
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed by the set)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            for start in range(0, size, _ZEROS):
                file.write(bytes(min(_ZEROS, size - start)))
            file.flush()
    except OSError:
        file.close()
        raise
    return cast(BinaryIO, file)
