"""`bench`, really run, and what `plan` makes of it."""

import json
from collections.abc import Callable

import pytest


@pytest.fixture(scope="module")
def measured(fromscratch: Callable) -> dict:
    answer = fromscratch(
        "bench", "tiny.toml", "--micro-batch", "1,4", "--precision", "fp32,fp16", "--json",
        OMP_NUM_THREADS="1",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def test_rows_have_what_a_run_would_have(measured: dict):
    assert measured["finished"]
    assert [(r["precision"], r["micro_batch"]) for r in measured["rows"]] == [
        ("fp32", 1),
        ("fp32", 4),
    ]
    for row in measured["rows"]:
        assert row["problem"] is None
        assert row["tokens_per_s"] == pytest.approx(128 / row["step_seconds"])
        assert 0 < row["mfu"] < 1
        assert row["peak_measured"]
        assert 2**26 < row["peak_bytes"] < 2**33
    assert sum(row["best"] for row in measured["rows"]) == 1
    assert [s["precision"] for s in measured["skipped"]] == ["fp16"]


def test_a_validation_set_of_the_size_it_says_takes_a_twentieth(measured: dict):
    best = next(row for row in measured["rows"] if row["best"])
    validation = measured["validation"]
    seconds = validation["affordable_tokens"] / best["val_tokens_per_s"]
    training = 3 * best["step_seconds"]  # eval.every = 3
    assert seconds / (seconds + training) == pytest.approx(0.05, rel=0.02)


def test_plan_knows_what_was_measured(measured: dict, fromscratch: Callable):
    best = next(row for row in measured["rows"] if row["best"])
    plan = json.loads(fromscratch("plan", "tiny.toml", "--gpu", "here", "--json").out)
    assert plan["budget"]["tokens_per_s"] == pytest.approx(best["tokens_per_s"])
    # 6 steps of 128 tokens; validations of up to 1,048,576 targets at steps 0, 3 and 6.
    seconds = (6 * 128 + 3 * 1_048_576 / 3) / best["tokens_per_s"]
    assert plan["budget"]["hours"] == pytest.approx(seconds / 3600)
    text = fromscratch("plan", "tiny.toml").out
    assert f"measured on {best['device']}" in text


def test_the_table_is_for_people(measured: dict, fromscratch: Callable):
    answer = fromscratch("bench", "tiny.toml", "--micro-batch", "2", "--precision", "fp32")
    assert answer.code == 0, answer.err
    assert "tokens/s" in answer.out
    assert "best" in answer.out
    assert "measured here with matrix products" in answer.out
    assert "cost at most 5% of the run" in answer.out
    assert "train.micro_batch=2" in answer.out
