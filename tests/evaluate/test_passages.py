"""Scores of many passages at once against one passage at a time in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fromscratch.evaluate.passages import Passage, score_passages, windows
from tests.evaluate.benchmark_models import loud, plainly

CONTEXT = 24
MODELS = {
    "gpt2": loud("gpt2", context=CONTEXT, dropout=0.5),
    "modern": loud("modern", context=CONTEXT, n_kv_head=1),
    "sinusoidal": loud("gpt2", context=CONTEXT, positions="sinusoidal", norm_placement="post"),
}

IDS = st.lists(st.integers(0, 3), min_size=1, max_size=40)  # few ids: beginnings are alike


@st.composite
def _group(draw) -> list[Passage]:
    """Passages with a common beginning, some cut by the context, some in need of two windows."""
    before = draw(IDS)
    group = []
    for _ in range(draw(st.integers(1, 4))):
        ids = before + draw(IDS)
        group.append(Passage(ids, draw(st.integers(1, len(ids)))))
    return group


def expected(model, passage: Passage) -> tuple[float, bool]:
    """Each token that counts is predicted once, from at most a context of tokens before it."""
    total, greedy, start = 0.0, True, passage.start
    while start < len(passage.ids):
        end = min(len(passage.ids), start + CONTEXT)
        first = max(0, end - CONTEXT - 1)
        logprob, right = plainly(model, passage.ids[first:end], start - first)
        total, greedy, start = total + logprob, greedy and right, end
    return total, greedy


@settings(max_examples=20)
@given(
    groups=st.lists(_group(), min_size=1, max_size=5),
    batch_tokens=st.integers(1, 400),
    name=st.sampled_from(sorted(MODELS)),
)
def test_scores_are_those_of_each_passage_alone(groups, batch_tokens, name):
    model = MODELS[name].train()
    told = []
    scores = score_passages(
        model, groups, batch_tokens=batch_tokens, greedy=True, on_passages=told.append
    )
    assert model.training, "its mode is as it was"
    model.eval()
    for group, of_group in zip(groups, scores, strict=True):
        for passage, score in zip(group, of_group, strict=True):
            logprob, greedy = expected(model, passage)
            assert score.logprob == pytest.approx(logprob, abs=2e-3)
            assert score.greedy == greedy
            assert score.n_tokens == len(passage.ids) - passage.start
    assert sum(told) >= sum(len(p.ids) > p.start for group in groups for p in group)


def test_a_likely_text_is_greedy():
    """The other answer of `greedy`, which random ids seldom give."""
    model = MODELS["modern"].eval()
    ids = [1, 2, 3]
    for _ in range(6):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    wrong = [*ids[:-1], (ids[-1] + 1) % 4]
    (scores,) = score_passages(
        model, [[Passage(ids, 3), Passage(wrong, 3)]], batch_tokens=99, greedy=True
    )
    assert [score.greedy for score in scores] == [True, False]


@given(n=st.integers(2, 200), start=st.integers(1, 199), context=st.integers(1, 50))
def test_windows_count_every_token_once_and_fit(n, start, context):
    start = min(start, n - 1)
    ids = list(range(n))
    counted = []
    for window in windows(Passage(ids, start), context):
        assert 1 <= window.start < len(window.ids) <= context + 1
        counted += window.ids[window.start :]
    assert counted == ids[start:]


def test_a_long_context_loses_its_beginning_and_nothing_else():
    (window,) = windows(Passage(list(range(100)), 95), 10)
    assert window == Passage(list(range(89, 100)), 6)  # ten inputs, five targets
