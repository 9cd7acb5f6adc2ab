"""Losses of pairs of answers, as functions of the answers' log-probabilities.

In: for each pair, the log-probability that the model gives the chosen and the rejected answer. Out:
for each pair its loss, and each answer's reward: what the loss believes the answer to be worth. A
pair is understood rightly when its chosen answer has the higher reward; the margin is by how much.

Shapes: B pairs. An answer's log-probability is the sum over its tokens, its end-of-turn included,
the prompt not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Answers:
    """What a model makes of pairs of answers.

    Attributes:
        chosen: (B,) log-probability of each chosen answer, in nats.
        rejected: (B,) likewise of each rejected one.
        chosen_tokens: (B,) tokens of each chosen answer, at least one.
        rejected_tokens: (B,) likewise.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor


@dataclass(frozen=True)
class PairLosses:
    """What comes of each pair.

    Attributes:
        loss: (B,), with a gradient.
        chosen_reward: (B,), without.
        rejected_reward: (B,), without.
    """

    loss: Tensor
    chosen_reward: Tensor
    rejected_reward: Tensor


def dpo_losses(
    answers: Answers, reference: Tensor, *, beta: float, label_smoothing: float = 0.0
) -> PairLosses:
    """Direct preference optimisation (Rafailov et al. 2023, equation 7).

    -log sigmoid(margin), where an answer's reward is beta times how much likelier it has become
    than under the model that training began with. With label smoothing e, pairs are taken to be
    labelled the wrong way round with that probability (Mitchell 2023, "cDPO"):
    -(1 - e) log sigmoid(margin) - e log sigmoid(-margin).

    Args:
        answers: Of the model that is trained.
        reference: (B, 2) log-probabilities of the chosen and the rejected answers before training.
        beta: How strongly the model is held to where it began; the higher, the closer it stays.
        label_smoothing: From 0 to below 0.5.
    """
    chosen = beta * (answers.chosen - reference[:, 0])
    rejected = beta * (answers.rejected - reference[:, 1])
    margin = chosen - rejected
    loss = -F.logsigmoid(margin)
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * F.logsigmoid(-margin)
    return PairLosses(loss, chosen.detach(), rejected.detach())


def orpo_losses(answers: Answers, *, beta: float) -> PairLosses:
    """Odds-ratio preference optimisation (Hong et al. 2024, equations 6 and 7): no reference.

    The loss of finetuning on the chosen answer, in nats per token, and beta times
    -log sigmoid(log odds ratio) beside it. p being the geometric mean of an answer's probabilities
    of its tokens, its odds are p / (1 - p). A reward is beta times the answer's log p.

    Args:
        answers: Of the model that is trained.
        beta: Weight of the odds ratio; the paper calls it lambda.
    """
    chosen = answers.chosen / answers.chosen_tokens  # (B,) log p
    rejected = answers.rejected / answers.rejected_tokens
    log_odds_ratio = _log_odds(chosen) - _log_odds(rejected)
    loss = -chosen - beta * F.logsigmoid(log_odds_ratio)
    return PairLosses(loss, beta * chosen.detach(), beta * rejected.detach())


def _log_odds(log_p: Tensor) -> Tensor:
    """log(p / (1 - p)) of p = exp(log_p); finite, and with a finite gradient, up to p = 1."""
    log_p = log_p.clamp(max=-torch.finfo(log_p.dtype).eps)
    return log_p - torch.log(-torch.expm1(log_p))
