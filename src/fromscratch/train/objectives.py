"""What is minimised: a sum over targets and their number, never a mean (R25)."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from fromscratch.data.batches import IGNORE, Batch
from fromscratch.model.cross_entropy import summed_cross_entropy
from fromscratch.model.gpt import GPT


class Objective(Protocol):
    """Maps a model and a batch to the sum of the loss over the batch's targets, in nats."""

    def __call__(self, model: GPT, batch: Batch) -> Tensor:
        """A scalar with a gradient."""


def next_token_loss(model: GPT, batch: Batch) -> Tensor:
    """Pretraining: the negative log-likelihood of each target, summed."""
    hidden = model.hidden(batch.ids, segments=batch.segments)  # (B, T, C)
    return summed_cross_entropy(
        model.output, hidden.flatten(0, 1), batch.targets.flatten(), ignore=IGNORE
    )
