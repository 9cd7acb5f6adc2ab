"""The shuffled order is a bijection, depends on the seed, looks random, and takes no memory."""

from __future__ import annotations

import itertools
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fromscratch.data.permutation import Permutation, StretchedPermutation

SEEDS = st.integers(0, 2**63 - 1)


def chi_square(counts: list[int], expected: float) -> float:
    return sum((c - expected) ** 2 / expected for c in counts)


@given(size=st.integers(1, 5000), seed=SEEDS)
@example(size=1, seed=0)
@example(size=2, seed=1)
@example(size=3, seed=1)
def test_every_element_comes_exactly_once(size: int, seed: int) -> None:
    order = Permutation(size, seed)(np.arange(size))
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(size))


@pytest.mark.parametrize("power", [1, 2, 3, 4, 5, 8, 9, 12, 15, 16])
@pytest.mark.parametrize("off", [-1, 0, 1])
def test_sizes_around_powers_of_two(power: int, off: int) -> None:
    size = 2**power + off
    order = Permutation(size, seed=power)(np.arange(size))
    assert np.array_equal(np.sort(order), np.arange(size))


@given(
    size=st.integers(10**6, 2**62),
    seed=SEEDS,
    positions=st.sets(st.integers(0, 2**62), min_size=2, max_size=200),
)
def test_large_sizes_are_injective_and_stay_inside(
    size: int, seed: int, positions: set[int]
) -> None:
    inside = sorted({p % size for p in positions})
    elements = Permutation(size, seed)(np.array(inside))
    assert len(set(elements.tolist())) == len(inside)
    assert elements.min() >= 0
    assert elements.max() < size


@given(size=st.integers(1, 150), seed=SEEDS)
def test_one_position_at_a_time_gives_the_same_order(size: int, seed: int) -> None:
    permutation = Permutation(size, seed)
    one_by_one = [int(permutation(i)[0]) for i in range(size)]
    assert one_by_one == permutation(np.arange(size)).tolist()


def test_a_position_outside_is_a_programmers_mistake() -> None:
    with pytest.raises(AssertionError):
        Permutation(10, 0)(10)
    with pytest.raises(AssertionError):
        Permutation(10, 0)(-1)


def test_seeds_give_different_orders() -> None:
    orders = {tuple(Permutation(50, seed)(np.arange(50)).tolist()) for seed in range(300)}
    assert len(orders) == 300


def test_every_element_is_equally_likely_at_every_position() -> None:
    size, trials = 40, 4000
    table = np.zeros((size, size))
    for seed in range(trials):
        table[np.arange(size), Permutation(size, seed)(np.arange(size))] += 1
    expected = trials / size
    # 39 degrees of freedom each: 99.9% lie below 72.1; the seeds are fixed, so this cannot flicker.
    statistics = [chi_square(row.tolist(), expected) for row in table]
    assert max(statistics) < 80
    assert 34 < float(np.mean(statistics)) < 44


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_small_domains_reach_every_order_about_equally(size: int) -> None:
    trials = 6000
    counts = Counter(tuple(Permutation(size, s)(np.arange(size)).tolist()) for s in range(trials))
    every = list(itertools.permutations(range(size)))
    assert set(counts) == set(every)
    # Six rounds are a shuffle and not a uniform draw: no order may be rare or a favourite.
    expected = trials / len(every)
    assert min(counts.values()) > 0.4 * expected
    assert max(counts.values()) < 2.0 * expected


def test_neighbours_are_not_kept_together() -> None:
    size = 20_000
    order = Permutation(size, seed=3)(np.arange(size))
    adjacent = np.count_nonzero(np.abs(np.diff(order)) == 1)
    assert adjacent < 15  # 2 expected of a random order; all of them in an unshuffled one
    correlation = np.corrcoef(np.arange(size), order)[0, 1]
    assert abs(correlation) < 0.03


def test_memory_does_not_grow_with_the_size() -> None:
    def peak(size: int) -> int:
        tracemalloc.start()
        Permutation(size, seed=1)(np.arange(1000))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(1000)
    assert peak(2**60) < 300_000


@given(
    size=st.integers(1, 30_000),
    seed=st.integers(0, 2**40),
    asked=st.lists(st.lists(st.integers(0, 2**30), max_size=20), max_size=6),
)
def test_working_out_a_stretch_at_a_time_changes_nothing(
    size: int, seed: int, asked: list[list[int]]
) -> None:
    permutation = Permutation(size, seed)
    stretched = StretchedPermutation(permutation)
    for places in asked:  # anywhere, in any order, across stretches
        positions = np.array(places, dtype=np.int64) % size
        assert np.array_equal(stretched(positions), permutation(positions))
