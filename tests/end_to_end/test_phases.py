"""Phases of a run: what is in force at a border, and a resume on either side of it."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from command import call, send
from endings import assert_same_end, events, rows

SCHEDULES = [
    "schedule.name=constant",
    "schedule.weight_decay.name=linear",
    "schedule.momentum.start=0.5",
    "schedule.momentum.warmup_steps=20",
]
LINEAR = '{from_step=11, schedule="linear", min_lr=0.001, clip=0.05, weight_decay=0.2}'
PHASES = f"train.phase=[{LINEAR}, {{from_step=17, clip=0.0}}]"


@pytest.fixture(scope="module")
def calm(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in three phases that nothing happened to."""
    run = tmp_path_factory.mktemp("phases") / "calm"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        done = call("train", "recipe.toml", *SCHEDULES, PHASES, "--run", run)
    assert done.code == 0, done.err
    assert "step     11  phase: learning rate linear from 0.003 to 0.001" in done.err
    return run


def test_every_row_has_what_was_in_force(calm: Path):
    """By hand, for 24 steps with three of warmup."""
    steps = {r["step"]: r for r in rows(calm / "metrics.jsonl") if "loss" in r}
    assert len(steps) == 24
    for n, row in steps.items():
        rate = 0.003 * (min(1.0, n / 3) if n < 11 else 1 - (n - 11) / 14 * 2 / 3)
        assert row["lr"] == pytest.approx(rate)
        assert row["lrs"] == pytest.approx(dict.fromkeys(("hidden", "embed", "plain"), rate))
        peak = 0.1 if n < 11 else 0.2
        assert row["weight_decay"] == pytest.approx({"adamw": peak * (1 - (n - 1) / 24)})
        assert row["momentum"] == pytest.approx(0.5 + 0.4 * min(1.0, (n - 1) / 20))
        clip = 1.0 if n < 11 else 0.05 if n < 17 else 0.0
        assert row["clipped"] == (0 < clip < row["grad_norm"])
    assert all(steps[n]["clipped"] for n in range(11, 17)), "else the clip was not seen to act"
    assert not any(steps[n]["clipped"] for n in range(17, 25))
    said = events(calm, "phase")
    assert [(e["step"], e["phase"]) for e in said] == [(11, 2), (17, 3)]
    assert said[0]["message"] == (
        "learning rate linear from 0.003 to 0.001 by the end of the run, clip 0.05, "
        "weight decay 0.2"
    )
    assert said[1]["message"] == "no clipping"


@pytest.mark.parametrize("step", [10, 11, 16])
def test_a_resume_beside_a_border_is_the_run_that_was_not_stopped(
    at: Callable, run: Path, calm: Path, step: int
):
    at("row", step, send(signal.SIGTERM))
    done = call("train", "recipe.toml", *SCHEDULES, PHASES, "--run", run)
    assert f"stopped and saved at step {step}" in done.out, done.err
    done = call("resume", run)
    assert done.code == 0, done.err
    assert_same_end(run, calm)
    assert [e["step"] for e in events(run, "phase")] == [11, 17]


def test_a_phase_added_to_a_run_on_resume_is_that_of_one_that_always_had_it(run: Path):
    """R37: an override, recorded with its step; and nothing before it becomes another."""
    with_phase = f"train.phase=[{LINEAR}]"
    planned = run.with_name("planned")
    assert call("train", "recipe.toml", with_phase, "--run", planned).code == 0
    # Both end with the same recipe; the second was told of its phase half way.
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 10)
        assert call("train", "recipe.toml", "--run", run).code == 0
    done = call("resume", run, with_phase)
    assert done.code == 0, done.err
    (changed,) = events(run, "recipe_changed")
    assert changed["step"] == 10
    assert "train.phase=[{'from_step': 11" in changed["message"]
    assert_same_end(run, planned)


def stop_after(patch: pytest.MonkeyPatch, step: int) -> None:
    import instants

    instants.at(patch, "row", step, send(signal.SIGTERM))


def test_a_phase_that_never_begins_is_said_at_the_start(run: Path):
    late = "train.phase=[{from_step=25, clip=0.5}]"
    done = call("train", "recipe.toml", late, "train.steps=4", "--run", run)
    assert done.code == 0, done.err
    said = [e["message"] for e in events(run, "doctor")]
    dropout, late = (message for message in said if message.endswith("(R30)"))
    assert late == (
        "the [[train.phase]] from step 25 on never begins: the run ends at step 4; train longer, "
        "or write train.phase=[] (R30)"
    )
    assert dropout.startswith("model.dropout = 0.1 in a run that reads no text twice (0.")
    assert "never begins" in done.err
    assert not events(run, "phase")
