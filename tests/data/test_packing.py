"""Whole examples in rows: every one once, none beyond its row, few rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.data.packing import one_each, pack

LENGTHS = st.lists(st.integers(1, 64), max_size=200)


@given(LENGTHS)
def test_every_example_is_in_one_row_that_holds_it(lengths: list[int]):
    sizes = np.array(lengths, dtype=np.int64)
    packed = pack(sizes, 64)
    assert sorted(packed.order.tolist()) == list(range(len(lengths)))
    rows = [packed.row(n) for n in range(len(packed))]
    assert all(0 < sizes[row].sum() <= 64 for row in rows)
    assert all(row.tolist() == sorted(row) for row in rows)
    # No two rows would fit into one: of best fit, at most one is no more than half full.
    assert sum(sizes[row].sum() <= 32 for row in rows) <= 1


def test_short_examples_fill_their_rows():
    sizes = np.random.default_rng(0).integers(20, 300, 5_000)
    packed = pack(sizes, 1024)
    assert sizes.sum() / (len(packed) * 1024) > 0.998


@pytest.mark.parametrize("n", [0, 1, 5])
def test_one_each(n: int):
    packed = one_each(n)
    assert [packed.row(i).tolist() for i in range(len(packed))] == [[i] for i in range(n)]
