"""The standard error of a ratio over documents: against a bootstrap, and by how often it is right.

Documents are drawn with lengths and difficulties of their own; so nats of one document are not
independent of each other, which is what an error by token would assume.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from fromscratch.evaluate.ratio import RatioSums


def drawn(n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Nats and sizes of documents: long ones are easier, each has a difficulty of its own."""
    sizes = np.exp(generator.normal(5, 1, n)).round() + 1
    hardness = 3.5 - 0.1 * np.log(sizes) + generator.normal(0, 0.4, n)
    return sizes * hardness + generator.normal(0, 1.5, n) * np.sqrt(sizes), sizes


def sums_of(nats: np.ndarray, sizes: np.ndarray) -> RatioSums:
    sums = RatioSums()
    for y, x in zip(nats.tolist(), sizes.tolist(), strict=True):
        sums.add(y, x)
    return sums


def test_equals_a_bootstrap_over_documents() -> None:
    generator = np.random.default_rng(0)
    nats, sizes = drawn(400, generator)
    sums = sums_of(nats, sizes)
    assert sums.ratio == pytest.approx(nats.sum() / sizes.sum(), rel=1e-12)
    chosen = generator.integers(0, 400, (4000, 400))
    ratios = nats[chosen].sum(axis=1) / sizes[chosen].sum(axis=1)
    assert sums.stderr == pytest.approx(ratios.std(ddof=1), rel=0.06)
    # Tokens taken as independent would be far too sure.
    per_token = np.sqrt((sizes * (nats / sizes - sums.ratio) ** 2).sum() / sizes.sum() ** 2)
    assert sums.stderr > 5 * per_token


@pytest.mark.parametrize("n", [40, 300])
def test_two_standard_errors_hold_the_truth_as_often_as_they_should(n: int) -> None:
    generator = np.random.default_rng(1)
    nats, sizes = drawn(2_000_000, generator)
    truth = nats.sum() / sizes.sum()
    rounds = 1500
    nats, sizes = nats[: rounds * n].reshape(rounds, n), sizes[: rounds * n].reshape(rounds, n)
    held = 0
    for y, x in zip(nats, sizes, strict=True):
        sums = sums_of(y, x)
        assert sums.stderr is not None
        held += abs(sums.ratio - truth) < 1.96 * sums.stderr
    # 95% of an endless sample; with 40 lognormal documents the delta method is a little short.
    assert (0.90 if n == 40 else 0.93) < held / rounds < 0.97


def test_the_sums_of_parts_are_those_of_the_whole() -> None:
    nats, sizes = drawn(60, np.random.default_rng(2))
    whole = sums_of(nats, sizes)
    joined = sums_of(nats[:17], sizes[:17]) + sums_of(nats[17:], sizes[17:]) + RatioSums()
    assert (joined.n, joined.ratio) == (60, pytest.approx(whole.ratio, rel=1e-12))
    assert joined.stderr == pytest.approx(whole.stderr, rel=1e-9)


def test_by_hand() -> None:
    sums = sums_of(np.array([2.0, 6.0, 4.0]), np.array([1.0, 2.0, 3.0]))
    # R = 12 / 6; residuals 0, 2, -2; sqrt(3/2 * 8) / 6
    assert sums.ratio == 2.0
    assert sums.stderr == pytest.approx(math.sqrt(12) / 6)


def test_what_cannot_be_said_is_not_said() -> None:
    assert RatioSums().stderr is None
    assert math.isnan(RatioSums().ratio)
    assert sums_of(np.array([3.0]), np.array([2.0])).stderr is None
    assert math.isnan(sums_of(np.array([3.0, math.nan]), np.array([2.0, 1.0])).stderr or 0)
    # Documents that are all alike have no error, and rounding makes no negative square of it.
    assert sums_of(np.full(9, 0.1 * 3), np.full(9, 0.1)).stderr == pytest.approx(0, abs=1e-6)
