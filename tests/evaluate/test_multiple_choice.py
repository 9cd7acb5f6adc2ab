"""Questions with several answers: what is chosen, how many are right, and how sure that is."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.evaluate.multiple_choice import (
    ChoiceItem,
    answer_items,
    encode_pairs,
    stderr_of_share,
    tally,
    tally_of,
)
from fromscratch.evaluate.passages import Passage
from fromscratch.foundation.errors import Interrupted, UserError
from fromscratch.foundation.world import World
from fromscratch.parallel.ranks import Ranks
from fromscratch.tokenizer.build import bytes_tokenizer
from tests.evaluate.benchmark_models import loud, plainly

MODEL = loud(context=64)


def items(n: int) -> list[ChoiceItem]:
    """Questions of many lengths with answers of many lengths."""
    found = []
    for i in range(n):
        question = [(7 * i + j) % 250 for j in range(3 + (11 * i) % 30)]
        answers = [[(i + k * j) % 250 for j in range(1 + (i + 3 * k) % 9)] for k in range(4)]
        found.append(
            ChoiceItem(
                passages=tuple(Passage(question + a, len(question)) for a in answers),
                lengths=tuple(float(len(a)) for a in answers),
                gold=i % 4,
            )
        )
    return found


def test_the_answer_is_the_most_likely_one():
    asked = items(12)
    for item, answer in zip(asked, answer_items(MODEL, asked, batch_tokens=300), strict=True):
        sums = [plainly(MODEL, p.ids, p.start)[0] for p in item.passages]
        means = [s / (len(p.ids) - p.start) for s, p in zip(sums, item.passages, strict=True)]
        assert answer.logprobs == pytest.approx(sums, abs=1e-3)
        assert answer.chosen == sums.index(max(sums))
        assert answer.chosen_norm == means.index(max(means))
        assert answer.gold == item.gold


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_share_the_items_and_lose_none(size: int):
    asked = items(50)
    alone = tally(MODEL, asked, batch_tokens=500)
    assert alone == tally_of(answer_items(MODEL, asked, batch_tokens=500))
    parts = [
        tally(MODEL, asked, batch_tokens=500, ranks=Ranks(World(rank, size)))
        for rank in range(size)
    ]
    assert sum(part.right for part in parts) == alone.right
    assert sum(part.right_norm for part in parts) == alone.right_norm
    assert {part.n for part in parts} == {50}


def test_every_rank_asks_as_often_whether_to_stop():
    """The question is a collective one: a rank that asked once more would wait for ever."""
    for size in (1, 2, 3):
        counts = []
        for rank in range(size):
            asked = []
            tally(
                MODEL, items(70), batch_tokens=500,
                should_stop=lambda asked=asked: bool(asked.append(1)),
                ranks=Ranks(World(rank, size)),
            )  # fmt: skip
            counts.append(len(asked))
        assert len(set(counts)) == 1
    with pytest.raises(Interrupted):
        tally(MODEL, items(3), batch_tokens=500, should_stop=lambda: True)


@given(st.lists(st.booleans(), min_size=2, max_size=60))
def test_the_standard_error_is_that_of_the_mean(right):
    error = statistics.stdev(map(float, right)) / len(right) ** 0.5
    assert stderr_of_share(sum(right) / len(right), len(right)) == pytest.approx(error)


def test_one_item_has_no_standard_error():
    assert stderr_of_share(1.0, 1) is None


def test_spaces_between_belong_to_the_answer():
    tokenizer = bytes_tokenizer()
    spaced, plain, bare = encode_pairs(
        tokenizer, [("The end: ", "now"), ("The end:", " now"), ("", "now")]
    )
    assert spaced == plain
    assert bytes(spaced.ids[spaced.start :]) == b" now"
    assert bare == Passage([tokenizer.eot_id, *b"now"], 1)


def test_an_answer_of_nothing_is_refused():
    with pytest.raises(UserError, match="adds no token"):
        encode_pairs(bytes_tokenizer(), [("Question", "")])
