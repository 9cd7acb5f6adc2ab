"""Sources are interleaved within one window of their exact shares, and addressed without state."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fromscratch.data.mixture import Mixture
from fromscratch.data.shares import Stage
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
def test_any_weights_stay_within_one_window(weights: list[float]) -> None:
    n = 25_000
    sources = first_sources(Mixture(tuple(weights)), n)
    shares = np.array(weights) / math.fsum(weights)
    counted = np.stack([np.cumsum(sources == i) for i in range(len(weights))], axis=1)
    exact = np.arange(1, n + 1)[:, None] * shares
    assert (np.abs(counted - exact) < 1).all()


def test_weights_without_a_short_period_are_exact_too() -> None:
    # Rounded to ten thousandths, these would be 33 windows off by the end.
    weights = (0.333333, 0.666667)
    assert Mixture(weights).drawn(10**6) == [333_333, 666_667]


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
def test_a_source_without_weight_never_comes(weights: list[float]) -> None:
    drawn = Mixture(tuple(weights)).drawn(10_000)
    assert all(count == 0 for weight, count in zip(weights, drawn, strict=True) if weight == 0)


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


# --- stages ---------------------------------------------------------------------------------------

WEIGHT = st.one_of(st.just(0.0), st.integers(1, 9).map(float), st.floats(1e-3, 10))
LENGTH = st.one_of(st.just(0.0), st.integers(1, 300).map(float), st.floats(0.01, 300))


@st.composite
def mixtures(draw: st.DrawFn) -> Mixture:
    """Up to five sources and four stages, with switches, blends and sources that come and go."""
    n_sources = draw(st.integers(2, 5))
    weights = st.tuples(*[WEIGHT] * n_sources).filter(any)
    stages, position = [], 0.0
    for _ in range(draw(st.integers(1, 4))):
        position += draw(LENGTH)
        stages.append(Stage(position, draw(weights), draw(LENGTH)))
        position += stages[-1].blend
    return Mixture(draw(weights), tuple(stages))


class ExactShares:
    """The definition in fractions: weights normalised at the ends of each blend, linear between."""

    def __init__(self, mixture: Mixture) -> None:
        def shares(weights: tuple[float, ...]) -> list[Fraction]:
            exact = [Fraction(w) for w in weights]
            return [w / sum(exact) for w in exact]

        self.pieces = []  # (begin, end, shares at begin, shares at end)
        begin, now = Fraction(0), shares(mixture.weights)
        for stage in mixture.stages:
            start, end = Fraction(stage.start), Fraction(stage.start) + Fraction(stage.blend)
            self.pieces += [(begin, start, now, now), (start, end, now, shares(stage.weights))]
            begin, now = end, shares(stage.weights)
        self.pieces.append((begin, Fraction(10**9), now, now))
        self.before = [[Fraction(0)] * len(now)]  # of each piece
        for begin, end, first, last in self.pieces:
            whole = [(end - begin) * (a + b) / 2 for a, b in zip(first, last, strict=True)]
            self.before.append([a + b for a, b in zip(self.before[-1], whole, strict=True)])

    def wanted(self, n: int) -> list[Fraction]:
        number = next(i for i, (_, end, _, _) in enumerate(self.pieces) if end >= n)
        begin, end, first, last = self.pieces[number]
        part = (n - begin) / (end - begin)
        shares = zip(self.before[number], first, last, strict=True)
        # A trapezium, from `begin` to n.
        return [before + (n - begin) * (2 * a + part * (b - a)) / 2 for before, a, b in shares]


@given(mixture=mixtures())
@settings(max_examples=40)
def test_with_stages_every_prefix_is_within_one_window_of_the_exact_integral(
    mixture: Mixture,
) -> None:
    exact = ExactShares(mixture)
    given_so_far = [0] * len(mixture.weights)
    for position, source in enumerate(first_sources(mixture, 700), start=1):
        given_so_far[source] += 1
        wanted = exact.wanted(position)
        assert all(abs(c - w) < 1 for c, w in zip(given_so_far, wanted, strict=True))
    assert mixture.wanted(700) == pytest.approx([float(w) for w in wanted], abs=1e-9)


@given(mixture=mixtures(), draw=st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_the_order_does_not_depend_on_how_it_is_asked_for(mixture: Mixture, draw) -> None:
    n = 40_000  # more than two of the blocks in which it is made
    whole = mixture.locate(np.arange(n))
    asked = Mixture(mixture.weights, mixture.stages)
    places = np.array([draw.randrange(n) for _ in range(200)])
    for part in (places[:1], places[1:50], places[50:]):  # anywhere, in any order
        source, ordinal = asked.locate(part)
        assert np.array_equal(source, whole[0][part])
        assert np.array_equal(ordinal, whole[1][part])
    for i in range(len(mixture.weights)):
        ordinals = whole[1][whole[0] == i]
        assert np.array_equal(ordinals, np.arange(len(ordinals))), "no gap and no repeat"
    somewhere = draw.randrange(n)
    counted = np.bincount(whole[0][:somewhere], minlength=len(mixture.weights))
    assert asked.drawn(somewhere) == counted.tolist()


def test_a_blend_over_many_blocks_stays_exact() -> None:
    # 100% to 50:50 over 200,000 windows: what is wanted up to n in it is n**2 / 800,000.
    mixture = Mixture((1.0, 0.0), (Stage(0.0, (1.0, 1.0), 200_000.0),))
    sources = first_sources(mixture, 300_000)
    n = np.arange(1, 300_001)
    wanted = np.where(n <= 200_000, n**2 / 800_000, 50_000 + (n - 200_000) / 2)
    assert np.abs(np.cumsum(sources) - wanted).max() <= 0.5 + 1e-3  # Tijdeman: 1 - 1/(2k - 2)


def test_a_source_that_is_switched_off_does_not_come_back() -> None:
    mixture = Mixture((2.0, 1.0, 1.0), (Stage(1000.5, (0.0, 1.0, 1.0), 0.0),))
    sources = first_sources(mixture, 50_000)
    assert abs((sources == 0).sum() - 500.25) < 1
    assert not (sources[1010:] == 0).any()


@given(mixture=mixtures(), position=st.floats(0, 3000))
def test_shares_add_up_and_the_integral_grows_by_them(mixture: Mixture, position: float) -> None:
    schedule = mixture.schedule
    shares = schedule.shares_at(position)
    assert math.fsum(shares) == pytest.approx(1.0, abs=1e-9)
    assert min(shares) >= -1e-12
    assert math.fsum(schedule.wanted(position)) == pytest.approx(position, abs=1e-6)
