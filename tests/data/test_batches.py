"""Every token is a target once an epoch; the batch of a step depends on nothing but its number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.data.batches import (
    IGNORE,
    Batch,
    TrainingData,
    TrainingSource,
    ValidationSet,
    Windows,
    collate,
)
from fromscratch.data.consumption import read_before, read_more
from fromscratch.data.shards import TokenStream
from fromscratch.data.shares import Stage

StreamMaker = Callable[[list[list[int]]], TokenStream]
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=4)
CONTEXTS = st.integers(1, 17)


def numbered(lengths: list[int], start: int = 0) -> list[list[int]]:
    """Shards whose every id says where in the stream it stands."""
    ids = iter(range(start, start + sum(lengths)))
    return [[next(ids) for _ in range(n)] for n in lengths]


def training(
    *streams: TokenStream, context: int, seed: int = 0, weights: tuple = ()
) -> TrainingData:
    sources = [
        TrainingSource(f"s{i}", weights[i] if weights else 1.0, Windows(s, context), f"print{i}")
        for i, s in enumerate(streams)
    ]
    return TrainingData(sources, seed=seed, eot_id=None)


@given(lengths=LENGTHS, context=CONTEXTS, seed=st.integers(0, 2**40), epoch=st.integers(0, 3))
def test_every_token_is_a_target_exactly_once_in_every_epoch(
    stream_of: StreamMaker, lengths: list[int], context: int, seed: int, epoch: int
) -> None:
    stream = stream_of(numbered(lengths))
    data = training(stream, context=context, seed=seed)
    windows = -(-len(stream) // context)
    batch = data.batch(epoch * windows, windows)
    assert batch.ids.shape == batch.targets.shape == (windows, context)
    kept = batch.targets != IGNORE
    assert sorted(batch.targets[kept].tolist()) == list(range(len(stream)))
    assert batch.n_targets == len(stream)
    # The input of a target is the token before it; before the first comes the last.
    assert torch.equal(batch.ids[kept], (batch.targets[kept] - 1) % len(stream))


@given(lengths=LENGTHS, context=CONTEXTS)
def test_only_the_end_of_one_window_is_masked(
    stream_of: StreamMaker, lengths: list[int], context: int
) -> None:
    stream = stream_of(numbered(lengths))
    batch = training(stream, context=context).batch(0, -(-len(stream) // context))
    short = [row for row in batch.targets.tolist() if IGNORE in row]
    assert len(short) == (1 if len(stream) % context else 0)
    for row in short:
        first = row.index(IGNORE)
        assert first == len(stream) % context
        assert set(row[first:]) == {IGNORE}


def test_a_stream_shorter_than_the_context(stream_of: StreamMaker) -> None:
    batch = training(stream_of([[0, 1, 2]]), context=10).batch(0, 4)
    for row in batch.targets.tolist():
        assert sorted(row[:3]) == [0, 1, 2]
        assert row[3:] == [IGNORE] * 7


def test_another_epoch_and_another_seed_have_another_order_and_other_cuts(
    stream_of: StreamMaker,
) -> None:
    stream = stream_of([list(range(1000))])
    epochs = [training(stream, context=7).batch(e * 143, 143).targets for e in range(4)]
    starts = [tuple(e[:, 0].tolist()) for e in epochs]
    assert len(set(starts)) == 4
    assert len({frozenset(s) for s in starts}) > 1  # the windows themselves are cut elsewhere
    other = training(stream, context=7, seed=1).batch(0, 143).targets
    assert not torch.equal(epochs[0], other)
    again = training(stream, context=7).batch(0, 143).targets
    assert torch.equal(epochs[0], again)


@pytest.fixture(scope="module", params=["constant", "staged"])
def two_sources(stream_of: StreamMaker, request: pytest.FixtureRequest) -> TrainingData:
    streams = [stream_of(numbered([50, 31])), stream_of(numbered([40], start=1000))]
    data = training(*streams, context=5, weights=(2.0, 1.0))
    # Borders that no step and no micro-batch ends at, on purpose.
    changes = (Stage(100.3, (1.0, 3.0), 77.7), Stage(401.9, (1.0, 0.0)))
    stages = changes if request.param == "staged" else ()
    return TrainingData(data.sources, seed=4, eot_id=7, stages=stages)


@given(
    per_step=st.integers(1, 24),
    step=st.integers(0, 40),
    cuts=st.lists(st.integers(1, 23), max_size=5),
)
def test_the_global_batch_does_not_depend_on_how_it_is_divided(
    two_sources: TrainingData, per_step: int, step: int, cuts: list[int]
) -> None:
    first = step * per_step
    whole = two_sources.batch(first, per_step)
    # Any cuts: micro-batches of one process, or the shares of several ranks.
    bounds = sorted({0, per_step, *(c for c in cuts if c < per_step)})
    parts = [two_sources.batch(first + a, b - a) for a, b in pairwise(bounds)]
    assert torch.equal(torch.cat([p.ids for p in parts]), whole.ids)
    assert torch.equal(torch.cat([p.targets for p in parts]), whole.targets)
    assert whole.segments is not None
    assert torch.equal(
        torch.cat([p.segments for p in parts if p.segments is not None]), whole.segments
    )


def test_a_mixture_goes_through_each_source_at_its_own_pace(stream_of: StreamMaker) -> None:
    data = training(
        stream_of(numbered([60])),
        stream_of(numbered([20], start=1000)),
        context=4,
        weights=(3.0, 1.0),
    )
    # 15 and 5 windows in the ratio 3 : 1: twenty samples are an epoch of both.
    for epoch in range(3):
        targets = data.batch(epoch * 20, 20).targets.flatten().tolist()
        assert sorted(targets) == [*range(60), *range(1000, 1020)]
    assert data.epochs(20) == {"s0": 1.0, "s1": 1.0}
    assert data.epochs(50) == pytest.approx({"s0": 2.5, "s1": 2.5}, abs=0.2)
    assert data.tokens == 80


@given(cuts=st.lists(st.integers(0, 70), max_size=6))
def test_what_was_read_adds_up_however_it_is_cut(stream_of: StreamMaker, cuts: list[int]) -> None:
    """Also where a text was read before under another name, and is in two sources (R03)."""
    streams = [stream_of(numbered([60])), stream_of(numbered([20], start=1000))]
    data = training(*streams, context=4, weights=(3.0, 1.0))
    first, second = data.sources
    data.sources[:] = [replace(first, texts=("a", "b")), replace(second, texts=("b",))]
    read = {"b": 1.0, "elsewhere": 0.5}
    for begin, end in pairwise(sorted({0, 70, *cuts})):
        read = read_more(read, data, begin, end)
    epochs = data.epochs(70)
    expected = {"a": epochs["s0"], "b": 1.0 + epochs["s0"] + epochs["s1"], "elsewhere": 0.5}
    assert read == pytest.approx(expected)
    assert read_before(read, data) == pytest.approx({"s0": read["b"], "s1": read["b"]})
    assert read_before({"elsewhere": 1.0}, data) == {}


def test_the_fingerprint_covers_what_determines_a_sample(stream_of: StreamMaker) -> None:
    stream, other = stream_of([[1, 2, 3]]), stream_of([[1, 2, 4]])
    base = training(stream, context=2).fingerprint
    assert base == training(stream, context=2, seed=5).fingerprint
    changed = [
        training(stream, context=3),
        training(stream, other, context=2),
        training(stream, context=2, weights=(2.0,)),
        TrainingData([TrainingSource("x", 1.0, Windows(stream, 2), "print0")], seed=0, eot_id=None),
        TrainingData([TrainingSource("s0", 1.0, Windows(stream, 2), "new")], seed=0, eot_id=None),
    ]
    both = training(stream, other, context=2)
    later = [(Stage(9.0, (1.0, 2.0)),), (Stage(9.0, (1.0, 2.0), 1.0),), (Stage(8.0, (1.0, 2.0)),)]
    changed += [TrainingData(both.sources, seed=0, eot_id=None, stages=s) for s in later]
    prints = {base, *(c.fingerprint for c in changed)}
    assert len(prints) == 9


def test_what_was_drawn_is_what_was_trained_on(stream_of: StreamMaker) -> None:
    streams = [stream_of(numbered([60])), stream_of(numbered([20], start=1000))]
    sources = training(*streams, context=4, weights=(3.0, 1.0)).sources
    data = TrainingData(sources, seed=0, eot_id=None, stages=(Stage(40.0, (1.0, 1.0), 20.0),))
    # By hand: 30 and 10 of the first 40, then shares from 75:25 to 50:50 over 20, then halves.
    assert data.wanted(80) == pytest.approx({"s0": 30 + 12.5 + 10, "s1": 10 + 7.5 + 10})
    first_targets = data.batch(0, 80).targets[:, 0]
    drawn = data.drawn(80)
    assert drawn == {
        "s0": int((first_targets < 1000).sum()),
        "s1": int((first_targets >= 1000).sum()),
    }
    assert data.epochs(80) == {"s0": drawn["s0"] / 15, "s1": drawn["s1"] / 5}


def test_segments_number_the_documents_of_a_window() -> None:
    eot = 9
    ids = np.array([4, 5, eot, 6, eot, eot, 7])
    batch = collate((np.stack([ids, ids[::-1]]), np.stack([ids, ids])), eot)
    assert batch.segments is not None
    # An end-of-text opens what follows it: the next document is predicted from it.
    assert batch.segments.tolist() == [[0, 0, 1, 1, 2, 3, 3], [0, 1, 2, 2, 3, 3, 3]]
    assert collate((ids[None], ids[None]), None).segments is None


def test_moving_a_batch_keeps_it() -> None:
    ids = torch.tensor([[1, 2]])
    batch = Batch(ids, ids.clone(), ids.clone()).to(torch.device("cpu"))
    assert batch.segments is not None
    assert torch.equal(batch.ids, ids)
    assert torch.equal(batch.segments, ids)


class TestValidation:
    @given(lengths=LENGTHS, context=CONTEXTS, batch_size=st.integers(1, 6))
    def test_all_of_it_once_in_order_for_any_batch_size(
        self, stream_of: StreamMaker, lengths: list[int], context: int, batch_size: int
    ) -> None:
        stream = stream_of(numbered(lengths))
        held_out = ValidationSet("v", Windows(stream, context), np.ones(200, np.int64), None)
        batches = list(held_out.batches(batch_size))
        assert all(len(b.ids) <= batch_size for b in batches)
        targets = torch.cat([b.targets for b in batches])
        assert targets[targets != IGNORE].tolist() == list(range(len(stream)))

    def test_a_part_is_always_the_same_and_spread_over_the_text(
        self, stream_of: StreamMaker
    ) -> None:
        windows = Windows(stream_of([list(range(2000))]), 10)
        part = ValidationSet("v", windows, np.ones(2000, np.int64), None, max_tokens=305)
        chosen = part.chosen().tolist()
        assert len(chosen) == len(set(chosen)) == 31  # rounded up to whole windows
        assert chosen == sorted(chosen) == part.chosen().tolist()
        assert min(chosen) < 40
        assert max(chosen) > 160
        one, many = list(part.batches(1)), list(part.batches(7))
        assert torch.equal(torch.cat([b.ids for b in one]), torch.cat([b.ids for b in many]))
        assert torch.equal(
            torch.cat([b.ids for b in one]), torch.cat([b.ids for b in part.batches(1)])
        )

    def test_more_than_there_is_means_all(self, stream_of: StreamMaker) -> None:
        windows = Windows(stream_of([list(range(95))]), 10)
        whole = ValidationSet("v", windows, np.ones(95, np.int64), None, max_tokens=10**9)
        assert whole.chosen().tolist() == list(range(10))
