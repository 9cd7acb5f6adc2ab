"""From logits to the next token id. Shapes: N sequences, P padded vocabulary."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fromscratch.foundation.errors import UserError


@dataclass(frozen=True)
class SamplingOptions:
    """How to choose the next token.

    Attributes:
        temperature: Divides the logits; 0 takes the most likely token.
        top_k: Keep the k most likely tokens; 0 keeps all.
        top_p: Keep the fewest most likely tokens that together have this probability (Holtzman et
            al. 2020); 1 keeps all.
        seed: Of the draws.
    """

    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"temperature {self.temperature} is not a number from 0 (greedy) up.")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed {self.seed} is not in 0 .. 2**63 - 1.")
        if self.top_k < 0:
            raise UserError(f"top_k {self.top_k} is negative; 0 keeps every token.")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p {self.top_p} is not in (0, 1].")


def next_token(logits: Tensor, options: SamplingOptions, generator: torch.Generator) -> Tensor:
    """Chooses one id per sequence.

    Args:
        logits: (N, P), -inf where an id must not be chosen.
        options: Temperature first, then top-k, then top-p.
        generator: On the CPU, whatever the logits' device, so that a seed means one text.

    Returns:
        (N,) int64 ids on the logits' device.
    """
    if options.temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = distribution(logits, options)
    drawn = torch.multinomial(probabilities.cpu(), 1, generator=generator)
    return drawn[:, 0].to(logits.device)


def distribution(logits: Tensor, options: SamplingOptions) -> Tensor:
    """The probabilities that `next_token` draws from, (N, P) float32; temperature above 0."""
    scaled = logits.float() / options.temperature
    if options.top_k and options.top_k < scaled.shape[-1]:
        kept, index = scaled.topk(options.top_k, dim=-1)  # exactly k, also among equals
        scaled = torch.full_like(scaled, float("-inf")).scatter(-1, index, kept)
    probabilities = scaled.softmax(dim=-1)
    if options.top_p < 1.0:
        ordered, index = probabilities.sort(dim=-1, descending=True)
        # A token is dropped when those before it already reach top_p; the first never is.
        surplus = ordered.cumsum(dim=-1) - ordered >= options.top_p
        ordered = ordered.masked_fill(surplus, 0.0)
        probabilities = torch.zeros_like(probabilities).scatter(-1, index, ordered)
        probabilities /= probabilities.sum(dim=-1, keepdim=True)
    return probabilities
