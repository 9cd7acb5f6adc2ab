"""The sentences say what a curve made for the purpose shows."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fromscratch.report.facts import gather
from fromscratch.report.read import read_run
from fromscratch.report.words import sentences

RunMaker = Callable[..., Path]
Curve = Callable[[int], float]


def said(make_run: RunMaker, train: Curve | None, held_out: Curve | None, **content: Any) -> str:
    """The sentences on a run of 1,000 steps with these two curves."""
    rows: list[dict[str, Any]] = []
    for step in range(0, 1001, 10):
        if train is not None and step:
            rows.append({"step": step, "loss": train(step), "lr": content.get("lr", _flat)(step)})
        if held_out is not None and step % 100 == 0:
            rows.append({"step": step, "set": "validation", "val_loss": held_out(step)})
    events = [{"event": "started", "step": 0}, {"event": content.get("end", "finished")}]
    record = read_run(make_run(metrics=rows, events=events))
    return " ".join(sentences(record, gather(record)))


def _flat(step: int) -> float:
    return 0.001


def _falling(step: int) -> float:
    return 6 - step / 500


def test_overfitting_names_the_best_step(make_run: RunMaker) -> None:
    text = said(make_run, _falling, lambda step: 4 + abs(step - 400) / 500)
    assert "best at step 400 (4.000)" in text
    assert "risen to 5.200 at step 1,000" in text
    assert "memorises" in text
    assert "checkpoint of step 400" in text
    assert "far below the held-out loss" in text


def test_a_run_that_breaks_is_not_called_overfitting(make_run: RunMaker) -> None:
    def broken(step: int) -> float:
        return 4 + abs(step - 400) / 500

    text = said(make_run, broken, broken)
    assert "something went wrong" in text
    assert "memoris" not in text.split("something went wrong")[0]


def test_still_falling_asks_for_a_longer_run(make_run: RunMaker) -> None:
    text = said(make_run, _falling, _falling)
    assert "still falling at the end: 4.400 at step 800, 4.000 at step 1,000 (9.1% less)" in text
    assert "longer run would very likely do better" in text
    assert "no sign of memorising" in text


def test_a_falling_rate_is_given_its_part(make_run: RunMaker) -> None:
    text = said(make_run, _falling, _falling, lr=lambda step: 1e-3 * (1 - step / 1001))
    assert "falling learning rate" in text


def test_a_run_under_way_has_no_end(make_run: RunMaker) -> None:
    text = said(make_run, _falling, _falling, end="resumed")
    assert "still falling so far" in text
    assert "longer run" not in text


def test_flat_is_called_flat(make_run: RunMaker) -> None:
    text = said(make_run, lambda s: 3 + math.exp(-s / 50), lambda s: 3 + math.exp(-s / 50))
    assert "flat at the end (3.000 at step 800, 3.000 at step 1,000)" in text


@pytest.mark.parametrize(
    ("train", "held_out", "text"),
    [
        (None, None, "No step of training and no validation was recorded."),
        (_falling, None, "No validation was recorded; the training loss went from 5.980"),
        (None, _falling, "still falling"),
    ],
)
def test_half_of_a_run(
    make_run: RunMaker, train: Curve | None, held_out: Curve | None, text: str
) -> None:
    assert text in said(make_run, train, held_out)


def test_losses_that_are_not_finite_are_counted(make_run: RunMaker) -> None:
    text = said(make_run, lambda s: math.nan if 500 <= s < 520 else 3.0, lambda s: 3.0)
    assert "2 of 100 logged losses are not finite, the first at step 500" in text


def test_a_last_validation_that_is_not_finite_does_not_hide_the_rest(make_run: RunMaker) -> None:
    text = said(make_run, _falling, lambda s: math.inf if s == 1000 else _falling(s))
    assert "4.200 at step 900" in text
