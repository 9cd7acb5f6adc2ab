"""The loss scaler: its scales against torch's own, its state to the bit, and fp16 that trains."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import pieces, ragged, tiny, weights

from fromscratch.data.batches import Batch
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.schedules import StepSettings
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import build_optimizers
from fromscratch.optim.config import OptimConfig
from fromscratch.runs.recipe_files import load_recipe
from fromscratch.train.loss_scale import HIGHEST, LossScaleConfig, LossScaler
from fromscratch.train.objectives import next_token_loss
from fromscratch.train.precision import Precision
from fromscratch.train.step import train_step

CPU = torch.device("cpu")


def torchs_scales(overflows: list[bool], config: LossScaleConfig) -> list[float]:
    """The scale after each step, as torch.amp.GradScaler has it."""
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    scaler = torch.amp.GradScaler(
        "cpu", init_scale=config.initial, growth_interval=config.growth_interval
    )
    scales = []
    for overflow in overflows:
        optimizer.zero_grad()
        scaler.scale(weight.sum()).backward()
        if overflow:
            weight.grad.fill_(math.inf)
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    return scales


@given(
    overflows=st.lists(st.booleans(), min_size=1, max_size=16),
    interval=st.integers(1, 4),
    cut=st.integers(0, 16),
)
def test_the_scales_are_torchs_also_across_a_resume(overflows, interval, cut):
    config = LossScaleConfig(initial=2**17, growth_interval=interval)
    scaler = LossScaler(config)
    scales = []
    for number, overflow in enumerate(overflows):
        if number == cut:
            scaler = LossScaler(config, json.loads(json.dumps(scaler.state())))
        seen = scaler.see(loss=3.0, grad_norm=math.inf if overflow else 1.0)
        assert seen == overflow
        scales.append(scaler.scale)
    expected = torchs_scales(overflows, config)
    assert scales == [min(scale, HIGHEST) for scale in expected] or max(expected) > HIGHEST


def test_at_the_lowest_scale_an_overflow_is_called_one_no_more():
    """So that the guard counts it, and the run ends with a sentence."""
    scaler = LossScaler(LossScaleConfig(initial=4))
    assert [scaler.see(loss=3.0, grad_norm=math.nan) for _ in range(4)] == [
        True,
        True,
        False,
        False,
    ]
    assert scaler.scale == 1.0


def test_the_scale_has_a_highest():
    scaler = LossScaler(LossScaleConfig(initial=2**23, growth_interval=1))
    for _ in range(3):
        scaler.see(loss=3.0, grad_norm=1.0)
    assert scaler.scale == 2.0**24


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_says_nothing_of_the_scale(loss):
    scaler = LossScaler(LossScaleConfig(), {"scale": 1024.0, "good_steps": 7})
    assert not scaler.see(loss=loss, grad_norm=math.nan)
    assert scaler.state() == {"scale": 1024.0, "good_steps": 7}


def test_a_scale_that_would_round_is_refused():
    with pytest.raises(UserError, match=r"not a power of two.*512 or 1024"):
        load_recipe("try", ["train.loss_scale.initial=1000"])


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("scale", [2.0, 65536.0, HIGHEST])
def test_scaled_and_unscaled_gradients_are_the_same_to_the_bit(name, scale):
    """Several steps, in a precision where nothing overflows: the scale is a power of two."""

    def train(scaler):
        model, optimizers = tiny(name)
        model.float()
        outcomes = [
            train_step(
                model, next_token_loss, optimizers, pieces(ragged(8, seed), 2),
                settings=StepSettings(clip=0.1), scaler=scaler,
            )
            for seed in range(3)
        ]  # fmt: skip
        return outcomes, weights(model)

    plain, expected = train(None)
    scaled, found = train(LossScaler(LossScaleConfig(), {"scale": scale, "good_steps": 0}))
    assert scaled == plain
    assert all(o.clipped for o in plain)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def text_model(**options) -> GPT:
    base = {"n_layer": 2, "n_head": 2, "d_model": 32, "context": 32, "vocab_size": 128}
    return GPT(ModelConfig(**(base | options)), seed=1).train()


def windows(text: str, step: int, n: int = 8) -> list[Batch]:
    """Windows of 32 characters of a text, other ones at each step, as two micro-batches."""
    draw = torch.Generator().manual_seed(step)
    ids = torch.tensor([min(127, ord(c)) for c in text[:50_000]])
    starts = torch.randint(0, len(ids) - 33, (n,), generator=draw)
    rows = torch.stack([ids[s : s + 33] for s in starts])
    return pieces(Batch(rows[:, :-1], rows[:, 1:]), n // 2)


def test_an_overflow_lowers_the_scale_and_leaves_the_model_alone(shakespeare):
    """A real one: at this scale the blocks' gradients are above 65,504, fp16's largest number.

    The head's are summed before they are scaled, and stay small; so this family, in which a head
    that is not zero gives the blocks a gradient from the first step on.
    """
    precision = Precision("fp16", CPU)
    model = text_model(family="gpt2")
    optimizers = build_optimizers(model, OptimConfig(lr=0.003))
    before = weights(model)
    scaler = LossScaler(LossScaleConfig(initial=2**24, growth_interval=2))
    batches = windows(shakespeare, 0)
    overflows = 0
    while True:
        scale = scaler.scale
        outcome = train_step(
            model, next_token_loss, optimizers, batches,
            settings=StepSettings(clip=1.0), autocast=precision.autocast, scaler=scaler,
        )  # fmt: skip
        if outcome.applied:
            break
        overflows += 1
        assert outcome.overflowed
        assert math.isfinite(outcome.loss)
        assert not math.isfinite(outcome.grad_norm)
        assert scaler.scale == scale / 2
        assert all(torch.equal(p, before[key]) for key, p in weights(model).items())
        assert optimizers.state() == {}
    assert overflows > 2
    # The norm that is reported is the true one: that of fp32.
    twin = text_model(family="gpt2")
    exact = train_step(
        twin, next_token_loss, build_optimizers(twin, OptimConfig()), batches,
        settings=StepSettings(clip=1.0),
    )  # fmt: skip
    assert outcome.grad_norm == pytest.approx(exact.grad_norm, rel=0.01)
    assert outcome.loss == pytest.approx(exact.loss, rel=0.002)
    assert not outcome.overflowed
    assert scaler.state() == {"scale": scale, "good_steps": 1}


@pytest.mark.parametrize("name", ["fp16", "bf16"])
@pytest.mark.parametrize("family", ["gpt2", "modern"])
def test_half_precision_learns_a_text_as_fp32_does_and_its_weights_are_fp32(
    shakespeare, name, family
):
    def train(precision: Precision) -> list[float]:
        model = text_model(family=family)
        optimizers = build_optimizers(model, OptimConfig(lr=0.003))
        state = None
        losses = []
        for step in range(40):
            scaler = precision.scaler(state)
            outcome = train_step(
                model, next_token_loss, optimizers, windows(shakespeare, step),
                settings=StepSettings(clip=1.0), autocast=precision.autocast, scaler=scaler,
            )  # fmt: skip
            state = None if scaler is None else scaler.state()
            losses.append(outcome.loss)
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert {t.dtype for t in optimizers.state().values()} == {torch.float32}
        return losses

    exact, half = train(Precision("fp32", CPU)), train(Precision(name, CPU))
    assert exact[-1] < exact[0] - 1.2
    assert half != exact
    assert sum(half[-5:]) / 5 == pytest.approx(sum(exact[-5:]) / 5, abs=0.15)


def test_without_a_scale_fp16_loses_gradients(shakespeare):
    """R22, the reason for all of this: many gradients are below the smallest number of fp16."""

    def zeros(scale: float) -> int:
        model = text_model(init="normal")
        with Precision("fp16", CPU).autocast():
            # The share of one micro-batch in a step of half a million tokens.
            loss = sum(next_token_loss(model, batch) for batch in windows(shakespeare, 0)) / 524_288
        (loss * scale).backward()
        return sum(int((p.grad == 0).sum()) for p in model.blocks.parameters())

    assert zeros(1.0) > 10 * max(1, zeros(65_536.0))
