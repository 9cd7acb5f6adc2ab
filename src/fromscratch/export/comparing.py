"""Whether two models are the same: their logits on the same ids.

In: two ways to logits. Out: how far apart they are. An export or import that is not the model it
came from ends here, with an error (R57).

Shapes: B sequences, T positions, V ids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fromscratch.foundation.errors import UserError
from fromscratch.model.gpt import GPT

TOLERANCE = 1e-4
_LONGEST = 1024
_SEED = 20
_NO_KL = 1e-4
_PIECE = 64  # positions whose distributions are in memory at once

Logits = Callable[[Tensor], Tensor]
"""(B, T) ids to (B, T, V) logits."""


@dataclass(frozen=True)
class Difference:
    """How far logits are from those that they should be.

    Attributes:
        largest: The largest absolute difference of two logits.
        scale: The largest absolute logit, or 1 if that is more.
        kl: Mean over positions of KL(expected || found), in nats; 0 for sequences in which no logit
            differs by 1e-4, where it is below 2e-8.
        same_top: Share of positions whose likeliest token is the same.
        positions: How many positions were compared.
    """

    largest: float
    scale: float
    kl: float
    same_top: float
    positions: int

    def none(self) -> Difference:
        """What there is between two models that are the same to the last bit."""
        return Difference(0.0, self.scale, 0.0, 1.0, self.positions)

    @property
    def relative(self) -> float:
        """The largest difference as a share of the scale."""
        return self.largest / self.scale


def some_ids(vocab_size: int, context: int) -> Tensor:
    """(2, T) ids from all of the vocabulary, as long as the context (1,024 at most)."""
    generator = torch.Generator().manual_seed(_SEED)
    return torch.randint(0, vocab_size, (2, min(context, _LONGEST)), generator=generator)


def logits_of(model: GPT) -> Logits:
    """The logits of a model of ours, without those of its padding."""
    return lambda ids: model(ids)[..., : model.config.vocab_size]


@torch.inference_mode()
def compare(expected: Logits, found: Logits, ids: Tensor) -> Difference:
    """Compares two models on the same ids, one sequence at a time.

    Raises:
        UserError: Their vocabularies differ.
    """
    largest, scale, kl, same, positions = 0.0, 1.0, 0.0, 0, 0
    for row in ids:
        mine, theirs = expected(row[None])[0].float(), found(row[None])[0].float()  # (T, V)
        if mine.shape != theirs.shape:
            raise UserError(
                f"The reloaded model has {theirs.shape[-1]:,} ids and this one {mine.shape[-1]:,}."
            )
        difference = (mine - theirs).abs().max().item()
        # A NaN is larger than any tolerance; max() of floats would pass over it.
        largest = difference if not difference <= largest else largest
        scale = max(scale, mine.abs().max().item())
        if not difference <= _NO_KL:
            kl += sum(map(_kl, mine.split(_PIECE), theirs.split(_PIECE)))
        same += int((mine.argmax(-1) == theirs.argmax(-1)).sum())
        positions += len(row)
    return Difference(largest, scale, kl / positions, same / positions, positions)


def _kl(expected: Tensor, found: Tensor) -> float:
    """The sum over positions, (T, V); in float64, where rounding cannot make it negative."""
    log_p, log_q = expected.double().log_softmax(-1), found.double().log_softmax(-1)
    return float((log_p.exp() * (log_p - log_q)).sum())


def check_same(difference: Difference, where: str, tolerance: float = TOLERANCE) -> None:
    """Raises where logits differ by more than a share of the largest of them.

    Args:
        difference: Between what was meant and what was read back.
        where: Who read it, for the message.
        tolerance: Largest difference, as a share of the largest logit (or of 1).

    Raises:
        UserError: They differ; what was written is not the model.
    """
    if not difference.relative <= tolerance:
        raise UserError(
            f"What was written is not the same model: read back by {where}, logits differ by "
            f"{difference.largest:.3g} (allowed: {tolerance * difference.scale:.3g}). "
            "Nothing was kept.",
            fix="Please report this with the versions of torch, transformers and gguf.",
        )
