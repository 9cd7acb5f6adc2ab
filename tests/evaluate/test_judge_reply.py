"""Scores out of replies as judges write them, and nothing out of those that say none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.evaluate.judge_reply import read_scores

LABELS = ["answer_1", "reference", "answer_2"]


@pytest.mark.parametrize(
    "reply",
    [
        '{"answer_1": 10, "reference": 90.5, "answer_2": 0}',
        'Sure!\n```json\n{"answer_1": 10, "reference": 90.5, "answer_2": 0}\n```\nBe well.',
        'The set {a, b} is wrong {"x": 1}. {"answer_1": 10, "reference": 90.5, "answer_2": 0}',
        '{"scores": {"answer_1": "10", "reference": "90.5/100", "answer_2": "0 / 100"}}',
        '{"Answer 1": 10, "Reference": 90.5, "ANSWER-2": 0}',
        '{"answer_1": {"reason": "as {80}", "score": 10}, "reference": 90.5, "answer_2": 0}',
        '[{"answer_1": 10}, {"reference": 90.5}, {"answer_2": 0}]',
        '{"answer_1": 10}\n{"reference": 90.5}\n{"answer_2": 0}',
        '<think>{"answer_1": 99}, or</think>{"answer_1": 10, "reference": 90.5, "answer_2": 0}',
        '{"answer_1": 10, "reference": 90.5, "answer_2": 0} Yes: {"answer_1": 10.0}',
    ],
)
def test_the_forms_in_which_judges_reply(reply: str):
    reading = read_scores(reply, LABELS)
    assert reading.scores == {"answer_1": 10, "reference": 90.5, "answer_2": 0}
    assert reading.problems == {}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("101", "not a number from 0 to 100: 101"),
        ("-1", "not a number"),
        ("1e400", "not a number"),
        ("NaN", "not a number"),
        ("true", "not a number"),
        ("null", "not a number"),
        ('"high"', "not a number from 0 to 100: high"),
        ('"7/10"', "not a number"),
        ("[50]", "not a number"),
        ('{"score": 1, "score": 2}', "not a number"),
        ("1" * 500, "not a number"),
    ],
)
def test_what_is_no_score_costs_only_its_own_label(value: str, why: str):
    reading = read_scores(f'{{"answer_1": {value}, "reference": 90}}', LABELS)
    assert reading.scores == {"reference": 90}
    assert why in reading.problems["answer_1"]
    assert reading.problems["answer_2"] == "the reply has no score for it"


@pytest.mark.parametrize(
    "reply",
    [
        '{"answer_1": 100, "answer_1": 5}',
        'It said {"answer_1": 100}. I say {"answer_1": 5}.',
    ],
)
def test_two_scores_are_none(reply: str):
    reading = read_scores(reply, ["answer_1"])
    assert reading.scores == {}
    assert reading.problems == {"answer_1": "several scores: 100, 5"}


@pytest.mark.parametrize(
    "reply",
    ["", "85", "answer_1: 85", '{"answer_1": 85', "<think>" + '{"answer_1": 85}', '{"a":' * 3000],
)
def test_what_says_nothing_is_unparsed(reply: str):
    assert read_scores(reply, ["answer_1"]).scores == {}


prose = st.text(st.characters(exclude_characters="{}<>", exclude_categories=["Cs"]), max_size=40)


@given(st.lists(st.floats(0, 100) | st.integers(0, 100), min_size=3, max_size=3), prose, prose)
def test_scores_in_prose_come_back(scores: list[float], before: str, after: str):
    wanted = dict(zip(LABELS, scores, strict=True))
    assert read_scores(before + json.dumps(wanted) + after, LABELS).scores == wanted


@given(st.text(st.sampled_from('{}[]",:answer_1 0159e.-'), max_size=60))
def test_nothing_raises_and_every_label_is_accounted_for(reply: str):
    reading = read_scores(reply, ["answer_1"])
    assert set(reading.scores) ^ set(reading.problems) == {"answer_1"}
    assert all(0 <= score <= 100 for score in reading.scores.values())
