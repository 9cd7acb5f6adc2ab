"""Where a noisy curve changes its level at once: change points by moving sums.

In: the values of a curve. Out: `Jump`s, the largest first. The statistic is the difference of the
means of the h values after and before a point (MOSUM: Eichinger and Kirch 2018, "A MOSUM procedure
for the estimation of multiple random change points", Bernoulli 24), with two additions for loss
curves. They have a trend, so what counts is by how much the difference exceeds the same difference
one window earlier and one later: of a curve that falls ever more slowly, however steeply, the
earlier one is always larger. And they wander for a while with the text they are trained on, so the
unit is the robust spread that these differences have over this very curve, not that of the noise
alone. Single outliers are pulled in beforehand.

What always holds: adding a constant, scaling, and changing the steps' unit find the same places.
The work is bounded: curves longer than `_ROWS` values are cut into blocks, of which medians are
looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fromscratch.report.record import FloatArray

_ROWS = 2000
_WINDOWS = (150, 80, 40, 20)
"""The windows h, as parts of the curve: a jump shows best in one of them, noise in none."""
_SHORTEST = 8
_LEAST_SIDE = 3
_OUTLIER = 3.0
_AROUND = 15
_MAD_OF_NORMAL = 1.4826

CERTAIN = 6.0
"""Units of spread from which on it is a jump: real runs without any stay below 4, and
noise that strays for long stretches below 5.5."""
EXPECTED = 3.0
"""The same at a place where something is known to have changed."""


@dataclass(frozen=True)
class Jump:
    """A change of level.

    Attributes:
        index: The first value after it.
        before: The level on its left.
        after: The level on its right.
        score: How far it stands out, in units of the curve's spread.
        noise: Standard deviation of one value around its neighbours.
        reach: Values on each side that the levels are means of.
    """

    index: int
    before: float
    after: float
    score: float
    noise: float
    reach: int


def find_jumps(y: FloatArray, *, least_score: float = CERTAIN) -> list[Jump]:
    """The changes of level in a curve, the most certain first.

    Args:
        y: Finite values, shape (n,).
        least_score: Leave out what stands out less.

    Returns:
        Jumps of at least the noise of one value, no two within three windows of each other.
    """
    block = max(1, len(y) // _ROWS)
    whole = len(y) // block * block
    rows = np.median(y[:whole].reshape(-1, block), axis=1) if block > 1 else y
    if len(rows) < 6 * _SHORTEST or not np.ptp(rows) > 0:
        return []
    calm = without_outliers(rows)
    noise = noise_of(calm)
    candidates: list[Jump] = []
    for h in sorted({max(_SHORTEST, len(rows) // part) for part in _WINDOWS}):
        if len(rows) >= 6 * h:
            candidates += _candidates(calm, h, noise, least_score)
    kept: list[Jump] = []
    for jump in sorted(candidates, key=lambda j: -j.score):
        if all(abs(jump.index - k.index) >= 3 * max(jump.reach, k.reach) for k in kept):
            kept.append(jump)
    return [_placed(calm, jump, block) for jump in kept]


def without_outliers(y: FloatArray) -> FloatArray:
    """`y` with values far from their neighbours' median pulled in to three deviations from it."""
    # Not by the value at the edge again and again: it may be an outlier itself.
    padded = np.pad(y, _AROUND, mode="reflect")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * _AROUND + 1)  # (n, window)
    middle = np.median(around, axis=1)
    spread = _MAD_OF_NORMAL * np.median(np.abs(around - middle[:, None]), axis=1)
    return np.clip(y, middle - _OUTLIER * spread, middle + _OUTLIER * spread)


def noise_of(y: FloatArray) -> float:
    """Standard deviation of a value around a slowly moving level, from first differences."""
    if len(y) < 2:
        return 0.0
    return float(_MAD_OF_NORMAL * np.median(np.abs(np.diff(y))) / np.sqrt(2))


def _candidates(y: FloatArray, h: int, noise: float, least_score: float) -> list[Jump]:
    """The local maxima of the statistic at one window."""
    sums = np.cumsum(np.concatenate([[0.0], y - y.mean()]))
    means = (sums[h:] - sums[:-h]) / h  # of y[i : i + h]
    difference = means[h:] - means[:-h]  # at the points h .. n - h
    spread = _MAD_OF_NORMAL * float(np.median(np.abs(difference - np.median(difference))))
    unit = max(spread, noise * float(np.sqrt(2 / h)), 1e-12 * float(np.ptp(y)))
    sign = np.sign(difference)
    none = np.full(2 * h, np.nan)
    earlier = np.concatenate([none, difference[: -2 * h]])
    later = np.concatenate([difference[2 * h :], none])
    trend = np.fmax(np.fmax(sign * earlier, sign * later), 0.0)
    score = (np.abs(difference) - trend) / unit
    score[: 2 * h] = 0.0  # no window earlier to compare with: the steep start
    score[np.abs(difference) < noise] = 0.0
    found = []
    while (peak := int(np.argmax(score))) is not None and score[peak] >= least_score:
        k = peak + h
        before, after = float(y[k - h : k].mean()), float(y[k : k + h].mean())
        found.append(Jump(k, before, after, float(score[peak]), noise, h))
        score[max(0, peak - 3 * h) : peak + 3 * h] = 0.0
    return found


def _placed(y: FloatArray, jump: Jump, block: int) -> Jump:
    """The jump where cutting its surroundings in two leaves the smallest squares."""
    h = jump.reach
    start = max(0, jump.index - h)
    part = y[start : jump.index + h]
    cuts = np.arange(_LEAST_SIDE, len(part) - _LEAST_SIDE)
    sums = np.cumsum(part - part.mean())[cuts - 1]
    best = int(cuts[np.argmax(sums**2 / (cuts * (len(part) - cuts)))])
    index = start + best
    return Jump(
        index=index * block,
        before=float(y[max(0, index - h) : index].mean()),
        after=float(y[index : index + h].mean()),
        score=jump.score,
        noise=jump.noise,
        reach=h * block,
    )
