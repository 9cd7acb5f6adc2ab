"""Which source the n-th training window comes from, for any n.

Weights become whole numbers of windows in a period, and the order inside the period is Tijdeman's
solution of the chairman assignment problem (1980): after any number of windows, the count of each
source is within one window of its exact share. The period repeats, so position n answers at once:
no counters have to travel through a checkpoint, none can go back to zero (R02).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fromscratch.foundation.errors import UserError

_LONGEST_PERIOD = 10_000


@dataclass(frozen=True)
class Mixture:
    """A fixed proportion of sources.

    Attributes:
        weights: One non-negative number per source, in any unit. Shares are exact where the weights
            as written are in a ratio of whole numbers that sum to at most 10,000 (1:1:1, 0.5:0.3:
            0.2), else to 1/10,000.
    """

    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        bad = [w for w in self.weights if not (math.isfinite(w) and w >= 0)]
        if bad or not any(self.weights):
            raise UserError(
                f"Source weights {list(self.weights)} must be non-negative and not all zero."
            )

    def locate(
        self, samples: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """For each global sample number: its source, and its ordinal number within that source."""
        period, within = np.divmod(samples, len(self._order))
        source = self._order[within]
        ordinal = period * self.counts[source] + self._seen_before[within]
        return source, ordinal

    def drawn(self, n_samples: int) -> list[int]:
        """How many of the first `n_samples` come from each source."""
        period, rest = divmod(n_samples, len(self._order))
        in_rest = np.bincount(self._order[:rest], minlength=len(self.weights))
        return [int(x) for x in period * self.counts + in_rest]

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """Windows of each source in one period: the exact ratio, or largest remainders."""
        as_written = [Fraction(repr(float(w))) for w in self.weights]
        unit = math.lcm(*(w.denominator for w in as_written))
        whole = [int(w * unit) for w in as_written]
        divisor = math.gcd(*whole)
        if sum(whole) // divisor <= _LONGEST_PERIOD:
            return np.array([w // divisor for w in whole], dtype=np.int64)
        shares = np.array(self.weights, dtype=np.float64) / sum(self.weights)
        # A source that is wanted at all gets at least one window a period.
        exact = shares * _LONGEST_PERIOD
        counts = np.maximum(np.floor(exact + 1e-9), shares > 0).astype(np.int64)
        while counts.sum() < _LONGEST_PERIOD:
            counts[int(np.argmax(exact - counts))] += 1
        while counts.sum() > _LONGEST_PERIOD:
            counts[int(np.argmax(np.where(counts > 1, counts - exact, -np.inf)))] -= 1
        reduced: npt.NDArray[np.int64] = counts // np.gcd.reduce(counts)
        return reduced

    @cached_property
    def _order(self) -> npt.NDArray[np.int64]:
        """The source of each window in a period, by Tijdeman's rule in whole numbers."""
        counts = [int(c) for c in self.counts]
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
