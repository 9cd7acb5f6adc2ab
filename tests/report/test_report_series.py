"""Thinning keeps what a chart shows, smoothing lies nowhere, axes hold their data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fromscratch.report import series

CURVES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400)


@given(CURVES, st.integers(1, 40), st.integers(1, 1000))
def test_thinning_keeps_the_extremes_and_ends_of_every_bucket(
    values: list[float], buckets: int, spread: int
) -> None:
    y = np.array(values)
    gaps = np.random.default_rng(spread).integers(1, spread + 1, len(y))
    x = np.cumsum(gaps).astype(np.float64)
    kept = series.thin(x, y, buckets)
    assert len(kept) <= max(4 * buckets, 0) or len(kept) == len(y) <= 4 * buckets
    assert (np.diff(kept) > 0).all()
    assert kept[0] == 0
    assert kept[-1] == len(y) - 1
    if len(y) <= 4 * buckets:
        return
    # An independent reading of the same buckets, one at a time.
    edges = np.minimum(((x - x[0]) / (x[-1] - x[0]) * buckets).astype(int), buckets - 1)
    for bucket in range(buckets):
        inside = np.flatnonzero(edges == bucket)
        if not len(inside):
            continue
        shown = np.intersect1d(inside, kept)
        assert y[shown].max() == y[inside].max()
        assert y[shown].min() == y[inside].min()
        assert {inside[0], inside[-1]} <= set(shown)


def test_one_spike_among_a_hundred_thousand_survives_thinning() -> None:
    y = np.full(100_000, 3.0)
    y[54_321] = 11.0
    kept = series.thin(np.arange(100_000.0), y, 400)
    assert 54_321 in kept
    assert len(kept) <= 1600


@given(st.floats(-1e3, 1e3), st.floats(-10, 10), st.integers(1, 200), st.integers(0, 40))
def test_smoothing_leaves_a_straight_line_alone(
    start: float, slope: float, n: int, half: int
) -> None:
    y = start + slope * np.arange(n)
    np.testing.assert_allclose(series.smoothed(y, 2 * half + 1), y, rtol=0, atol=1e-6)


@given(CURVES, st.integers(0, 30))
def test_smoothing_is_the_plain_mean_in_the_middle(values: list[float], half: int) -> None:
    y = np.array(values)
    got = series.smoothed(y, 2 * half + 1)
    assert got.shape == y.shape
    for i in range(half, len(y) - half):
        if len(y) > 2 * half:
            assert got[i] == pytest.approx(np.mean(y[i - half : i + half + 1]), rel=1e-6, abs=1e-4)


def test_a_huge_spike_spoils_only_its_own_window() -> None:
    y = np.full(1000, 2.0)
    y[500] = 1e60
    got = series.smoothed(y, 21)
    far = np.abs(np.arange(1000) - 500) > 10
    np.testing.assert_allclose(got[far], 2.0)


def test_outliers_stay_off_the_axis_but_the_start_of_a_curve_does_not() -> None:
    step = np.arange(1, 2001)
    y = 2.5 + 8.0 * step**-0.5
    low, high = series.usual(y, reach=4.0)
    assert high >= y[0]
    y[1000] = 1e6
    low, high = series.usual(y, reach=4.0)
    assert low == y.min()
    assert 4 < high < 100


@example(0.0, 5e-324)
@given(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30))
def test_a_linear_axis_holds_its_data_and_has_labels(one: float, other: float) -> None:
    low, high = sorted((one, other))
    scale = series.linear_scale(low, high)
    assert scale.low <= low <= high <= scale.high
    assert all(scale.low <= t <= scale.high for t in scale.ticks)
    assert all(a < b for a, b in zip(scale.ticks, scale.ticks[1:], strict=False))
    assert len(scale.ticks) <= 12
    position = scale(np.array([low, high]))
    assert 0 <= position[0] <= position[1] <= 1


@given(st.floats(1e-12, 1e12), st.floats(1, 1e9))
def test_a_logarithmic_axis_holds_its_data_and_has_labels(low: float, factor: float) -> None:
    high = low * factor
    scale = series.log_scale(low, high)
    assert scale.low <= low <= high <= scale.high
    assert 1 <= len(scale.ticks) <= 16
    position = scale(np.array([low, high]))
    assert 0 <= position[0] <= position[1] <= 1


def test_absurd_and_non_finite_values_are_not_drawn() -> None:
    values = np.array([1.0, np.nan, np.inf, -np.inf, 1e200, -2.0])
    assert series.drawable(values).tolist() == [True, False, False, False, False, True]
