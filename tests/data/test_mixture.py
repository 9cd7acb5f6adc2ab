"""Sources are interleaved within one window of their exact shares, and addressed without state."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fromscratch.data.mixture import Mixture
from fromscratch.foundation.errors import UserError

WHOLE = st.lists(st.integers(0, 30), min_size=2, max_size=6).filter(any)
ANY = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e6)), min_size=2, max_size=6).filter(any)


def first_sources(mixture: Mixture, n: int) -> np.ndarray:
    return mixture.locate(np.arange(n))[0]


@given(weights=WHOLE)
def test_every_prefix_is_within_one_window_of_the_exact_shares(weights: list[int]) -> None:
    n = min(3 * sum(weights), 400)
    sources = first_sources(Mixture(tuple(map(float, weights))), n)
    given_so_far = [0] * len(weights)
    for position, source in enumerate(sources, start=1):
        given_so_far[source] += 1
        for weight, count in zip(weights, given_so_far, strict=True):
            exact = Fraction(weight, sum(weights)) * position
            assert abs(count - exact) < 1


@given(weights=ANY)
def test_any_weights_stay_within_a_window_and_the_resolution(weights: list[float]) -> None:
    n = 25_000
    sources = first_sources(Mixture(tuple(weights)), n)
    shares = np.array(weights) / math.fsum(weights)
    counted = np.stack([np.cumsum(sources == i) for i in range(len(weights))], axis=1)
    exact = np.arange(1, n + 1)[:, None] * shares
    # Each share is rounded to 1/10,000 (a tiny one up to it), which adds up over the positions.
    slack = 1 + np.arange(1, n + 1)[:, None] * len(weights) / 10_000
    assert (np.abs(counted - exact) < slack).all()


def test_shares_that_10000_does_not_divide_are_exact_for_ever() -> None:
    million = 3 * 10**6
    assert Mixture((1.0, 1.0, 1.0)).drawn(million) == [10**6] * 3
    assert Mixture((0.5, 0.3, 0.2)).drawn(million) == [1_500_000, 900_000, 600_000]
    assert Mixture((1.0, 2.0, 4.0)).drawn(7_000_000) == [10**6, 2 * 10**6, 4 * 10**6]


@given(weights=ANY, start=st.integers(0, 30_000))
def test_ordinals_of_a_source_have_no_gap_and_no_repeat(weights: list[float], start: int) -> None:
    mixture = Mixture(tuple(weights))
    sources, ordinals = mixture.locate(np.arange(start, start + 3000))
    before = mixture.drawn(start)
    for i in range(len(weights)):
        mine = ordinals[sources == i]
        assert mine.tolist() == list(range(before[i], before[i] + len(mine)))


@given(weights=ANY, n=st.integers(0, 40_000))
def test_drawn_is_what_counting_gives(weights: list[float], n: int) -> None:
    mixture = Mixture(tuple(weights))
    counted = np.bincount(first_sources(mixture, n), minlength=len(weights)) if n else [0]
    assert mixture.drawn(n) == list(counted) or (n == 0 and not any(mixture.drawn(0)))
    assert sum(mixture.drawn(n)) == n


@given(weights=ANY)
def test_a_source_without_weight_never_comes_and_any_other_does(weights: list[float]) -> None:
    drawn = Mixture(tuple(weights)).drawn(10_000)
    for weight, count in zip(weights, drawn, strict=True):
        assert (count == 0) == (weight == 0)


@given(weights=WHOLE, factor=st.sampled_from([0.001, 0.1, 10.0, 1000.0]))
def test_the_unit_of_the_weights_does_not_matter(weights: list[int], factor: float) -> None:
    scaled = tuple(float(Fraction(w) * Fraction(repr(factor))) for w in weights)
    assume(any(scaled))
    plain = Mixture(tuple(map(float, weights)))
    assert np.array_equal(first_sources(plain, 500), first_sources(Mixture(scaled), 500))


def test_positions_far_away_answer_at_once() -> None:
    mixture = Mixture((0.5, 0.3, 0.2))
    far = 10**15
    source, ordinal = mixture.locate(np.array([far]))
    assert mixture.drawn(far)[int(source[0])] == int(ordinal[0])


@pytest.mark.parametrize(
    "weights",
    [(), (0.0,), (0.0, 0.0), (-1.0, 2.0), (math.nan, 1.0), (math.inf, 1.0), (1.0, -math.inf)],
)
def test_weights_that_are_no_shares_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="non-negative"):
        Mixture(weights)
