"""Where a learning rate does what no schedule does: a level that jumps, a slope that breaks.

In: steps and rates as they were logged, rounded perhaps. Out: `RateChange`s by step. A schedule
rises, stays, falls and stays: from one to the next it may bend, each once and in this order. Along
a straight line or a cosine a line through five rows goes on into the line through the next five,
within their own rounding. So a gap between the two is a jump of the level, and a bend that is not
one of the allowed is a change of the schedule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fromscratch.report import series
from fromscratch.report.record import FloatArray

_ROWS = 5
_LEAST_ROWS = 30
"""Fewer do not show a bend in its place."""
_COARSE = 300
"""Rows among which bends are looked for: over few steps nothing bends visibly."""
_JUMP = 0.05
_JUMP_OF_PEAK = 0.002
_BEND = 0.02
_BEND_OF_PEAK = 0.01
_ABOVE_ROUNDING = 8.0
_ABOVE_CURVATURE = 25.0
_LEVEL = 0.02


@dataclass(frozen=True)
class RateChange:
    """One such place.

    Attributes:
        kind: `jump` of the level, or `bend` of the slope.
        before_step: The last logged step before it.
        step: The first after it.
        before: The rate at `before_step`.
        after: The rate at `step`.
        slope_before: Per step.
        slope_after: Likewise.
    """

    kind: Literal["jump", "bend"]
    before_step: float
    step: float
    before: float
    after: float
    slope_before: float
    slope_after: float


@dataclass(frozen=True)
class _Lines:
    """Straight lines through each `_ROWS` rows in succession."""

    middle: FloatArray
    mean: FloatArray
    slope: FloatArray
    residual: FloatArray

    def at(self, i: series.IntArray, x: FloatArray) -> FloatArray:
        values: FloatArray = self.mean[i] + self.slope[i] * (x - self.middle[i])
        return values


def rate_changes(steps: FloatArray, rates: FloatArray) -> list[RateChange]:
    """Finds them.

    Args:
        steps: Ascending, shape (n,).
        rates: Finite, shape (n,).
    """
    jumps = _jumps(steps, rates)
    every = max(1, len(steps) // _COARSE)
    bends = _bends(steps[::every], rates[::every])
    apart = [
        bend
        for bend in bends
        if all(
            not bend.before_step - _ROWS * every * _spacing(steps)
            <= jump.step
            <= bend.step + _ROWS * every * _spacing(steps)
            for jump in jumps
        )
    ]
    return sorted([*jumps, *apart], key=lambda change: change.step)


def _spacing(steps: FloatArray) -> float:
    return float(np.median(np.diff(steps))) if len(steps) > 1 else 1.0


def _lines(steps: FloatArray, rates: FloatArray) -> _Lines:
    x = np.lib.stride_tricks.sliding_window_view(steps, _ROWS)  # (n - 4, 5)
    y = np.lib.stride_tricks.sliding_window_view(rates, _ROWS)
    middle, mean = x.mean(axis=1), y.mean(axis=1)
    dx, dy = x - middle[:, None], y - mean[:, None]
    slope = (dx * dy).sum(axis=1) / (dx * dx).sum(axis=1)
    residual = np.abs(dy - slope[:, None] * dx).max(axis=1)
    return _Lines(middle, mean, slope, residual)


def _jumps(steps: FloatArray, rates: FloatArray) -> list[RateChange]:
    """Gaps between the line before and the line after, which no bend between the rows explains."""
    if len(steps) < 2 * _ROWS:
        return []
    lines = _lines(steps, rates)
    left = np.arange(len(steps) - 2 * _ROWS + 1)
    right = left + _ROWS
    last, first = left + _ROWS - 1, right  # rows on either side of the border
    border = (steps[last] + steps[first]) / 2
    gap = lines.at(right, border) - lines.at(left, border)
    level = np.maximum(np.abs(lines.at(left, border)), np.abs(lines.at(right, border)))
    residual = np.maximum(lines.residual[left], lines.residual[right])
    bend = lines.slope[left] - lines.slope[right]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = border + gap / bend  # where the two lines meet
    spacing = steps[first] - steps[last]
    bends = np.isfinite(crossing) & (np.abs(crossing - border) <= 0.6 * spacing)
    peak = float(np.abs(rates).max())
    size = np.abs(gap)
    ok = (size > _JUMP * level) & (size > _JUMP_OF_PEAK * peak)
    ok &= (size > _ABOVE_ROUNDING * residual) & ~bends
    return [
        RateChange(
            kind="jump",
            before_step=float(steps[last[i]]),
            step=float(steps[first[i]]),
            before=float(rates[last[i]]),
            after=float(rates[first[i]]),
            slope_before=float(lines.slope[left[i]]),
            slope_after=float(lines.slope[right[i]]),
        )
        for i in _peaks(size * ok)
    ]


def _bends(steps: FloatArray, rates: FloatArray) -> list[RateChange]:
    """Bends that are out of the order in which a schedule may bend."""
    if len(steps) < _LEAST_ROWS:
        return []
    lines = _lines(steps, rates)
    # The bend lies between the windows: a row in the middle belongs to neither.
    left = np.arange(len(steps) - 2 * _ROWS)
    right = left + _ROWS + 1
    middle = left + _ROWS
    length = lines.middle[right] - lines.middle[left]
    size = np.abs(lines.slope[right] - lines.slope[left]) * length / 2
    level = np.maximum(lines.mean[left], lines.mean[right])
    residual = np.maximum(lines.residual[left], lines.residual[right])
    peak = float(np.abs(rates).max())
    ok = (size > _BEND * level) & (size > _BEND_OF_PEAK * peak)
    ok &= size > _ABOVE_CURVATURE * residual
    found = []
    reached = -1
    for i in _peaks(size * ok):
        before = _direction(lines.slope[left[i]], length[i], level[i])
        after = _direction(lines.slope[right[i]], length[i], level[i])
        if reached < 0:
            reached = {1: 0, 0: 1, -1: 2}[before]
        # rising 0, at the peak 1, falling 2, at the floor 3
        now = {1: 0, 0: 3 if reached == 2 else 1, -1: 2}[after]
        if now <= reached:
            found.append(
                RateChange(
                    kind="bend",
                    before_step=float(steps[middle[i] - 1]),
                    step=float(steps[middle[i]]),
                    before=float(rates[middle[i] - 1]),
                    after=float(rates[middle[i]]),
                    slope_before=float(lines.slope[left[i]]),
                    slope_after=float(lines.slope[right[i]]),
                )
            )
        reached = max(now, 0)
    return found


def _direction(slope: float, length: float, level: float) -> int:
    change = slope * length
    return 0 if abs(change) < _LEVEL * abs(level) else int(np.sign(change))


def _peaks(size: FloatArray) -> list[int]:
    """The largest of each stretch of positive values that no gap of a window interrupts."""
    positive = np.flatnonzero(size > 0)
    if not len(positive):
        return []
    groups = np.split(positive, np.flatnonzero(np.diff(positive) > _ROWS) + 1)
    return [int(group[np.argmax(size[group])]) for group in groups]
