"""Answers of a ladder against the closed form, and what it says where it cannot know."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fromscratch.foundation.accelerators import accelerator_named
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import dump_json
from fromscratch.foundation.names import SCALE_LADDER
from fromscratch.plan.ladder import Rung, Size, sizes_of
from fromscratch.plan.law_fit import fit_law
from fromscratch.plan.scaling_law import FittedRun, ScalingLaw
from fromscratch.runs.recipe_files import load_recipe, parse_recipe, read_recipe
from fromscratch.runs.scale_answer import Answer, answer
from fromscratch.runs.scale_plan import (
    LadderPlan,
    Measure,
    flops_of,
    parameters_of,
    read_ladder,
    settle_ladder,
    speed_at,
)
from fromscratch.runs.scale_result import ScaleResult, read_result, write_result
from fromscratch.runs.spending import Question

LAW = ScalingLaw(e=1.8172, a=482.01, b=2085.43, alpha=0.3478, beta=0.3658)  # Besiroglu et al. 2024
DATA = {"train_tokens": 10**13, "val_tokens": 10**7, "val_bytes": 4 * 10**7, "tokenizer": "gpt2"}
RTX = Question(gpu="rtx3090", hours=48.0)


def measure(size: Size, flops: float = 1e13) -> Measure:
    rate = flops / size.flops_per_token
    return Measure(size.parameters, flops, rate, 3 * rate, 16, "NVIDIA A100-SXM4-80GB")


@functools.cache
def ladder(text: int = 10**13, noise: float = 0.002) -> tuple[LadderPlan, ScaleResult]:
    """A ladder of modern-124m whose runs lie on a known law, but for noise."""
    recipe = load_recipe("modern-124m")
    chosen = sizes_of(recipe.model)[1:9:2]
    rungs = [Rung(s, r * s.parameters, 10.0) for s in chosen for r in (5, 10, 20, 40)]
    plan = settle_ladder(
        recipe,
        read_recipe("modern-124m")[1],
        rungs,
        typed="modern-124m",
        each=1.0,
        budget=3600.0,
        overrides=(),
        reference=2_600_000_000,
        device="NVIDIA A100-SXM4-80GB",
        precision="bf16",
        measures=tuple(measure(size) for size in chosen),
        planned_in=30.0,
        data=DATA | {"train_tokens": text},
    )
    random = np.random.default_rng(0)
    runs = []
    for rung, values in zip(rungs, plan.combinations(), strict=True):
        trained = plan.recipe(values)
        loss = LAW.loss(rung.size.parameters, rung.tokens) * math.exp(noise * random.normal())
        flops = flops_of(trained, rung.tokens)
        runs.append(FittedRun(parameters_of(trained), rung.tokens, loss, flops, ""))
    fit = fit_law(runs, draws=25)
    return plan, ScaleResult("modern-124m", fit, 0.33, plan.data, 1_048_576, 1024)


def ask(question: Question, text: int = 10**13, noise: float = 0.002) -> list[Answer]:
    plan, result = ladder(text, noise)
    return answer(plan, result, question, measure=None)


def test_the_answer_is_the_closed_form_s():
    """What remains is that shapes come in whole heads, and attention's own arithmetic."""
    (found,) = ask(RTX)
    _, result = ladder()
    peak = accelerator_named("rtx3090").flops("bf16")
    assert peak is not None
    flops = 48 * 3600 * 0.4 * peak
    parameters, tokens = result.fit.law.optimum(flops)
    assert found.parameters == pytest.approx(parameters, rel=0.35)
    assert found.tokens == pytest.approx(tokens, rel=0.35)
    assert found.loss == pytest.approx(result.fit.law.loss(parameters, tokens), rel=0.02)
    assert found.loss == pytest.approx(LAW.loss(found.parameters, found.tokens), rel=0.02)
    assert found.takes_hours == pytest.approx(48, rel=0.001)
    low, high = found.parameters_between
    assert low <= found.parameters <= high
    assert found.bits_per_byte == pytest.approx(0.33 * found.loss)
    assert found.loss == min(loss for _, _, loss in found.candidates)


def test_what_is_to_be_typed_trains_what_was_promised():
    (found,) = ask(RTX)
    recipe = parse_recipe(
        read_recipe("modern-124m")[1], name="modern-124m", overrides=found.overrides
    )
    assert parameters_of(recipe) == found.parameters
    assert recipe.steps() == found.steps
    trained = found.steps * recipe.train.tokens_per_step
    assert trained == pytest.approx(found.tokens, rel=0.01)
    assert recipe.train.micro_batch == "auto"


def test_more_hours_or_more_devices_are_worth_a_larger_model():
    small, large = ask(RTX)[0], ask(replace(RTX, gpus=8))[0]
    same = ask(replace(RTX, hours=8 * 48.0))[0]
    assert small.parameters < large.parameters == same.parameters
    assert large.loss < small.loss


def test_a_little_text_bounds_the_answer():
    unbound, bound = ask(RTX, text=10**8)
    assert unbound.epochs > 4
    assert bound.tokens <= 4 * 10**8
    assert bound.loss >= unbound.loss
    assert bound.parameters >= unbound.parameters, "the hours go into size"
    assert bound.loss == min(loss for _, _, loss in bound.candidates)


def test_it_says_what_it_cannot_know():
    near, far = ask(replace(RTX, hours=0.2))[0], ask(replace(RTX, hours=48e4))[0]
    assert near.supported
    assert not far.supported
    assert any("times the arithmetic" in doubt for doubt in far.doubts)
    vague = ask(replace(RTX, hours=480), noise=0.03)[0]
    assert not vague.supported
    assert any("too wide" in doubt for doubt in vague.doubts)


def test_what_does_not_fit_into_memory_is_no_answer():
    (found,) = ask(replace(RTX, gpu="t4", gpus=64, hours=4800))
    whole = ask(replace(RTX, gpus=64, hours=4800))[0]
    assert found.parameters <= max(n for n, _, _ in found.candidates)
    assert max(n for n, _, _ in found.candidates) < max(n for n, _, _ in whole.candidates)


def test_on_its_own_device_the_answer_is_measured():
    plan, result = ladder()
    measured = []

    def slower(size: Size) -> Measure:
        measured.append(size.parameters)
        if len(measured) == 1:
            raise UserError("it does not fit into memory")
        return measure(size, 2e13)

    (found,) = answer(plan, result, Question(hours=24.0), measure=slower)
    assert measured[-1] == found.parameters
    assert measured[0] not in [n for n, _, _ in found.candidates]
    assert found.tokens_per_s == pytest.approx(
        2e13 / next(s for s in sizes_of(plan.base.model) if s.parameters == found.parameters)
        .flops_per_token
    )  # fmt: skip
    # The same card by its name is this device, too.
    (named,) = answer(plan, result, Question(gpu="a100-80gb", hours=24.0), measure=None)
    assert "assumed" not in named.basis


def test_a_slow_measurement_between_faster_ones_is_not_believed():
    sizes = sizes_of(load_recipe("modern-124m").model)[:3]
    measures = [measure(size, flops) for size, flops in zip(sizes, (2e12, 5e11, 8e12), strict=True)]
    assert speed_at(measures, sizes[1]) == pytest.approx(2e12 / sizes[1].flops_per_token)
    assert speed_at(measures, sizes[2]) == pytest.approx(8e12 / sizes[2].flops_per_token)


def test_plan_and_result_are_kept_as_they_are(tmp_path: Path):
    plan, result = ladder()
    (tmp_path / SCALE_LADDER).write_text(dump_json(plan.to_json()))
    assert read_ladder(tmp_path) == plan
    write_result(tmp_path, result, [ask(RTX)[0].to_json()])
    assert read_result(tmp_path) == result
    (tmp_path / SCALE_LADDER).write_text('{"format": 1}')
    with pytest.raises(UserError, match=r"ladder.json is damaged"):
        read_ladder(tmp_path)
