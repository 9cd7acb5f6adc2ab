"""Hours, money and what would fit: against numbers worked out by hand, and by trying them."""

import math

import pytest

from fromscratch.foundation.accelerators import accelerator_named
from fromscratch.foundation.errors import UserError
from fromscratch.model.config import ModelConfig
from fromscratch.model.count import count_parameters, flops_per_token
from fromscratch.optim.config import OptimConfig
from fromscratch.plan.budget import (
    Budget,
    Limits,
    Speed,
    Work,
    assumed_speed,
    make_budget,
    micro_batches,
    scaled,
)
from fromscratch.runs.measured import Measured, remember, shape_of
from fromscratch.runs.planning import make_plan
from fromscratch.runs.recipe_files import load_recipe
from fromscratch.runs.spending import Question

MODEL = ModelConfig(
    family="gpt2", n_layer=12, n_head=12, d_model=768, context=1024, vocab_size=50257
)
# A thousand tokens a second at 0.5 dollars an hour.
SPEED = Speed("a device", 1000.0, "made up", price=0.5)


def work(**changes: int) -> Work:
    numbers = {"steps": 3600, "tokens_per_step": 1024, "eval_every": 0, "eval_tokens": 0}
    return Work(MODEL, **(numbers | changes))


def answer(limits: Limits, *, gpus: int = 1, speed: Speed = SPEED, **changes: int) -> Budget:
    return make_budget(
        work(**changes), speed, limits, gpus=gpus, optim=OptimConfig(), candidates=[1, 2, 4],
        mfu=0.4, precision="auto",
    )  # fmt: skip


def test_hours_and_dollars() -> None:
    # 3,600 steps of 1,024 tokens at 1,000 a second are 1.024 hours, or 51.2 cents.
    one = answer(Limits())
    assert (one.hours, one.cost) == pytest.approx((1.024, 0.512))
    assert one.limit_hours is None
    assert one.fits
    two = answer(Limits(), gpus=2)
    assert (two.hours, two.cost, two.tokens_per_s) == pytest.approx((0.512, 0.512, 2000))


def test_validation_takes_a_third_of_training_s_time_for_each_token() -> None:
    # At steps 0, 1,000, 2,000, 3,000 and 3,600: five times 300,000 tokens as 500,000 trained ones.
    timed = work(eval_every=1000, eval_tokens=300_000)
    assert timed.validations == 5
    assert timed.trained_equivalent == pytest.approx(3600 * 1024 + 500_000)
    assert timed.validation_share == pytest.approx(500_000 / 4_186_400)
    assert work(eval_every=1200, eval_tokens=1).validations == 4
    assert work().validations == 2


@pytest.mark.parametrize(
    ("limits", "hours"),
    [
        (Limits(hours=2), 2),
        (Limits(dollars=2), 4),  # at 0.5 an hour
        (Limits(hours=3, dollars=1), 2),
        (Limits(), None),
    ],
)
def test_the_stricter_limit_holds(limits: Limits, hours: float | None) -> None:
    assert limits.hours_on(SPEED, 1) == hours


def test_a_shorter_run_is_the_longest_that_fits() -> None:
    for changes in ({}, {"eval_every": 7, "eval_tokens": 4096}):
        budget = answer(Limits(hours=0.5), **changes)
        assert not budget.fits
        shorter = next(p for p in budget.proposals if p.kind == "shorter")
        (override,) = shorter.overrides
        steps = int(override.removeprefix("train.steps="))
        assert answer(Limits(), **changes, steps=steps).hours <= 0.5
        assert answer(Limits(), **changes, steps=steps + 1).hours > 0.5
        assert shorter.hours == answer(Limits(), **changes, steps=steps).hours
    # Without validation: half an hour of 1,000 tokens a second in steps of 1,024.
    plain = answer(Limits(hours=0.5)).proposals[0]
    assert plain.overrides == [f"train.steps={1_800_000 // 1024}"]


def test_a_smaller_model_fits_with_twenty_tokens_a_parameter() -> None:
    long = {"steps": 3_000_000, "tokens_per_step": 1024}
    budget = answer(Limits(hours=500), **long)
    smaller = next(p for p in budget.proposals if p.kind == "smaller")
    chosen = {k: int(v) for k, v in (o.split("=") for o in smaller.overrides)}
    model = ModelConfig(
        family="gpt2",
        context=1024,
        vocab_size=50257,
        **{k.removeprefix("model."): v for k, v in chosen.items() if k.startswith("model.")},
    )
    tokens = chosen["train.steps"] * 1024
    assert tokens == pytest.approx(20 * count_parameters(model).total, rel=1e-3)
    # The same arithmetic a second, on a model that needs less of it for a token.
    seconds = tokens * flops_per_token(model) / (1000 * flops_per_token(MODEL))
    assert smaller.hours == pytest.approx(seconds / 3600, rel=1e-6)
    assert smaller.hours <= 500
    wider = scaled(MODEL, model.n_head + 1)
    assert wider is not None
    more = 20 * count_parameters(wider).total * flops_per_token(wider)
    assert more / (1000 * flops_per_token(MODEL)) / 3600 > 500, "the next larger does not fit"


def test_proportions_are_kept() -> None:
    half = scaled(MODEL, 6)
    assert half is not None
    assert (half.n_layer, half.n_head, half.d_model, half.d_ff) == (6, 6, 384, 1536)
    assert half.head_dim == MODEL.head_dim
    grouped = MODEL.model_copy(update={"n_kv_head": 4})
    assert scaled(grouped, 5) is None


def test_more_devices_save_hours_and_no_money() -> None:
    by_hours = {p.kind: p for p in answer(Limits(hours=0.4)).proposals}
    assert by_hours["gpus"].hours == pytest.approx(1.024 / 3)
    assert by_hours["gpus"].cost == pytest.approx(0.512)
    assert "gpus" not in {p.kind for p in answer(Limits(dollars=0.4)).proposals}


def test_other_cards_fit_and_the_cheapest_comes_first() -> None:
    big = {"steps": 4960, "tokens_per_step": 524_288}
    slow = assumed_speed(accelerator_named("t4"), MODEL, precision="auto", mfu=0.4)
    # 65 TFLOP/s of fp16 at 40%, over the model's FLOPs a token.
    assert slow.tokens_per_s == pytest.approx(26e12 / flops_per_token(MODEL))
    budget = answer(Limits(hours=12, dollars=30), speed=slow, **big)
    others = [p for p in budget.proposals if p.kind == "other_gpu"]
    assert 1 <= len(others) <= 3
    costs = [p.cost for p in others]
    assert costs == sorted(costs, key=lambda c: math.inf if c is None else c)
    assert all(p.hours <= 12 and p.cost is not None and p.cost <= 30 for p in others)


def test_saving_memory_lets_larger_micro_batches_in() -> None:
    found = micro_batches(MODEL, OptimConfig(), [1, 2, 4, 8, 16, 32, 64], 8 * 2**30, half=True)
    whole = found["as it is"]
    assert whole is not None
    assert (found["activation checkpointing"] or 0) > whole
    assert (found["8-bit AdamW"] or 0) >= whole
    assert "both" not in micro_batches(MODEL, OptimConfig(name="muon"), [1], 2**33, half=True)


# --- on a recipe ----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where nothing was measured


def budget_of(question: Question) -> Budget:
    budget = make_plan(load_recipe("modern-124m"), question).budget
    assert budget is not None
    return budget


def test_modern_124m_on_a_3090() -> None:
    budget = budget_of(Question(gpu="rtx3090", hours=48))
    # 4,960 steps of 524,288 tokens, and 21 validations of 1,048,576; 854,654,976 FLOPs a token
    # at 40% of 71 TFLOP/s.
    tokens = 4960 * 524_288 + 21 * 1_048_576 / 3
    assert budget.hours == pytest.approx(tokens * 854_654_976 / 28.4e12 / 3600)
    assert budget.fits
    assert not budget.proposals
    assert budget.cost == pytest.approx(budget.hours * 0.24)
    assert not budget_of(Question(gpu="rtx3090", hours=20)).fits
    assert budget_of(Question(gpu="rtx3090", price=1.0)).cost == pytest.approx(budget.hours)
    assert budget_of(Question(gpu="rtx3090", mfu=0.2)).hours == pytest.approx(2 * budget.hours)


def test_what_was_measured_replaces_what_is_assumed() -> None:
    recipe = load_recipe("modern-124m")
    seen = Measured(
        shape=shape_of(recipe), recipe=recipe.name, device="NVIDIA GeForce RTX 3090",
        card="rtx3090", precision="bf16", auto=True, micro_batch=32, tokens_per_s=50_000.0,
        peak_bytes=1, mfu=0.6, peak_measured=False, when="2026-11-21",
    )  # fmt: skip
    remember([seen])
    for gpu in ("rtx3090", "here"):
        budget = budget_of(Question(gpu=gpu))
        assert budget.tokens_per_s == 50_000
        assert "measured on 2026-11-21" in budget.basis
    assert budget_of(Question(gpu="rtx3090", mfu=0.4)).tokens_per_s == pytest.approx(
        33_230, rel=1e-3
    )
    other = make_plan(load_recipe("modern-124m", ["model.n_layer=6"]), Question(gpu="rtx3090"))
    assert other.budget is not None
    assert "assumed" in other.budget.basis, "another model was not measured"


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (Question(gpu="rtx3909"), 'Did you mean "rtx3090"'),
        (Question(gpu="here"), "fromscratch bench modern-124m"),
        (Question(hours=3), "--gpu rtx3090"),
        (Question(gpu="p100", dollars=3), "--price"),
        (Question(gpu="rtx3090", hours=-1), "--hours -1"),
        (Question(gpu="rtx3090", gpus=0), "--gpus 0"),
        (Question(gpu="rtx3090", mfu=40), "--mfu 40"),
        (Question(gpu="rtx3090", price=math.nan), "--price nan"),
    ],
)
def test_questions_without_an_answer(question: Question, said: str) -> None:
    with pytest.raises(UserError) as error:
        make_plan(load_recipe("modern-124m"), question)
    assert said in str(error.value)


def test_a_run_of_unknown_length_has_no_budget() -> None:
    with pytest.raises(UserError, match=r"train\.tokens or train\.steps"):
        make_plan(load_recipe("transformer-room-3m"), Question(gpu="rtx3090"))
