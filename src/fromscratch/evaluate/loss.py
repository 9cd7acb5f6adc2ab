"""Loss on held-out windows: nats per token, perplexity, and bits per byte.

Bits per byte is the number to compare: it divides by the bytes of the text, which do not depend on
the tokenizer. Every target counts in the numerator, the end-of-text ids included, because a reader
of the compressed text would need them; only text counts in the denominator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from fromscratch.data.batches import IGNORE, ValidationSet
from fromscratch.foundation.errors import Interrupted
from fromscratch.model.cross_entropy import token_losses
from fromscratch.model.gpt import GPT
from fromscratch.parallel.ranks import Ranks


@dataclass(frozen=True)
class LossTotals:
    """What an evaluation adds up.

    Attributes:
        nats: Sum of negative log-likelihoods over all targets.
        n_targets: Number of targets.
        n_bytes: UTF-8 bytes that the targets stand for.
    """

    nats: float
    n_targets: int
    n_bytes: int

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood, nats per token."""
        return self.nats / self.n_targets

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that overflows."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def bits_per_byte(self) -> float:
        """Nats / ln 2 / bytes."""
        return self.nats / math.log(2) / self.n_bytes if self.n_bytes else math.nan


def sum_totals(parts: Iterable[LossTotals]) -> LossTotals:
    """Several sets as one: every target counts once, whichever set it is in."""
    every = list(parts)
    return LossTotals(
        nats=sum(t.nats for t in every),
        n_targets=sum(t.n_targets for t in every),
        n_bytes=sum(t.n_bytes for t in every),
    )


@torch.inference_mode()
def evaluate_loss(
    model: GPT,
    data: ValidationSet,
    *,
    batch_size: int,
    should_stop: Callable[[], bool] = lambda: False,
    ranks: Ranks | None = None,
) -> LossTotals:
    """Evaluates a model on a validation set's windows, without dropout.

    Args:
        model: Uncompiled; its mode is restored afterwards.
        data: What to evaluate on.
        batch_size: Windows at a time; the result does not depend on it but for rounding.
        should_stop: Asked between batches; the same answer on every rank.
        ranks: Who shares the work; the result is the same on all of them, and the same as that of
            one alone but for rounding.

    Raises:
        Interrupted: `should_stop` said so.
    """
    ranks = Ranks() if ranks is None else ranks
    was_training = model.training
    model.eval()
    nats, n_targets, n_bytes = 0.0, 0, 0
    try:
        mine = data.batches(batch_size, rank=ranks.world.rank, size=ranks.size)
        # The last round has batches for some ranks only; all ask the question before it.
        for _ in range(0, len(data.chosen()), batch_size * ranks.size):
            if should_stop():
                raise Interrupted
            batch = next(mine, None)
            if batch is None:
                break
            here = batch.to(model.device)
            hidden = model.hidden(here.ids, segments=here.segments)  # (B, T, C)
            losses = token_losses(
                model.output, hidden.flatten(0, 1), here.targets.flatten(), ignore=IGNORE
            )
            # float64 where the device has it; a sum over millions of tokens needs it.
            nats += float(losses.cpu().double().sum())
            targets = batch.targets[batch.targets != IGNORE].numpy()
            n_targets += len(targets)
            n_bytes += int(data.bytes_per_id[targets].sum(dtype=np.int64))
    finally:
        model.train(was_training)
    nats, targets_of_all, bytes_of_all = ranks.sum(nats, n_targets, n_bytes)
    return LossTotals(nats, int(targets_of_all), int(bytes_of_all))
