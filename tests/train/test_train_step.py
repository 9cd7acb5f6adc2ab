"""One update: its arithmetic against a reference that knows nothing of micro-batches."""

import math

import pytest
import torch
import torch.nn.functional as F
from tiny import double_loss, pieces, ragged, tiny, weights

from fromscratch.data.batches import Batch
from fromscratch.foundation.schedules import StepSettings
from fromscratch.train.objectives import next_token_loss
from fromscratch.train.step import train_step


def one_step(size: int, *, name: str = "adamw", clip: float = 1.0, n: int = 8):
    model, optimizers = tiny(name)
    batch = ragged(n)
    outcome = train_step(
        model, double_loss, optimizers, pieces(batch, size), settings=StepSettings(clip=clip)
    )
    return model, outcome


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_accumulation_equals_one_big_batch(name, size):
    """R25: also where the micro-batches have different numbers of targets, one of them none."""
    model, outcome = one_step(size, name=name)
    whole, expected = one_step(8, name=name)
    assert outcome.n_targets == expected.n_targets
    assert outcome.loss == pytest.approx(expected.loss, rel=1e-12)
    assert outcome.grad_norm == pytest.approx(expected.grad_norm, rel=1e-10)
    # Muon iterates in float32 on the way, Adam divides tiny numbers by tiny ones.
    tolerance = 1e-5 if name == "muon" else 1e-8
    for key, value in weights(whole).items():
        torch.testing.assert_close(weights(model)[key], value, rtol=0, atol=tolerance)


def test_the_logged_loss_is_the_mean_over_all_targets_of_the_step():
    """R24: not the last micro-batch, not a mean of means."""
    model, _ = tiny()
    batch = ragged(8)
    with torch.no_grad():
        logits = model(batch.ids)
    chosen = batch.targets >= 0
    expected = F.cross_entropy(logits[chosen], batch.targets[chosen], reduction="mean")
    _, outcome = one_step(2)
    assert outcome.n_targets == int(chosen.sum())
    assert outcome.loss == pytest.approx(float(expected), rel=1e-12)
    means = [float(double_loss(model, b).detach()) / max(1, b.n_targets) for b in pieces(batch, 2)]
    assert outcome.loss != pytest.approx(sum(means) / 4, rel=1e-3), "the test could not tell"


def test_pretraining_sums_over_targets():
    model, _ = tiny()
    batch = ragged(4)
    ours = next_token_loss(model.float(), batch).detach()
    logits = model(batch.ids).detach().double()
    picked = logits.log_softmax(-1).gather(-1, batch.targets.clamp(min=0)[..., None])[..., 0]
    assert float(ours) == pytest.approx(-float(picked[batch.targets >= 0].sum()), rel=1e-5)


@pytest.mark.parametrize("clip", [0.0, 0.01, 1e6])
def test_clipping(clip):
    """The norm that is reported is that before clipping; what is applied has at most `clip`."""
    seen: list[float] = []
    model, optimizers = tiny()
    step = optimizers.step

    def look() -> None:
        total = sum(float((p.grad**2).sum()) for p in model.parameters() if p.grad is not None)
        seen.append(math.sqrt(total))
        step()

    optimizers.step = look
    outcome = train_step(
        model, double_loss, optimizers, pieces(ragged(8), 4), settings=StepSettings(clip=clip)
    )
    reference, _ = tiny()
    batch = ragged(8)
    (double_loss(reference, batch) / batch.n_targets).backward()
    norm = math.sqrt(sum(float((p.grad**2).sum()) for p in reference.parameters()))
    assert outcome.grad_norm == pytest.approx(norm, rel=1e-9)
    assert outcome.clipped == (0 < clip < norm)
    assert seen[0] == pytest.approx(min(norm, clip) if clip else norm, rel=1e-4)


@pytest.mark.parametrize("fraction", [0.1, 1.0])
def test_the_rate_of_the_first_step_is_the_scheduled_one(fraction):
    """R23, by hand: Adam's first step is lr * (sign of the gradient) where eps is nothing."""
    model, optimizers = tiny(weight_decay=0.5, eps=1e-8, clip=0.0)
    before = weights(model)
    batch = ragged(8)
    train_step(model, double_loss, optimizers, [batch], settings=StepSettings(lr=fraction))
    reference, _ = tiny()
    (double_loss(reference, batch) / batch.n_targets).backward()
    lr = 0.01 * fraction
    for name, parameter in reference.named_parameters():
        gradient = parameter.grad
        decay = 0.5 if parameter.ndim == 2 else 0.0
        expected = before[name] * (1 - lr * decay) - lr * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(weights(model)[name], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", [0, 1, 3])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_loss_that_is_not_finite_changes_nothing(name, value, where):
    model, optimizers = tiny(name)
    train_step(
        model, double_loss, optimizers, pieces(ragged(8), 2), settings=StepSettings(clip=1.0)
    )
    before = weights(model)
    state = {key: tensor.clone() for key, tensor in optimizers.state().items()}
    calls = 0

    def poisoned(model, batch):
        nonlocal calls
        calls += 1
        loss = double_loss(model, batch)
        return loss * value if calls - 1 == where else loss

    outcome = train_step(
        model,
        poisoned,
        optimizers,
        pieces(ragged(8, 1), 2),
        settings=StepSettings(lr=0.5, clip=1.0),
    )
    assert not outcome.applied
    assert not math.isfinite(outcome.loss)
    assert all(torch.equal(tensor, before[key]) for key, tensor in weights(model).items())
    after = optimizers.state()
    assert set(after) == set(state)
    assert all(torch.equal(after[key], tensor) for key, tensor in state.items())
    assert all(p.grad is None for p in model.parameters())
    # And the next step is as if the bad one had never been.
    again = train_step(
        model, double_loss, optimizers, pieces(ragged(8, 2), 2), settings=StepSettings(clip=1.0)
    )
    assert again.applied
    other, others = tiny(name)
    for seed in (0, 2):
        train_step(
            other, double_loss, others, pieces(ragged(8, seed), 2), settings=StepSettings(clip=1.0)
        )
    assert all(torch.equal(tensor, weights(other)[key]) for key, tensor in weights(model).items())


def test_a_gradient_that_is_not_finite_changes_nothing():
    """The loss can be finite where its gradient is not: sqrt at zero, say."""
    model, optimizers = tiny()
    before = weights(model)

    def rooted(model, batch):
        return double_loss(model, batch) + (model.embed.weight * 0).sum().sqrt()

    outcome = train_step(model, rooted, optimizers, [ragged(4)], settings=StepSettings(clip=1.0))
    assert math.isfinite(outcome.loss)
    assert not math.isfinite(outcome.grad_norm)
    assert not outcome.applied
    assert all(torch.equal(tensor, before[key]) for key, tensor in weights(model).items())
    assert optimizers.state() == {}


def test_a_stop_between_micro_batches_changes_nothing():
    model, optimizers = tiny()
    before = weights(model)
    asked = iter([False, False, True])
    outcome = train_step(
        model, double_loss, optimizers, pieces(ragged(8), 2),
        settings=StepSettings(clip=1.0), should_stop=lambda: next(asked),
    )  # fmt: skip
    assert outcome is None
    assert all(torch.equal(tensor, before[key]) for key, tensor in weights(model).items())
    assert all(p.grad is None for p in model.parameters())
    assert optimizers.state() == {}


def test_a_step_without_targets_is_a_programmers_mistake():
    model, optimizers = tiny()
    batch = ragged(2)
    empty = Batch(batch.ids, torch.full_like(batch.targets, -100))
    with pytest.raises(AssertionError):
        train_step(model, double_loss, optimizers, [empty], settings=StepSettings(clip=1.0))
