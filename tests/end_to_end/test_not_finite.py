"""R26: what is not finite in the middle of a run is refused, logged with its windows, survived."""

import math
import signal
from collections.abc import Callable
from typing import Any

import pytest
from command import call, send
from endings import assert_same_end, checkpoint, events, lines, rows

from fromscratch.runs import objectives, session


def poison(patch: pytest.MonkeyPatch, steps: Callable[[int], bool], run: Any) -> None:
    """The objective gives NaN or infinity in one micro-batch of some steps."""
    objective = objectives.next_token_loss
    train_step = session.Trainer._advance
    current = {"step": 0}

    def advance(self: Any) -> bool:
        current["step"] = self.state.progress.step + 1
        current["calls"] = 0
        return train_step(self)

    def loss(model: Any, batch: Any) -> Any:
        current["calls"] += 1
        value = objective(model, batch)
        bad = math.inf if current["step"] == 8 else math.nan
        return value * bad if steps(current["step"]) and current["calls"] == 3 else value

    patch.setattr(session.Trainer, "_advance", advance)
    patch.setattr(objectives, "next_token_loss", loss)


def test_bad_steps_are_skipped_logged_and_survived(run, monkeypatch):
    poison(monkeypatch, lambda step: step in (7, 8, 15), run)
    done = call("train", "recipe.toml", "--run", run)
    assert done.code == 0, done.err
    skipped = events(run, "skipped_step")
    assert [e["step"] for e in skipped] == [7, 8, 15]
    assert [e["samples"] for e in skipped] == [[48, 56], [56, 64], [112, 120]]
    assert "loss nan" in skipped[0]["message"]
    assert "skipped step" in done.err
    bad = {r["step"]: r["loss"] for r in lines(run / "metrics.jsonl") if not r.get("applied", True)}
    assert bad == {7: "nan", 8: "inf", 15: "nan"}
    assert all(isinstance(r["loss"], float) for r in rows(run / "metrics.jsonl")
               if "loss" in r and r["step"] not in bad)  # fmt: skip


def test_a_run_that_only_fails_ends_with_a_sentence_also_when_it_was_interrupted(
    run, monkeypatch, at
):
    """Ten bad steps in a row end a run at the same step, however often it was resumed."""
    poison(monkeypatch, lambda step: step >= 6, run)
    at("row", 11, send(signal.SIGTERM))
    assert call("train", "recipe.toml", "guard.rollbacks=0", "--run", run).code == 0
    assert checkpoint(run).name == "step-00000011"
    done = call("resume", run)
    assert done.code == 2
    assert "10 updates in a row were refused, up to step 15; the last: loss nan" in done.err
    assert "Traceback" not in done.err
    assert events(run, "failed")[-1]["step"] == 15


def test_an_interruption_between_bad_steps_changes_nothing(run, place, monkeypatch, at):
    poison(monkeypatch, lambda step: step in (7, 8, 15), run)
    assert call("train", "recipe.toml", "--run", run.with_name("calm")).code == 0
    at("row", 7, send(signal.SIGTERM))
    assert call("train", "recipe.toml", "--run", run).code == 0
    assert call("resume", run).code == 0
    assert_same_end(run, run.with_name("calm"))
