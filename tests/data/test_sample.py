"""A sample is bounded, even, and the same whatever the order."""

from __future__ import annotations

import hashlib
import random

from hypothesis import given
from hypothesis import strategies as st

from fromscratch.data.documents import Document, split_of
from fromscratch.data.sample import HashSample, sample_sides


@given(
    texts=st.lists(st.text(alphabet=st.characters(codec="utf-8"), max_size=30), max_size=40),
    most=st.integers(1, 300),
    seed=st.integers(0, 9),
)
def test_bounded_and_the_same_in_any_order(texts: list[str], most: int, seed: int) -> None:
    shuffled = texts[:]
    random.Random(seed).shuffle(shuffled)
    samples = []
    for order in (texts, shuffled):
        sample = HashSample(most)
        for text in order:
            sample.offer(text)
        samples.append(sample)
        assert sample.kept_bytes == sum(len(raw) for _, raw in sample._kept) <= most
    if all(len(t.encode()) <= most for t in texts):
        assert list(samples[0].texts()) == list(samples[1].texts())
        room, first = most, []
        for text in sorted(texts, key=lambda t: hashlib.sha256(t.encode()).digest()[:8]):
            room -= len(text.encode())
            if room < 0:
                break
            first.append(text)
        assert list(samples[0].texts()) == first
    if sum(len(t.encode()) for t in texts) <= most:
        assert sorted(samples[0].texts()) == sorted(texts)
        assert samples[0].is_all


def test_the_last_source_has_its_share() -> None:
    sample = HashSample(100_000)
    for source in range(10):
        for i in range(1000):
            sample.offer(f"{source} {i:04} " + "x" * 93)
    shares = [sum(t.startswith(f"{s} ") for t in sample.texts()) for s in range(10)]
    assert sum(shares) == 1000
    assert all(70 < share < 130 for share in shares)  # three deviations around a hundred
    assert (sample.documents, sample.bytes, sample.is_all) == (10_000, 1_000_000, False)


def test_held_out_text_is_on_the_other_side() -> None:
    documents = [Document(f"document {i}", str(i), "made") for i in range(1000)]
    sides = sample_sides(documents, most_bytes=10**6, val_fraction=0.2, seed=3)
    for side in ("train", "val"):
        texts = list(sides[side].texts())
        assert texts
        assert all(split_of(t, val_fraction=0.2, seed=3) == side for t in texts)
    assert sides["train"].documents + sides["val"].documents == 1000


def test_a_text_longer_than_the_sample_is_cut() -> None:
    sample = HashSample(7)
    sample.offer("abc\u00e9\u00e9\u00e9\u00e9")
    assert list(sample.texts()) == ["abc\u00e9\u00e9"]
