"""Which source the n-th training window comes from, for any n.

After any number of windows, the count of each source is within one window of what its share asks
for up to there. Weights that stay and are in a ratio of small whole numbers have a period: the
order inside it is Tijdeman's solution of the chairman assignment problem (1980), and position n
answers at once. All others are put in order from the beginning, as far as asked for
(scheduled_order.py). Either way the order is a function of weights and stages alone: no counters
have to travel through a checkpoint, none can go back to zero (R02).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fromscratch.data.scheduled_order import ScheduledOrder
from fromscratch.data.shares import ShareSchedule, Stage

_LONGEST_PERIOD = 10_000


@dataclass(frozen=True)
class Mixture:
    """Sources in proportions that stay, or change at stages.

    Attributes:
        weights: One non-negative number per source, in any unit, in force from the first window.
        stages: Later weights; their positions are in windows.

    Raises:
        UserError: Weights that are no shares.
    """

    weights: tuple[float, ...]
    stages: tuple[Stage, ...] = ()

    def __post_init__(self) -> None:
        assert self.schedule.weights  # which checks them

    @cached_property
    def schedule(self) -> ShareSchedule:
        """The shares by position, in windows."""
        return ShareSchedule(self.weights, self.stages)

    def locate(
        self, samples: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """For each global sample number: its source, and its ordinal number within that source."""
        counts = self.period
        if counts is None:
            return self._scheduled.locate(samples)
        turn, within = np.divmod(samples, len(self._order))
        source = self._order[within]
        ordinal = turn * counts[source] + self._seen_before[within]
        return source, ordinal

    def drawn(self, n_samples: int) -> list[int]:
        """How many of the first `n_samples` come from each source."""
        counts = self.period
        if counts is None:
            return [int(x) for x in self._scheduled.drawn(n_samples)]
        turns, rest = divmod(n_samples, len(self._order))
        in_rest = np.bincount(self._order[:rest], minlength=len(self.weights))
        return [int(x) for x in turns * counts + in_rest]

    def wanted(self, n_samples: int) -> list[float]:
        """How many windows of each source the first `n_samples` should have: exact shares."""
        return self.schedule.wanted(n_samples)

    @cached_property
    def period(self) -> npt.NDArray[np.int64] | None:
        """Windows of each source in one period; None where the order has none to speak of."""
        if self.stages:
            return None
        as_written = [Fraction(repr(float(w))) for w in self.weights]
        unit = math.lcm(*(w.denominator for w in as_written))
        whole = [int(w * unit) for w in as_written]
        divisor = math.gcd(*whole)
        if sum(whole) // divisor > _LONGEST_PERIOD:
            return None
        return np.array([w // divisor for w in whole], dtype=np.int64)

    @cached_property
    def _scheduled(self) -> ScheduledOrder:
        return ScheduledOrder(self.schedule)

    @cached_property
    def _order(self) -> npt.NDArray[np.int64]:
        """The source of each window in a period, by Tijdeman's rule in whole numbers."""
        assert self.period is not None
        counts = [int(c) for c in self.period]
        period = sum(counts)
        wanted = [i for i, c in enumerate(counts) if c]
        if len(wanted) == 1:
            return np.full(period, wanted[0], dtype=np.int64)
        slack = 2 * len(wanted) - 2
        given = [0] * len(counts)
        order = np.empty(period, dtype=np.int64)
        for n in range(1, period + 1):
            # lag = slack * period * (share * n - given): how far a source is behind its share.
            lag = {i: slack * (counts[i] * n - given[i] * period) for i in wanted}
            ready = [i for i in wanted if lag[i] >= period]
            # Of those that may come, the one whose deadline is nearest.
            chosen = min(ready, key=lambda i: ((slack * period - period - lag[i]) / counts[i], i))
            order[n - 1] = chosen
            given[chosen] += 1
        return order

    @cached_property
    def _seen_before(self) -> npt.NDArray[np.int64]:
        """For each place in the period, how often its source came before."""
        seen = np.empty_like(self._order)
        for i in range(len(self.weights)):
            places = self._order == i
            seen[places] = np.arange(int(places.sum()))
        return seen
