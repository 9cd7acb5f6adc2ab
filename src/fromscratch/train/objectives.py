"""What is minimised: a sum over targets and their number, never a mean (R25)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor

from fromscratch.data.batches import IGNORE, Batch
from fromscratch.model.cross_entropy import summed_cross_entropy
from fromscratch.model.gpt import GPT


class Objective(Protocol):
    """Maps a model and a batch to the sum of the loss over the batch's targets, in nats."""

    def __call__(self, model: GPT, batch: Batch) -> Tensor:
        """A scalar with a gradient."""


@runtime_checkable
class Measuring(Protocol):
    """An objective that sees more of its batches than their loss."""

    def take(self) -> Mapping[str, float]:
        """What it saw on this rank since it was last asked, summed over what the loss is of.

        Always the same names in the same order.
        """


def next_token_loss(model: GPT, batch: Batch) -> Tensor:
    """Pretraining: the negative log-likelihood of each target, summed."""
    hidden = model.hidden(batch.ids, segments=batch.segments)  # (B, T, C)
    return summed_cross_entropy(
        model.output, hidden.flatten(0, 1), batch.targets.flatten(), ignore=IGNORE
    )
