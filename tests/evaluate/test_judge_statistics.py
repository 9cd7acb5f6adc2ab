"""Intervals against Student's t, against how often they hold the truth, and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fromscratch.evaluate.judge_statistics import difference_of, mean_of


def test_on_normal_scores_the_interval_is_nearly_student_s():
    scores = np.random.default_rng(0).normal(60, 20, 110)
    mean = mean_of(scores.tolist(), seed=1)
    assert mean is not None
    assert mean.stderr is not None
    assert mean.low is not None
    assert mean.high is not None
    assert mean.value == pytest.approx(scores.mean())
    assert mean.stderr == pytest.approx(scores.std(ddof=1) / 110**0.5)
    half = 1.982 * mean.stderr  # t for 109 degrees of freedom
    assert mean.low == pytest.approx(mean.value - half, abs=0.1 * half)
    assert mean.high == pytest.approx(mean.value + half, abs=0.1 * half)


def test_the_interval_holds_the_true_mean_about_95_times_in_100():
    draw = np.random.default_rng(7)
    # Judges' scores pile up at both ends.
    held = 0
    for seed in range(150):
        scores = draw.choice([0, 5, 90, 100], p=[0.5, 0.2, 0.1, 0.2], size=40)
        mean = mean_of(scores.tolist(), seed=seed)
        assert mean is not None
        assert mean.low is not None
        assert mean.high is not None
        held += mean.low <= 30.0 <= mean.high
    assert 132 <= held <= 149


def test_few_scores():
    assert mean_of([], seed=0) is None
    one = mean_of([40.0], seed=0)
    assert one is not None
    assert (one.value, one.low, one.high, one.stderr, one.n) == (40, None, None, None, 1)
    same = mean_of([70.0] * 5, seed=0)
    assert same is not None
    assert (same.low, same.high, same.stderr) == (70, 70, 0)


def test_the_same_scores_give_the_same_interval():
    scores = [0.0, 50.0, 100.0, 20.0]
    assert mean_of(scores, seed=3) == mean_of(scores, seed=3)


def test_a_pair_is_compared_where_both_have_a_score():
    difference = difference_of({1: 10, 2: 50, 3: 90, 4: 7}, {1: 20, 2: 50, 3: 30, 9: 1}, seed=0)
    assert (difference.wins, difference.ties, difference.losses) == (1, 1, 1)
    assert difference.mean is not None
    assert difference.mean.n == 3
    assert difference.mean.value == pytest.approx((-10 + 0 + 60) / 3)
    assert difference_of({1: 5}, {2: 5}, seed=0).mean is None


def test_what_makes_items_hard_drops_out_of_a_difference():
    hardness = np.random.default_rng(0).uniform(0, 90, 60)
    worse = dict(enumerate(hardness.tolist()))
    better = {item: score + 5 + item % 2 for item, score in worse.items()}
    difference = difference_of(better, worse, seed=0).mean
    alone = mean_of(list(better.values()), seed=0)
    assert difference is not None
    assert difference.low is not None
    assert alone is not None
    assert alone.stderr is not None
    assert difference.low > 5
    assert difference.stderr is not None
    assert difference.stderr < 0.1 * alone.stderr
