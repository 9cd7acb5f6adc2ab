"""Windows that are left out: the order of all others is what it was."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.data.batches import TrainingData, TrainingSource, Windows
from fromscratch.data.shares import Stage
from fromscratch.data.skipping import before, kept_numbers, with_range

PAIRS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=6)


def ranges_of(pairs: list[tuple[int, int]]) -> list[list[int]]:
    ranges: list[list[int]] = []
    for begin, length in pairs:
        ranges = with_range(ranges, begin, begin + length)
    return ranges


def members(pairs: list[tuple[int, int]]) -> set[int]:
    return {n for begin, length in pairs for n in range(begin, begin + length)}


@given(PAIRS)
def test_ranges_are_a_set_in_order(pairs):
    ranges = ranges_of(pairs)
    assert {n for begin, end in ranges for n in range(begin, end)} == members(pairs)
    edges = [edge for pair in ranges for edge in pair]
    assert edges == sorted(set(edges)), "they touch or overlap"


@given(PAIRS, st.integers(0, 80), st.integers(1, 40))
def test_what_is_kept_is_what_is_not_left_out(pairs, first, n):
    kept = kept_numbers(first, n, ranges_of(pairs))
    left_out = members(pairs)
    assert kept.tolist() == [k for k in range(first, 300) if k not in left_out][:n]


@given(PAIRS, st.integers(0, 80))
def test_ranges_before_a_position(pairs, position):
    inside = {n for begin, end in before(ranges_of(pairs), position) for n in range(begin, end)}
    assert inside == {n for n in members(pairs) if n < position}


@pytest.fixture(params=[(), (Stage(20.0, (1.0, 4.0), 15.0),)], ids=["constant", "stages"])
def data(request, tmp_path: Path, stream_of) -> TrainingData:
    """Two sources of distinct tokens, mixed two to one, or as a stage has it."""
    sources = []
    for number, weight in enumerate((2.0, 1.0)):
        tokens = [range(5000 * number + 7, 5000 * number + 7 + 203)]
        windows = Windows(stream_of(tokens), 8)
        sources.append(TrainingSource(f"s{number}", weight, windows, f"f{number}"))
    return TrainingData(sources, seed=5, eot_id=None, stages=request.param)


SKIPPED = [[6, 17], [30, 31], [44, 70]]


def test_batches_are_the_run_s_without_the_windows_left_out(data):
    whole = data.batch(0, 120)
    kept = [n for n in range(120) if not any(b <= n < e for b, e in SKIPPED)]
    cursor, rows = 0, []
    for n in (5, 4, 12, 1, 20, 7):
        batch = data.batch(cursor, n, SKIPPED)
        cursor = data.after(cursor, n, SKIPPED)
        rows.append(batch.targets)
    ours = torch.cat(rows)
    assert torch.equal(ours, whole.targets[kept[: len(ours)]])
    assert cursor == kept[len(ours) - 1] + 1
    # The parts of two readers, one after the other, are the whole.
    for first in (0, 3, 9, 40):
        second = data.after(first, 6, SKIPPED)
        parts = [data.batch(data.after(first, 0), 6, SKIPPED), data.batch(second, 6, SKIPPED)]
        both = torch.cat([part.ids for part in parts])
        assert torch.equal(both, data.batch(first, 12, SKIPPED).ids)


def test_shares_count_what_was_trained_on(data):
    source_of, _ = data.mixture.locate(np.arange(100))
    for position in (0, 6, 17, 40, 75, 100):
        taken = [int(s) for n, s in enumerate(source_of[:position])
                 if not any(b <= n < e for b, e in SKIPPED)]  # fmt: skip
        drawn = data.drawn(position, SKIPPED)
        assert drawn == {"s0": taken.count(0), "s1": taken.count(1)}
        wanted = data.wanted(position, SKIPPED)
        assert sum(wanted.values()) == pytest.approx(len(taken))
        assert data.epochs(position, SKIPPED)["s0"] == drawn["s0"] / 26


def test_places_lead_to_the_text(data):
    """What an event names is where the tokens of the batch are found in the stream."""
    samples = kept_numbers(3, 90, SKIPPED)
    batch = data.batch(3, 90, SKIPPED)
    by_name = {s.name: s.windows.stream for s in data.sources}
    for place, sample, targets in zip(data.places(samples), samples, batch.targets, strict=True):
        assert place.sample == sample
        first = by_name[place.source].read_rows(np.array([place.token]), 1)[0, 0]
        assert int(first) == int(targets[0])
