"""Pairs of answers without training: what a model makes of them, and how well it tells them apart.

In: a model and pairs. Out: the log-probabilities of all answers, which become the reference of a
training that begins with this model; or the sums of losses and rewards over all pairs. What always
holds: the model is as it was afterwards, and nothing depends on how many pairs are taken at a time,
or on how many ranks share the work, but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fromscratch.data.batches import IGNORE, ValidationSet
from fromscratch.data.preference_rows import PairBatch, PairRows
from fromscratch.evaluate.loss import LossTotals, sum_totals
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


@dataclass(frozen=True)
class PairTotals:
    """What an evaluation of pairs adds up.

    Attributes:
        pairs: Losses and rewards.
        chosen: The chosen answers as text: how likely they still are.
    """

    pairs: PairSums
    chosen: LossTotals

    def __add__(self, other: PairTotals) -> PairTotals:
        return PairTotals(self.pairs + other.pairs, sum_totals([self.chosen, other.chosen]))


@torch.inference_mode()
def evaluate_pairs(
    model: GPT,
    data: ValidationSet,
    loss: PairLoss,
    *,
    batch_size: int,
    should_stop: Callable[[], bool] = lambda: False,
    ranks: Ranks | None = None,
) -> PairTotals:
    """Losses and rewards over held-out pairs, without dropout.

    Args:
        model: Uncompiled, with whole parameters.
        data: Of pairs, with their reference where the loss needs one.
        loss: Of a pair.
        batch_size: Pairs at a time.
        should_stop: Asked between batches; the same answer on every rank.
        ranks: Who shares the work.

    Raises:
        Interrupted: `should_stop` said so.
    """
    ranks = Ranks() if ranks is None else ranks
    total, nats, n_tokens, n_bytes = PairSums(), 0.0, 0, 0
    mine = data.batches(batch_size, rank=ranks.world.rank, size=ranks.size)
    with _evaluating(model):
        # The last round has batches for some ranks only; all ask the question before it.
        for _ in range(0, len(data.chosen()), batch_size * ranks.size):
            if should_stop():
                raise Interrupted
            batch = next(mine, None)
            if batch is None:
                break
            assert isinstance(batch, PairBatch), "pairs are what it compares"
            here = batch.to(model.device)
            answers = answers_of(model, here)
            total += sums_of(loss(answers, here.reference))
            nats -= float(answers.chosen.cpu().double().sum())
            chosen = batch.targets[::2]
            tokens = chosen[chosen != IGNORE].numpy()
            n_tokens += len(tokens)
            n_bytes += int(data.bytes_per_id[tokens].sum(dtype=np.int64))
    *sums, nats, tokens_of_all, bytes_of_all = ranks.sum(*total.values(), nats, n_tokens, n_bytes)
    return PairTotals(PairSums(*sums), LossTotals(nats, int(tokens_of_all), int(bytes_of_all)))


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
