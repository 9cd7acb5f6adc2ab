"""Lengths by counting, against numpy on the list of all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fromscratch.data.lengths import LengthCounter

LENGTHS = st.lists(
    st.one_of(
        st.integers(0, 40), st.integers(0, 5_000), st.integers(2**20 - 2, 2**20 + 2), st.just(10**9)
    ),
    min_size=1,
)


@settings(max_examples=40)
@given(parts=st.lists(LENGTHS, min_size=1, max_size=3), context=st.integers(1, 3_000))
def test_statistics_are_those_of_the_list(parts: list[list[int]], context: int) -> None:
    together = LengthCounter()
    for part in parts:
        counter = LengthCounter()
        counter.add(np.array(part, dtype=np.int64))
        together.include(counter)
    every = np.array([n for part in parts for n in part], dtype=np.int64)
    found = together.summary(context)
    assert (found.documents, found.tokens) == (len(every), every.sum())
    assert (found.shortest, found.longest) == (every.min(), every.max())
    assert found.mean == pytest.approx(every.mean())
    assert found.median == np.quantile(every, 0.5, method="inverted_cdf")
    assert found.p95 == np.quantile(every, 0.95, method="inverted_cdf")
    assert found.longer_than_context == (every > context).sum()
    assert found.cropped_tokens == sum(max(0, n - context) for n in every.tolist())
    edges = [0, 16, 32, 64, 128, 256, 512, 1024, 2048, 10**12]
    counts, _ = np.histogram(every, edges)
    tokens, _ = np.histogram(every, edges, weights=every)
    assert [b.documents for b in found.bins] == counts.tolist()
    assert [b.tokens for b in found.bins] == tokens.tolist()


def test_no_documents_have_no_lengths() -> None:
    found = LengthCounter().summary(1024)
    assert (found.documents, found.mean, found.median, found.longest) == (0, 0.0, 0, 0)
    assert sum(b.documents for b in found.bins) == 0
