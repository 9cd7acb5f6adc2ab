"""What happens to numbers between the file and the picture: gaps, smoothing, thinning, scales.

All of it is honest in one sense: a drawn point is a recorded point (or a mean that the legend
names), no extreme is lost by thinning, and whatever does not fit the axis is handed back to be
marked and counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fromscratch.report.record import FloatArray

IntArray = npt.NDArray[np.intp]

# A number beyond this is the trace of a broken run; as a coordinate it would overflow.
_DRAWABLE = 1e100


def drawable(y: FloatArray) -> npt.NDArray[np.bool_]:
    """Which values can be drawn at all: finite and not absurd. Shape of `y`."""
    with np.errstate(invalid="ignore"):
        return np.isfinite(y) & (np.abs(y) < _DRAWABLE)


def usual(y: FloatArray, reach: float) -> tuple[float, float]:
    """The range outside of which a drawable value is a rare outlier.

    It is the middle 99% of the values and `reach` times their span to both sides: with 4 the
    high start of a training curve is inside and one step at 1e6 is not. With few values, or if
    nearly all are equal, nothing is an outlier.
    """
    low, high = float(y.min()), float(y.max())
    near_low, near_high = (float(v) for v in np.quantile(y, (0.005, 0.995)))
    span = near_high - near_low
    if len(y) < 50 or span == 0:
        return low, high
    return max(low, near_low - reach * span), min(high, near_high + reach * span)


def thin(x: FloatArray, y: FloatArray, buckets: int) -> IntArray:
    """Indices of the points that draw the same line as all of them.

    Of each of `buckets` equal intervals of x the first, last, lowest and highest point are kept:
    M4 (Jugel, Jerzak, Hackenbroich and Markl, "M4: A Visualization-Oriented Time Series Data
    Aggregation", VLDB 2014), which is exact at one bucket a pixel.

    Args:
        x: Ascending, shape (n,).
        y: Finite, shape (n,).
        buckets: Number of intervals, at least 1.

    Returns:
        Ascending indices into x and y, at most 4 * buckets; all n if n is no more than that.
    """
    n = len(x)
    if n <= 4 * buckets:
        return np.arange(n)
    span = x[-1] - x[0]
    bucket = np.minimum((x - x[0]) / span * buckets, buckets - 1).astype(np.intp)
    starts = np.flatnonzero(np.diff(bucket, prepend=-1))
    ends = np.append(starts[1:], n)
    # Sorted by bucket, then by value: the ends of each bucket's stretch are its extremes.
    by_value = np.lexsort((y, bucket))
    return np.unique(np.concatenate([starts, ends - 1, by_value[starts], by_value[ends - 1]]))


def smoothed(y: FloatArray, window: int) -> FloatArray:
    """The centred mean over `window` values (odd), shape of `y`.

    Near the start the window shrinks on both sides alike, so that a steep start is not dragged down
    by what follows. Near the end, where a curve is flat and its last value is what counts, it is
    the straight line through the last window (least squares), which neither lags nor jumps.
    """
    assert window % 2 == 1, "a centred window has a middle"
    n, half = len(y), window // 2
    if n == 0 or half == 0:
        return y.copy()
    half = min(half, (n - 1) // 2)
    result = y.copy()
    if half:
        # Not by differences of a cumulative sum: one spike of 1e30 would wreck all that follows.
        kernel = np.full(2 * half + 1, 1.0 / (2 * half + 1))
        result[half : n - half] = np.convolve(y, kernel, mode="valid")
    for i in range(half):
        result[i] = y[: 2 * i + 1].mean()
    around = np.arange(-half, half + 1, dtype=np.float64)
    if half:
        last = y[n - 2 * half - 1 :]
        slope = float((around * last).sum() / (around * around).sum())
        result[n - half :] = last.mean() + slope * around[half + 1 :]
    return result


def counted(y: FloatArray) -> tuple[npt.NDArray[np.bool_], int]:
    """Which values a running mean is over, and over how many at a time.

    One loss of 1e6 would lift the mean of every window that it is in; the chart tells of it.
    """
    ok = drawable(y)
    if not ok.any():
        return ok, 1
    low, high = usual(y[ok], reach=4.0)
    inside = ok.copy()
    inside[ok] = (y[ok] >= low) & (y[ok] <= high)
    return inside, smoothing_window(int(inside.sum()))


def smoothing_window(n: int) -> int:
    """The window for a curve of n points: 2% of them, odd; 1 (no smoothing) for a short curve."""
    return 1 if n < 40 else max(3, n // 50) | 1


@dataclass(frozen=True)
class Scale:
    """A map from values to [0, 1] of an axis, with its ticks.

    Attributes:
        low: The value at 0.
        high: The value at 1.
        ticks: Values worth a label, ascending, all within [low, high].
        spacing: The distance between ticks; on a logarithmic axis the smallest.
        log: Whether the axis is logarithmic.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    spacing: float
    log: bool = False

    def __call__(self, values: FloatArray) -> FloatArray:
        """The positions of `values`; outside [0, 1] for what does not fit."""
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.asarray((np.log(values) - low) / (high - low))
        return np.asarray((values - self.low) / (self.high - self.low))


# A fifth of less than this is no power of ten that a float has.
_SMALLEST_SPAN = 1e-300


def linear_scale(low: float, high: float, *, aim: int = 5, padding: float = 0.04) -> Scale:
    """A linear axis over [low, high] and a little more, with about `aim` round ticks."""
    if not high - low > _SMALLEST_SPAN:
        # One value only: put it in the middle of a range of its own size.
        around = max(abs(low), abs(high)) * 0.1
        around = around if around > _SMALLEST_SPAN else 1.0
        low, high = low - around, low + around
    extra = padding * (high - low)
    low, high = low - extra, high + extra
    spacing = _round_spacing((high - low) / aim)
    first, last = math.ceil(low / spacing), math.floor(high / spacing)
    ticks = tuple(k * spacing for k in range(first, last + 1))
    return Scale(low, high, ticks, spacing)


def _round_spacing(about: float) -> float:
    """A number of 1, 2 or 5 times a power of ten, between 0.7 and 1.75 times `about`."""
    power = 10.0 ** math.floor(math.log10(about))
    return next((power * step for step in (1, 2, 5) if power * step >= 0.7 * about), 10 * power)


def log_scale(low: float, high: float) -> Scale:
    """A logarithmic axis over [low, high], both positive, labelled at 1, 2, 5 or whole decades."""
    assert 0 < low <= high, "a logarithm needs positive numbers"
    if high < 10 * low:
        # A whole decade around them always has labels in it.
        low, high = math.sqrt(low) * math.sqrt(high / 10), math.sqrt(low) * math.sqrt(high * 10)
    stretch = (high / low) ** 0.04
    low, high = low / stretch, high * stretch
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if last - first <= 3 else (1,)
    stride = max(1, (last - first) // 5)
    ticks = tuple(
        step * 10.0**power
        for power in range(first, last + 1, stride)
        for step in steps
        if low <= step * 10.0**power <= high
    )
    return Scale(low, high, ticks, min(ticks, default=low), log=True)


def fitting_scale(
    values: FloatArray, always: FloatArray, *, allow_log: bool, reach: float
) -> Scale:
    """The axis on which a curve can be read although a few of its values are far out.

    Args:
        values: Drawable values of which rare outliers may stay off the axis.
        always: Drawable values that must be on the axis; at least one in either of the two.
        allow_log: Take a logarithmic axis when positive values span more than a factor of 20.
        reach: As in `usual`.
    """
    every = np.concatenate([values, always])
    near_low, near_high = (float(v) for v in np.quantile(every, (0.005, 0.995)))
    if allow_log and every.min() > 1 / _DRAWABLE and near_high > 20 * near_low:
        return log_scale(float(every.min()), float(every.max()))
    low, high = usual(values, reach) if len(values) else (math.inf, -math.inf)
    if len(always):
        low, high = min(low, float(always.min())), max(high, float(always.max()))
    return linear_scale(low, high)
