"""From logits to the next token id.

In: logits, how to choose, a generator. Out: ids. `Sampler` does it for one sequence with a
generator of its own, so what it draws does not depend on the sequences that share a batch with it.

Order, as in transformers: logit bias, repetition penalty, presence and frequency penalties,
temperature, top-k, top-p, min-p.

Shapes: N sequences, P padded vocabulary, K candidates.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.seeds import derive_seed

_BLOCK = 64
"""Of the vocabulary, when the likeliest are looked for: a maximum is found faster than an order."""

_NUCLEUS = 1024
"""Candidates that are ordered before the whole vocabulary is: that takes as long as a third of a
forward pass."""

_LEAST_TEMPERATURE = 1e-6


@dataclass(frozen=True)
class SamplingOptions:
    """How to choose the next token.

    Attributes:
        temperature: Divides the logits; 0 takes the most likely token.
        top_k: Keep the k most likely tokens; 0 keeps all.
        top_p: Keep the fewest most likely tokens that together have this probability (Holtzman et
            al. 2020); 1 keeps all.
        seed: Of the draws.
        min_p: Keep the tokens that are at least this share of the likeliest one's probability
            (Nguyen et al. 2024); 0 keeps all.
        repetition_penalty: Divides the positive logits of tokens that were there before, prompt
            included, and multiplies the negative ones (Keskar et al. 2019, CTRL); 1 is none.
        presence_penalty: Taken from the logit of each token that was written before, once.
        frequency_penalty: Taken from it for each time. Both count what is written, not the prompt.
        logit_bias: Added to the logits of these ids; -inf forbids one.
    """

    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 1.0
    seed: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"temperature {self.temperature} is not a number from 0 (greedy) up.")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed {self.seed} is not in 0 .. 2**63 - 1.")
        if self.top_k < 0:
            raise UserError(f"top_k {self.top_k} is negative; 0 keeps every token.")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p {self.top_p} is not in (0, 1].")
        if not 0 <= self.min_p <= 1:
            raise UserError(f"min_p {self.min_p} is not in [0, 1]; 0 keeps every token.")
        if not 0.01 <= self.repetition_penalty <= 100:
            raise UserError(
                f"repetition_penalty {self.repetition_penalty} is not in 0.01 .. 100; 1 is none."
            )
        for name in ("presence_penalty", "frequency_penalty"):
            if not math.isfinite(getattr(self, name)):
                raise UserError(f"{name} {getattr(self, name)} is not a finite number; 0 is none.")
        for token, bias in self.logit_bias.items():
            if token < 0 or math.isnan(bias) or bias == math.inf:
                raise UserError(
                    f"logit_bias {token}: {bias} is not a token id with a number below infinity."
                )

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest is taken: divided by nearly 0, logits would be infinite."""
        return self.temperature < _LEAST_TEMPERATURE

    def of_sample(self, number: int) -> SamplingOptions:
        """The options of the n-th sample of one prompt: a seed of its own, the first one's as is.

        Args:
            number: From 0.
        """
        if number == 0:
            return self
        return replace(self, seed=derive_seed(self.seed, "sample", number))


class Sampler:
    """Chooses the tokens of one sequence, one after the other.

    Args:
        options: How.
        prompt: What the sequence begins with, for the repetition penalty.

    Attributes:
        options: As given.
    """

    def __init__(self, options: SamplingOptions, prompt: Sequence[int] = ()) -> None:
        self.options = options
        self._generator = torch.Generator().manual_seed(options.seed)
        self._prompt = set(prompt) if options.repetition_penalty != 1.0 else set()
        self._written: Counter[int] = Counter()
        self._changes_logits = bool(
            options.logit_bias
            or options.repetition_penalty != 1.0
            or options.presence_penalty
            or options.frequency_penalty
        )

    def choose(self, logits: Tensor) -> int:
        """The next id.

        Args:
            logits: (P,), -inf where an id must not be chosen.
        """
        if self._changes_logits:
            logits = self._changed(logits.float())
        token = int(next_token(logits[None], self.options, self._generator))
        self._written[token] += 1
        return token

    def _changed(self, logits: Tensor) -> Tensor:
        """Logits with bias and penalties."""
        options, logits = self.options, logits.clone()
        real = [token for token in options.logit_bias if token < len(logits)]
        bias = torch.tensor([options.logit_bias[token] for token in real], device=logits.device)
        logits[real] += bias
        if options.repetition_penalty != 1.0:
            seen = torch.tensor(list(self._prompt | self._written.keys()), dtype=torch.long)
            seen = seen.to(logits.device)
            scores, penalty = logits[seen], options.repetition_penalty
            logits[seen] = torch.where(scores < 0, scores * penalty, scores / penalty)
        if options.presence_penalty or options.frequency_penalty:
            written = list(self._written)
            counts = torch.tensor([float(self._written[token]) for token in written])
            taken = options.presence_penalty + options.frequency_penalty * counts
            logits[written] -= taken.to(logits.device)
        return logits


def next_token(logits: Tensor, options: SamplingOptions, generator: torch.Generator) -> Tensor:
    """Chooses one id per sequence, by temperature, top-k, top-p and min-p.

    Args:
        logits: (N, P), -inf where an id must not be chosen.
        options: How; what depends on the tokens before is `Sampler`'s.
        generator: On the CPU, whatever the logits' device, so that a seed means one text.

    Returns:
        (N,) int64 ids on the logits' device.
    """
    if options.is_greedy:
        return logits.argmax(dim=-1)
    weights, index = _candidates(logits, options)
    # The inverse of the cumulative distribution: one draw a token, whatever the candidates.
    reached = weights.cpu().double().cumsum(dim=-1)  # (N, K)
    total = reached[:, -1:]
    uniform = torch.rand(len(logits), 1, generator=generator, dtype=torch.float64)
    # A product may round up to the total, which no candidate exceeds.
    target = torch.minimum(uniform * total, total * (1 - 2**-52))
    drawn = torch.searchsorted(reached, target, right=True).to(logits.device)
    return (drawn if index is None else index.gather(-1, drawn))[:, 0]


def distribution(logits: Tensor, options: SamplingOptions) -> Tensor:
    """The probabilities that `next_token` draws from, (N, P) float32; temperature above 0."""
    probabilities, index = _candidates(logits, options)
    probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
    if index is None:
        return probabilities
    return torch.zeros(logits.shape, device=logits.device).scatter(-1, index, probabilities)


def _candidates(logits: Tensor, options: SamplingOptions) -> tuple[Tensor, Tensor | None]:
    """Who may be drawn, and their weights.

    Returns:
        (N, K) float32 weights, likeliest first where they are fewer than the vocabulary, not
        negative; their ids (N, K), or None where they are all ids in order.
    """
    logits, index = logits.float(), None
    if options.top_k and options.top_k < logits.shape[-1]:
        logits, index = _likeliest(logits, options.top_k)  # exactly k, also among equals
    weights = (logits / options.temperature).softmax(dim=-1)
    if options.top_p < 1.0:
        if index is None:
            weights, index = _nucleus(weights, options.top_p)
        # A token is dropped when those before it already reach top_p; the first never is.
        surplus = weights.cumsum(dim=-1) - weights >= options.top_p
        surplus[..., 0] = False
        weights = weights.masked_fill(surplus, 0.0)
    if options.min_p > 0.0:
        least = options.min_p * weights.amax(dim=-1, keepdim=True)
        weights = weights.masked_fill(weights < least, 0.0)
    return weights, index


def _likeliest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`values.topk(k)` of (N, P): they lie in the k blocks with the largest maxima."""
    n_blocks = values.shape[-1] // _BLOCK
    if n_blocks <= 2 * k:
        found = values.topk(k, dim=-1)
        return found.values, found.indices
    in_blocks, rest = values.split((n_blocks * _BLOCK, values.shape[-1] - n_blocks * _BLOCK), -1)
    blocks = in_blocks.view(len(values), n_blocks, _BLOCK)
    best = blocks.amax(dim=-1).topk(k, dim=-1).indices  # (N, k)
    ids = (best[..., None] * _BLOCK + torch.arange(_BLOCK, device=values.device)).flatten(1)
    ids = torch.cat((ids, _ids_of(rest, n_blocks * _BLOCK)), dim=-1)
    found = values.gather(-1, ids).topk(k, dim=-1)
    return found.values, ids.gather(-1, found.indices)


def _ids_of(rest: Tensor, start: int) -> Tensor:
    return torch.arange(start, start + rest.shape[-1], device=rest.device).expand(len(rest), -1)


def _nucleus(probabilities: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """The likeliest of (N, P), in order: as many as together surely reach `top_p`."""
    if probabilities.shape[-1] > _NUCLEUS:
        found = probabilities.topk(_NUCLEUS, dim=-1)
        if bool((found.values.sum(dim=-1) > top_p + 1e-6).all()):
            return found.values, found.indices
    ordered = probabilities.sort(dim=-1, descending=True)
    return ordered.values, ordered.indices
