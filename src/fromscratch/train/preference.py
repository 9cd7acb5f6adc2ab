"""Preferences as an objective: how likely a model finds the answers of pairs, and what comes of it.

In: a model and pairs of answers. Out: the loss summed over the pairs, and, beside it, how well the
model tells the chosen answer from the rejected one. What always holds: a pair's loss depends on
nothing else in its batch.

Shapes: B pairs, R = 2 B rows (chosen, rejected, chosen, ...), T positions, C width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from fromscratch.data.batches import IGNORE, Batch
from fromscratch.data.preference_rows import PairBatch
from fromscratch.model.cross_entropy import target_log_probs
from fromscratch.model.gpt import GPT
from fromscratch.train.preference_loss import Answers, PairLosses, dpo_losses, orpo_losses

PairLoss = Callable[[Answers, Tensor | None], PairLosses]
"""Maps what a model makes of pairs, and (B, 2) what it made of them before, to their losses."""


def pair_loss(
    name: Literal["dpo", "orpo"], *, beta: float, label_smoothing: float = 0.0
) -> PairLoss:
    """The loss of that name (preference_loss.py)."""
    if name == "orpo":
        return lambda answers, reference: orpo_losses(answers, beta=beta)
    return partial(_dpo, beta=beta, label_smoothing=label_smoothing)


def _dpo(
    answers: Answers, reference: Tensor | None, *, beta: float, label_smoothing: float
) -> PairLosses:
    assert reference is not None, "what the model made of the pairs was computed before step 1"
    return dpo_losses(answers, reference, beta=beta, label_smoothing=label_smoothing)


def answers_of(model: GPT, batch: PairBatch) -> Answers:
    """How likely a model finds the answers; with gradients where they are enabled."""
    hidden = model.hidden(batch.ids)  # (R, T, C)
    wanted = batch.targets != IGNORE  # (R, T)
    # Of prompts and padding no logits are computed.
    found = target_log_probs(model.output, hidden[wanted], batch.targets[wanted], ignore=IGNORE)
    placed = torch.zeros(wanted.shape, dtype=found.dtype, device=found.device)
    placed[wanted] = found
    sums, tokens = placed.sum(dim=1).view(-1, 2), wanted.sum(dim=1).view(-1, 2)  # (B, 2)
    return Answers(sums[:, 0], sums[:, 1], tokens[:, 0], tokens[:, 1])


@dataclass(frozen=True)
class PairSums:
    """What is added up over pairs.

    Attributes:
        loss: Of the pairs' losses.
        right: Pairs whose chosen answer has the higher reward; where both have the same, a half.
        chosen_reward: Of the chosen answers' rewards.
        rejected_reward: Of the rejected ones'.
        n_pairs: How many pairs.
    """

    loss: float = 0.0
    right: float = 0.0
    chosen_reward: float = 0.0
    rejected_reward: float = 0.0
    n_pairs: float = 0.0

    def __add__(self, other: PairSums) -> PairSums:
        return PairSums(*(a + b for a, b in zip(self.values(), other.values(), strict=True)))

    def values(self) -> tuple[float, ...]:
        """All of them, in the order of the attributes."""
        return astuple(self)

    def by_name(self) -> dict[str, float]:
        """The sums, but for the loss, as a run's rows call their means."""
        return {
            "accuracy": self.right,
            "margin": self.chosen_reward - self.rejected_reward,
            "reward_chosen": self.chosen_reward,
            "reward_rejected": self.rejected_reward,
        }

    def means(self) -> dict[str, float]:
        """Likewise, over the pairs."""
        return {name: total / self.n_pairs for name, total in self.by_name().items()}


def sums_of(losses: PairLosses) -> PairSums:
    """The sums over some pairs; waits for the device."""
    rows = torch.stack([losses.loss.detach(), losses.chosen_reward, losses.rejected_reward])
    loss, chosen, rejected = rows.cpu().double()  # (B,) each
    right = (chosen > rejected).double() + 0.5 * (chosen == rejected).double()
    return PairSums(
        loss=float(loss.sum()),
        right=float(right.sum()),
        chosen_reward=float(chosen.sum()),
        rejected_reward=float(rejected.sum()),
        n_pairs=len(loss),
    )


class PreferenceObjective:
    """The loss summed over a batch's pairs; it remembers what else it saw of them.

    Args:
        loss: Of a pair.
    """

    def __init__(self, loss: PairLoss) -> None:
        self.loss = loss
        self._seen = PairSums()

    def __call__(self, model: GPT, batch: Batch) -> Tensor:
        """A scalar with a gradient."""
        assert isinstance(batch, PairBatch), "pairs are what it compares"
        losses = self.loss(answers_of(model, batch), batch.reference)
        self._seen += sums_of(losses)
        return losses.loss.sum()

    def take(self) -> dict[str, float]:
        """What was seen on this rank since this was last asked, summed over its pairs."""
        seen, self._seen = self._seen, PairSums()
        return seen.by_name()
