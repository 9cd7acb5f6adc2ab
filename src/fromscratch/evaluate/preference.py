"""Pairs of answers without training: what a model makes of them, and how well it tells them apart.

In: a model and pairs. Out: the log-probabilities of all answers, which become the reference of a
training that begins with this model; or the sums of losses and rewards over all pairs. What always
holds: the model is as it was afterwards, and nothing depends on how many pairs are taken at a time,
or on how many ranks share the work, but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fromscratch.data.preference_rows import PairRows
from fromscratch.foundation.errors import Interrupted
from fromscratch.model.gpt import GPT
from fromscratch.parallel.ranks import Ranks
from fromscratch.train.preference import PairLoss, PairSums, answers_of, sums_of


@torch.inference_mode()
def log_probs_of(
    model: GPT,
    pairs: PairRows,
    *,
    batch_size: int,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    on_pairs: Callable[[int], None] = lambda n: None,
    ranks: Ranks | None = None,
) -> Tensor:
    """The log-probabilities of all answers, without dropout.

    Args:
        model: Uncompiled, with whole parameters.
        pairs: Of which.
        batch_size: Pairs at a time.
        autocast: Context of the forward pass.
        on_pairs: Told how many pairs have just been done, on all ranks together.
        ranks: Who shares the work.

    Returns:
        (pairs, 2) float32 on the host: chosen and rejected, in nats; the same on every rank.
    """
    ranks = Ranks() if ranks is None else ranks
    found = torch.zeros(len(pairs), 2)
    with _evaluating(model):
        for first, mine in _parts(len(pairs), batch_size, ranks):
            if len(mine):
                batch = pairs.batch(mine).without_padding().to(model.device)
                with autocast():
                    answers = answers_of(model, batch)
                sides = torch.stack([answers.chosen, answers.rejected], dim=1)  # (B, 2)
                found[mine] = sides.float().cpu()
            on_pairs(min(batch_size * ranks.size, len(pairs) - first))
    # Each answer's was computed on one rank and is 0 on the others; float64 holds it exactly.
    everyone = ranks.sum(*found.flatten().tolist())
    return torch.tensor(everyone, dtype=torch.float32).view(-1, 2)


@torch.inference_mode()
def evaluate_pairs(
    model: GPT,
    pairs: PairRows,
    loss: PairLoss,
    *,
    batch_size: int,
    should_stop: Callable[[], bool] = lambda: False,
    ranks: Ranks | None = None,
) -> PairSums:
    """Losses and rewards over all pairs, without dropout.

    Args:
        model: Uncompiled, with whole parameters.
        pairs: Held out; with their reference where the loss needs one.
        loss: Of a pair.
        batch_size: Pairs at a time.
        should_stop: Asked between batches; the same answer on every rank.
        ranks: Who shares the work.

    Raises:
        Interrupted: `should_stop` said so.
    """
    ranks = Ranks() if ranks is None else ranks
    total = PairSums()
    with _evaluating(model):
        for _, mine in _parts(len(pairs), batch_size, ranks):
            if should_stop():
                raise Interrupted
            if len(mine):
                batch = pairs.batch(mine).without_padding().to(model.device)
                total += sums_of(loss(answers_of(model, batch), batch.reference))
    return PairSums(*ranks.sum(*total.values()))


def _parts(n: int, batch_size: int, ranks: Ranks) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Rounds, each with its first pair and this rank's pairs: as many rounds on every rank."""
    for first in range(0, n, batch_size * ranks.size):
        begin = first + ranks.world.rank * batch_size
        yield first, np.arange(min(begin, n), min(begin + batch_size, n))


@contextmanager
def _evaluating(model: GPT) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
