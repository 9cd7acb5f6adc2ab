"""What `plan` says of schedules, and what it and the start of a run warn of (R30)."""

from __future__ import annotations

import pytest

from fromscratch.report.schedule_picture import blocks
from fromscratch.runs.planning import make_plan
from fromscratch.runs.recipe_files import load_recipe
from fromscratch.runs.schedule_plan import plan_schedule, schedule_warnings


def words(name: str, *overrides: str) -> dict[str, str]:
    return make_plan(load_recipe(name, overrides)).schedule.words


def test_the_words_of_shipped_recipes():
    assert words("minigpt-124m") == {
        "learning rate": "warmup over 100 steps, cosine from 0.0006 to 6e-05 over 853 steps",
        "weight decay": "0.1",
        "momentum": "0.9",
        "clip": "1",
    }
    assert words("fgpt-662m")["from step 32,000"] == (
        "learning rate linear from 0.0003 to 0 by the end of the run, clip 0.5"
    )
    assert words("try")["learning rate"] == (
        "constant at 0.01 (muon 0.03, embed 0.3), linear to 0.0002 over the last 720 of 1,200 steps"
    )
    # The length of an epoch is not known before the data is.
    assert words("transformer-room-3m")["learning rate"] == "constant at 0.001"


def test_the_words_of_everything_that_can_be_scheduled():
    said = words(
        "modern-124m",
        "schedule.weight_decay.name=cosine",
        "schedule.weight_decay.end=0.1",
        "schedule.momentum.start=0.85",
        "schedule.momentum.warmup_steps=300",
        "schedule.momentum.end=0.9",
    )
    assert said["weight decay"] == "0 (muon 0.1), cosine to 10% of it"
    assert said["momentum"] == "0.85 to 0.95 over 300 steps, to 0.9 over the last 30% of the run"


def test_the_curve_is_what_will_be_in_force():
    recipe = load_recipe("fgpt-662m")
    curve = plan_schedule(recipe, 40_000).curve
    assert [curve[0].step, curve[-1].step] == [1, 40_000]
    assert len(curve) == 48
    settings = recipe.settings(40_000)
    for point in curve:
        assert point.lr == 3e-4 * settings.at(point.step).lr
        assert point.clip == (0.5 if point.step >= 32_000 else 1.0)
    assert [p.step for p in plan_schedule(recipe, 5).curve] == [1, 2, 3, 4, 5]
    assert plan_schedule(recipe, None).curve == []


def test_what_cannot_run_is_a_refusal_of_the_plan():
    plan = make_plan(load_recipe("try", ["schedule.warmup_steps=1200"]))
    assert plan.schedule.refusals == [
        "schedule.warmup_steps = 1,200 leaves nothing of a run of 1,200 steps. "
        "Shorten the warmup or train longer."
    ]


GOOD = [
    "schedule.name=cosine",
    "schedule.min_lr=0",
    "optim.clip=1",
    "model.dropout=0",
    "optim.weight_decay=0.1",
]
MOMENTUM = ["schedule.momentum.start=0.8", "schedule.momentum.warmup_steps=1000"]
PHASE = 'train.phase=[{from_step=%s, schedule="linear"%s}]'

# What is written -> how the sentence begins, and the advice in it.
WARNED = {
    "constant": (["schedule.name=constant"], "the learning rate never decays", "schedule.name=wsd"),
    "hardly decayed": (
        ["schedule.min_lr=4e-4", "optim.lr=6e-4"],
        "the learning rate never decays (it ends at 0.0004)",
        "write a smaller schedule.min_lr, such as 6e-05",
    ),
    "not clipped": (["optim.clip=0"], "gradients are not clipped", "optim.clip=1"),
    "dropout": (["model.dropout=0.2"], "model.dropout = 0.2", "model.dropout=0"),
    "a floor of nothing": (
        ["schedule.name=constant", PHASE % (500, ""), "schedule.min_lr=1e-5"],
        "schedule.min_lr = 1e-05 has no effect",
        "schedule.name=wsd",
    ),
    "nothing to schedule": (
        ["optim.weight_decay=0", "schedule.weight_decay.name=linear"],
        "schedule.weight_decay has no effect",
        "optim.weight_decay=0.1",
    ),
    "a momentum that never arrives": (MOMENTUM, "the momentum is still rising", "1,000 steps"),
    "a phase after the end": ([PHASE % (1001, "")], "the [[train.phase]] from step 1,001", "[]"),
    "the library's betas": (
        ["optim.betas=[0.9,0.999]"],
        "optim.betas = [0.9, 0.999] are a library's defaults",
        "write optim.betas=[0.9,0.95]",
    ),
    "a phase within the warmup": (
        ["optim.lr=1e-3", "schedule.warmup_steps=100", PHASE % (50, "")],
        "the [[train.phase]] from step 50 on takes over before the warmup of 100 steps has ended",
        "above 0.0005",
    ),
    "a phase after the decay": (
        ['train.phase=[{from_step=500, schedule="cosine"}, {from_step=800, schedule="linear"}]'],
        "the [[train.phase]] from step 800 on begins with a learning rate of 0",
        "min_lr",
    ),
}


@pytest.mark.parametrize("case", WARNED)
def test_each_is_warned_of_alone(case: str):
    written, begin, advice = WARNED[case]
    recipe = load_recipe("minigpt-124m", [*GOOD, "schedule.warmup_steps=0", *written])
    (sentence,) = map(str, schedule_warnings(recipe, 1000, {"text": 0.9}))
    assert sentence.startswith(begin)
    assert advice in sentence


@pytest.mark.parametrize(
    "changed",
    [
        [],
        ["schedule.name=constant", PHASE % (900, "")],  # a phase that decays is a decay
        ["schedule.min_lr=2e-4"],
        ["optim.clip=0", PHASE % (900, ", clip=0.5")],
        ["optim.weight_decay=0", "schedule.weight_decay.name=linear", "optim.name=muon",
         "optim.muon_weight_decay=0.1"],
        ["schedule.momentum.start=0.8", "schedule.momentum.warmup_steps=999"],
    ],
)  # fmt: skip
def test_and_what_is_well_is_not(changed: list[str]):
    recipe = load_recipe("minigpt-124m", [*GOOD, *changed])
    assert schedule_warnings(recipe, 1000, {"text": 0.9}) == []


def test_dropout_is_right_where_text_is_read_twice_or_nobody_knows():
    recipe = load_recipe("minigpt-124m", [*GOOD, "model.dropout=0.1"])
    assert schedule_warnings(recipe, 1000, {"a": 0.3, "b": 1.2}) == []
    assert schedule_warnings(recipe, 1000, None) == []
    assert len(schedule_warnings(recipe, 1000, {"a": 0.3, "b": 1.0})) == 1


def test_the_recipe_of_the_book_is_warned_of_and_the_default_is_not():
    said = make_plan(load_recipe("rtx3090-163m")).schedule.warnings
    assert [s.split()[0] for s in said] == ["the", "gradients", "optim.betas"]
    for name in ("modern-124m", "fgpt-662m", "minigpt-124m", "rangeflow-124m", "try"):
        assert make_plan(load_recipe(name)).schedule.warnings == []


def test_a_schedule_as_a_line():
    assert blocks([0.0, 1e-6, 0.5, 1.0], ascii_only=False) == " \u2581\u2584\u2588"
    assert blocks([0.0, 1e-6, 0.5, 1.0], ascii_only=True) == " .=@"
    assert blocks([0.0, 0.0], ascii_only=True) == "  "
    assert blocks([], ascii_only=True) == ""
