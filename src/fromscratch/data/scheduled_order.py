"""The order of sources when their shares change during a run.

Keeping every source within one window of the integral S_i(n) of its share, after every window n, is
the chairman assignment problem with varying weights; Tijdeman (1980) proved that k sources can be
kept within 1 - 1/(2k - 2). Said as a timetable: with d = 1/(2k - 2) and g counted from 0, the g-th
window of source i may be given once S_i(n) >= g + d, and must have been given where S_i(n) > g + 1
- d. For jobs of unit length with a first and a last date each, taking the one whose last date is
nearest meets all dates whenever they can be met (Jackson 1955); by the theorem they can.

The order is made from its beginning, in blocks, as far as somebody asks for it (about half a
microsecond a window, a byte of memory each), and is a function of the schedule alone: the size of
the blocks is fixed, and float64 is used only for operations that IEEE 754 rounds one way.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

import numpy as np
import numpy.typing as npt

from fromscratch.data.shares import ShareSchedule

_BLOCK = 16_384
# Dates are taken wider by this much: more than the rounding of an integral of 10**9 windows, and
# far less than what Tijdeman leaves to a whole window. So rounding cannot make them impossible.
_SLACK = 1e-6
_NEVER = 2**50
Floats = npt.NDArray[np.float64]


class ScheduledOrder:
    """The source of each window, by its number.

    Args:
        schedule: Shares, with positions in windows.
    """

    def __init__(self, schedule: ShareSchedule) -> None:
        self._schedule = schedule
        self._n_sources = len(schedule.weights)
        wanted = [
            any(knot.shares[i] > 0 for knot in schedule.knots) for i in range(self._n_sources)
        ]
        self._wanted = [i for i, is_wanted in enumerate(wanted) if is_wanted]
        self._margin = 1 / (2 * max(2, len(self._wanted)) - 2)
        # Of each block: the source of each window, and how many of each source came before it.
        self._blocks: list[npt.NDArray[Any]] = []
        self._before: list[npt.NDArray[np.int64]] = [np.zeros(self._n_sources, dtype=np.int64)]
        # The timetable's state: windows of each source that may be given, and those still to give.
        self._released = [0] * self._n_sources
        self._waiting: list[int] = []
        self._seen: dict[int, npt.NDArray[np.int64]] = {}

    def locate(
        self, samples: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """For each sample number: its source, and its ordinal number within that source."""
        if not len(samples):
            return samples.copy(), samples.copy()
        self._extend(int(samples.max()) + 1)
        source, ordinal = np.empty_like(samples), np.empty_like(samples)
        blocks, places = np.divmod(samples, _BLOCK)
        for block in np.unique(blocks):
            mine = blocks == block
            place = places[mine]
            source[mine] = self._blocks[block][place]
            ordinal[mine] = self._before[block][source[mine]] + self._seen_before(int(block))[place]
        return source, ordinal

    def drawn(self, n_samples: int) -> npt.NDArray[np.int64]:
        """How many of the first `n_samples` come from each source."""
        self._extend(n_samples)
        block, rest = divmod(n_samples, _BLOCK)
        if not rest:
            return self._before[block].copy()
        counts = np.bincount(self._blocks[block][:rest], minlength=self._n_sources)
        drawn: npt.NDArray[np.int64] = self._before[block] + counts
        return drawn

    def _seen_before(self, block: int) -> npt.NDArray[np.int64]:
        """For each place in a block, how often its source came in the block before."""
        if block not in self._seen:
            sources = self._blocks[block]
            seen = np.empty(_BLOCK, dtype=np.int64)
            for i in self._wanted:
                places = sources == i
                seen[places] = np.arange(int(places.sum()))
            if len(self._seen) >= 2:  # a batch lies in one block or across two
                self._seen.clear()
            self._seen[block] = seen
        return self._seen[block]

    # --- the timetable ----------------------------------------------------------------------------

    def _extend(self, n_samples: int) -> None:
        dtype = np.uint8 if self._n_sources <= 256 else np.uint16
        while len(self._blocks) * _BLOCK < n_samples:
            order = np.array(self._next_block(), dtype=dtype)
            counts = np.bincount(order, minlength=self._n_sources)
            self._blocks.append(order)
            self._before.append(self._before[-1] + counts)

    def _next_block(self) -> list[int]:
        """The sources of the next block's windows; moves the timetable on."""
        first = len(self._blocks) * _BLOCK + 1  # windows are counted from 1: S_i(n) is after n
        numbers = np.arange(first, first + _BLOCK, dtype=np.float64)
        released: list[npt.NDArray[np.int64]] = []
        keys: list[npt.NDArray[np.int64]] = []
        for i in self._wanted:
            may, must = self._dates(i, numbers, first)
            released.append(may)
            keys.append(must * self._n_sources + i)
        when = np.concatenate(released)
        by_date = np.argsort(when, kind="stable")
        return self._give(
            np.bincount(when, minlength=_BLOCK).tolist(), np.concatenate(keys)[by_date].tolist()
        )

    def _give(self, released: list[int], keys: list[int]) -> list[int]:
        """Takes the most urgent window at each place.

        Args:
            released: How many windows may be given from each place of the block on.
            keys: Their last dates and sources, in the order of release.
        """
        waiting, n_sources, order = self._waiting, self._n_sources, []
        position = 0
        for count in released:
            for key in keys[position : position + count]:
                heappush(waiting, key)
            position += count
            order.append(heappop(waiting) % n_sources)
        return order

    def _dates(
        self, source: int, numbers: Floats, first: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Of the windows of a source that are released in a block.

        Returns:
            The place in the block from which on each may be given, and the number of the window
            at which it must have been.
        """
        reached = self._integral(source, numbers)
        may_from, must_after = self._margin - _SLACK, 1 - self._margin + _SLACK
        begin = self._released[source]
        end = max(begin, int(np.floor(reached[-1] - may_from)) + 1)
        self._released[source] = end
        ordinals = np.arange(begin, end, dtype=np.float64)
        may = np.searchsorted(reached, ordinals + may_from, side="left")
        must = first + np.searchsorted(reached, ordinals + must_after, side="right")
        for late in np.flatnonzero(must == first + _BLOCK):  # at most two of a source
            must[late] = self._first_beyond(source, begin + int(late) + must_after, first + _BLOCK)
        return np.minimum(may, _BLOCK - 1), must

    def _integral(self, source: int, numbers: Floats) -> Floats:
        """S_i at ascending window numbers, as `ShareSchedule.wanted_of` computes it."""
        segments = self._schedule.segments
        begins = np.array([segment.begin for segment in segments])
        of = np.searchsorted(begins, numbers, side="right") - 1
        before = np.array([segment.before[source] for segment in segments])[of]
        share = np.array([segment.shares[source] for segment in segments])[of]
        slope = np.array([segment.half_slopes[source] for segment in segments])[of]
        along = numbers - begins[of]
        reached: Floats = np.maximum.accumulate(before + along * (share + along * slope))
        return reached

    def _first_beyond(self, source: int, level: float, low: int) -> int:
        """The first window number from `low` on after which S_i is above `level`."""
        high = low
        while self._schedule.wanted_of(source, high) <= level:
            if high >= _NEVER:
                return _NEVER
            low, high = high + 1, 2 * high
        while low < high:
            middle = (low + high) // 2
            if self._schedule.wanted_of(source, middle) > level:
                high = middle
            else:
                low = middle + 1
        return high
