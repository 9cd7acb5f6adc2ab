"""Means of scores with what they are worth.

Items are drawn again with replacement (the percentile bootstrap of Efron 1979), because scores
between 0 and 100 are bounded, skewed and pile up at both ends. Two models are compared on the
differences item by item: what makes an item hard is common to both and drops out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
_BLOCK = 4_000_000  # draws held at a time


@dataclass(frozen=True)
class Mean:
    """A mean.

    Attributes:
        value: It.
        low: Lower end of its 95% confidence interval; None of a single number.
        high: Upper end, likewise.
        stderr: Sample standard deviation over the square root of n, likewise.
        n: Numbers that it is a mean of.
    """

    value: float
    low: float | None
    high: float | None
    stderr: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """How much better one model is than another on the items where both have a score.

    Attributes:
        mean: Of the differences, first minus second; None without a common item.
        wins: Items on which the first has the higher score.
        ties: Equal scores.
        losses: The rest.
    """

    mean: Mean | None
    wins: int
    ties: int
    losses: int


def mean_of(values: Sequence[float], *, seed: int) -> Mean | None:
    """The mean with its interval; None of nothing.

    Args:
        values: One for each item.
        seed: Of the draws, so that the same scores give the same interval.
    """
    numbers = np.asarray(values, dtype=np.float64)
    n = len(numbers)
    if n == 0:
        return None
    if n == 1:
        return Mean(float(numbers[0]), None, None, None, 1)
    low, high = np.quantile(_resampled_means(numbers, seed), [0.025, 0.975])
    stderr = float(numbers.std(ddof=1) / np.sqrt(n))
    return Mean(float(numbers.mean()), float(low), float(high), stderr, n)


def _resampled_means(numbers: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    draw = np.random.default_rng(seed)
    n = len(numbers)
    at_once = max(1, _BLOCK // n)
    means = np.empty(RESAMPLES)
    for begin in range(0, RESAMPLES, at_once):
        rows = min(at_once, RESAMPLES - begin)
        means[begin : begin + rows] = numbers[draw.integers(0, n, (rows, n))].mean(axis=1)
    return means


def difference_of(first: dict[int, float], second: dict[int, float], *, seed: int) -> Difference:
    """Compares the scores of two models, each by item."""
    common = sorted(first.keys() & second.keys())
    differences = [first[item] - second[item] for item in common]
    return Difference(
        mean_of(differences, seed=seed),
        wins=sum(d > 0 for d in differences),
        ties=sum(d == 0 for d in differences),
        losses=sum(d < 0 for d in differences),
    )
