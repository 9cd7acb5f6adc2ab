"""The losses of pairs against plain arithmetic in Python's floats, and their derivatives."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fromscratch.train.preference_loss import Answers, dpo_losses, orpo_losses

BETAS = st.floats(0.01, 5.0)
PAIRS = st.lists(
    st.tuples(
        *[st.floats(-80.0, -1e-3)] * 4,  # chosen and rejected, now and before
        *[st.integers(1, 30)] * 2,  # their tokens
    ),
    min_size=1,
    max_size=5,
)


def tensors(pairs: list[tuple[float, ...]], dtype: torch.dtype = torch.float64) -> Answers:
    columns = [torch.tensor(column, dtype=dtype) for column in zip(*pairs, strict=True)]
    return Answers(columns[0], columns[1], columns[4], columns[5])


def before(pairs: list[tuple[float, ...]], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor([pair[2:4] for pair in pairs], dtype=dtype)


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x > -700 else x


@given(pairs=PAIRS, beta=BETAS, smoothing=st.floats(0.0, 0.49))
def test_dpo_is_the_papers_equation(
    pairs: list[tuple[float, ...]], beta: float, smoothing: float
) -> None:
    out = dpo_losses(tensors(pairs), before(pairs), beta=beta, label_smoothing=smoothing)
    for i, (chosen, rejected, chosen_before, rejected_before, _, _) in enumerate(pairs):
        # The ratio of the two ratios, as the paper writes it.
        margin = beta * math.log(
            math.exp(chosen - chosen_before) / math.exp(rejected - rejected_before)
        )
        expected = -(1 - smoothing) * log_sigmoid(margin) - smoothing * log_sigmoid(-margin)
        assert out.loss[i].item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
        reward = (out.chosen_reward - out.rejected_reward)[i].item()
        assert reward == pytest.approx(margin, rel=1e-9, abs=1e-9)


@given(pairs=PAIRS, beta=BETAS)
def test_orpo_is_the_papers_equation(pairs: list[tuple[float, ...]], beta: float) -> None:
    out = orpo_losses(tensors(pairs), beta=beta)
    for i, (chosen, rejected, _, _, n, m) in enumerate(pairs):
        p, q = math.exp(chosen / n), math.exp(rejected / m)
        ratio = math.log((p / (1 - p)) / (q / (1 - q)))
        expected = -math.log(p) - beta * log_sigmoid(ratio)
        assert out.loss[i].item() == pytest.approx(expected, rel=1e-8, abs=1e-8)
        assert out.chosen_reward[i].item() == pytest.approx(beta * math.log(p), rel=1e-9, abs=1e-9)


@given(pairs=PAIRS, beta=BETAS)
def test_gradients_are_the_derivatives(pairs: list[tuple[float, ...]], beta: float) -> None:
    answers, reference = tensors(pairs), before(pairs)

    def dpo(chosen: Tensor, rejected: Tensor) -> Tensor:
        sides = Answers(chosen, rejected, answers.chosen_tokens, answers.rejected_tokens)
        return dpo_losses(sides, reference, beta=beta, label_smoothing=0.1).loss

    def orpo(chosen: Tensor, rejected: Tensor) -> Tensor:
        # Away from probability 1, where finite differences have nothing to go by.
        sides = Answers(chosen - 1, rejected - 1, answers.chosen_tokens, answers.rejected_tokens)
        return orpo_losses(sides, beta=beta).loss

    inputs = (answers.chosen.requires_grad_(), answers.rejected.requires_grad_())
    for loss in (dpo, orpo):
        assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("chosen", [0.0, -1e-9, -1e4])
@pytest.mark.parametrize("rejected", [0.0, -1e-9, -1e4])
def test_extremes_stay_finite(chosen: float, rejected: float) -> None:
    """A model that is sure of every token, or thinks an answer impossible, breaks nothing."""
    sides = [torch.tensor([x]).requires_grad_() for x in (chosen, rejected)]
    tokens = torch.tensor([3])
    answers = Answers(sides[0], sides[1], tokens, tokens)
    for out in (
        dpo_losses(answers, torch.tensor([[-5e3, -5e3]]), beta=0.5),
        orpo_losses(answers, beta=0.5),
    ):
        gradients = torch.autograd.grad(out.loss.sum(), sides)
        assert all(torch.isfinite(t).all() for t in (out.loss, *gradients))


def test_without_a_change_dpo_knows_nothing() -> None:
    """Before the first update the loss is ln 2 and no answer has a reward."""
    pairs = [(-3.0, -5.0, -3.0, -5.0, 2, 2)]
    out = dpo_losses(tensors(pairs), before(pairs), beta=0.1)
    assert out.loss.item() == pytest.approx(math.log(2))
    assert out.chosen_reward.item() == out.rejected_reward.item() == 0.0
