"""What is in force in each update: by hand for small runs, and what a recipe may not ask for."""

from __future__ import annotations

import pytest

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.schedules import StepSettings
from fromscratch.optim.config import OptimConfig
from fromscratch.optim.run_settings import RunSettings, run_settings
from fromscratch.optim.schedule_config import PhaseConfig, ScheduleConfig


def settings(steps: int, schedule: dict, *phases: dict, **optim: object) -> RunSettings:
    return run_settings(
        OptimConfig(**optim),  # type: ignore[arg-type]
        ScheduleConfig(**schedule),
        [PhaseConfig(**phase) for phase in phases],
        steps,
    )


def test_without_schedules_everything_stays_as_optim_says():
    run = settings(50, {"name": "constant"}, weight_decay=0.3, clip=0.7, betas=(0.8, 0.9))
    expected = StepSettings(1.0, 0.7, weight_decay=0.3, muon_weight_decay=0.0, momentum=0.8)
    assert {run.at(step) for step in range(1, 60)} == {expected}


def test_all_three_schedules_by_hand():
    """Ten updates: warmup 2, decay over the last 4; momentum 0.8 to 0.9 over 4 and then to 0.7."""
    run = settings(
        10,
        {
            "name": "wsd", "warmup_steps": 2, "decay_fraction": 0.4, "min_lr": 0.002,
            "weight_decay": {"name": "linear", "end": 0.5},
            "momentum": {"start": 0.8, "warmup_steps": 4, "end": 0.7},
        },
        name="muon", lr=0.01, weight_decay=0.1, muon_weight_decay=0.2, muon_momentum=0.9, clip=2.0,
    )  # fmt: skip
    now = [run.at(n) for n in range(1, 11)]
    assert [s.lr for s in now] == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4])
    fractions = [1, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55]
    assert [s.weight_decay for s in now] == pytest.approx([0.1 * f for f in fractions])
    assert [s.muon_weight_decay for s in now] == pytest.approx([0.2 * f for f in fractions])
    momentum = [0.8, 0.825, 0.85, 0.875, 0.9, 0.9, 0.9, 0.85, 0.8, 0.75]
    assert [s.momentum for s in now] == pytest.approx(momentum)
    assert {s.clip for s in now} == {2.0}


def test_without_muon_the_momentum_is_adamw_s_first_beta():
    run = settings(
        10,
        {"name": "constant", "momentum": {"start": 0.5, "warmup_steps": 4}},
        betas=(0.9, 0.95),
        muon_momentum=0.1,
    )
    values = [run.at(n).momentum for n in (1, 3, 5, 10)]
    assert values == pytest.approx([0.5, 0.7, 0.9, 0.9])


def test_the_second_phase_of_the_662m_system():
    """Constant, and from a step on linear to zero with a tighter clip."""
    run = settings(
        40_000,
        {"name": "constant"},
        {"from_step": 32_000, "schedule": "linear", "min_lr": 0.0, "clip": 0.5},
        name="muon", lr=3e-4, muon_lr=0.03, clip=1.0, weight_decay=0.1,
    )  # fmt: skip
    before, first, last = run.at(31_999), run.at(32_000), run.at(40_000)
    assert (before.lr, before.clip) == (1.0, 1.0)
    assert (first.lr, first.clip) == (1.0, 0.5)
    assert run.at(36_000).lr == pytest.approx(4001 / 8001)
    assert last.lr == pytest.approx(1 / 8001), "the last update is not wasted on a rate of zero"
    assert last.weight_decay == 0.1
    assert [run.phase_of(n) for n in (1, 31_999, 32_000, 40_000)] == [1, 1, 2, 2]
    assert [n for n in range(31_990, 32_010) if run.begins(n)] == [32_000]
    said = "learning rate linear from 0.0003 to 0 by the end of the run, clip 0.5"
    assert run.describe_phase(2) == said


def test_a_phase_without_a_schedule_leaves_the_learning_rate_alone():
    plain = settings(20, {"name": "cosine", "warmup_steps": 3})
    run = settings(
        20,
        {"name": "cosine", "warmup_steps": 3},
        {"from_step": 5, "clip": 0.0},
        {"from_step": 9, "weight_decay": 0.0, "clip": 0.25},
        weight_decay=0.1,
    )
    assert [run.at(n).lr for n in range(1, 21)] == [plain.at(n).lr for n in range(1, 21)]
    assert [run.at(n).clip for n in (4, 5, 8, 9, 20)] == [1.0, 0.0, 0.0, 0.25, 0.25]
    assert [run.at(n).weight_decay for n in (8, 9)] == [0.1, 0.0]
    assert run.describe_phase(2) == "no clipping"
    assert run.describe_phase(3) == "clip 0.25, weight decay 0"


def test_one_phase_s_schedule_ends_where_the_next_one_s_begins():
    """And not at one that only changes the clip."""
    run = settings(
        16,
        {"name": "constant"},
        {"from_step": 5, "schedule": "linear", "min_lr": 0.5},
        {"from_step": 7, "clip": 0.5},
        {"from_step": 9, "schedule": "constant"},
        {"from_step": 13, "schedule": "wsd", "decay_fraction": 0.5},
        lr=1.0,
    )
    expected = [1, 1, 1, 1, 1, 0.875, 0.75, 0.625, *[0.5] * 4, 0.5, 0.5, 0.5, 0.25]
    assert [run.at(n).lr for n in range(1, 17)] == pytest.approx(expected)
    assert run.describe_phase(4) == "learning rate constant at 0.5"
    assert run.describe_phase(5) == "learning rate wsd from 0.5 to 0 by the end of the run"


def test_a_phase_added_later_changes_nothing_before_it():
    schedule = {"name": "cosine", "warmup_steps": 5, "min_lr": 1e-4}
    before = settings(100, schedule)
    after = settings(100, schedule, {"from_step": 60, "schedule": "linear"})
    assert [after.at(n) for n in range(1, 61)] == [before.at(n) for n in range(1, 61)]
    assert after.at(61) != before.at(61)


def test_phases_after_the_end_are_left_out():
    run = settings(10, {"name": "constant"}, {"from_step": 11, "clip": 0.5})
    assert run.phases == ()
    assert run.at(10).clip == 1.0


def test_a_phase_that_would_raise_the_learning_rate_is_refused():
    with pytest.raises(
        UserError, match=r"from step 80 on would raise .* 0\.0001.*min_lr is 0\.001"
    ):
        settings(
            100,
            {"name": "wsd", "decay_fraction": 0.5, "min_lr": 1e-4},
            {"from_step": 60, "schedule": "linear", "min_lr": 1e-4},
            {"from_step": 80, "schedule": "cosine", "min_lr": 1e-3},
            lr=0.01,
        )


def test_a_warmup_that_leaves_nothing_is_refused():
    with pytest.raises(UserError, match=r"schedule\.warmup_steps = 10 leaves nothing"):
        settings(10, {"warmup_steps": 10})
    assert settings(1, {"warmup_steps": 10}).at(1).lr == 1.0
