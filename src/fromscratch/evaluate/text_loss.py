"""The loss of a model on documents: each document's nats, in order, with bounded memory.

In: a model, documents as its own tokens, a protocol. Out: what each document cost, and sums over a
source with the standard errors of their ratios. Always true: no logits of a whole batch exist at
any moment (model/cross_entropy.py), losses are added up in float64, and neither the batch size nor
the order in which windows were computed changes a document's nats but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from fromscratch.data.batches import IGNORE
from fromscratch.evaluate.loss import LossTotals
from fromscratch.evaluate.ratio import RatioSums
from fromscratch.evaluate.text_windows import (
    Ids,
    Protocol,
    WindowBatch,
    batch_windows,
    cut_windows,
)
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.hardware import to_device
from fromscratch.model.cross_entropy import token_losses
from fromscratch.model.gpt import GPT
from fromscratch.train.precision import Precision


@dataclass(frozen=True)
class TokenDocument:
    """A document as a model's tokens.

    Attributes:
        ids: (n,) without end-of-text.
        n_bytes: UTF-8 bytes of its text.
    """

    ids: Ids
    n_bytes: int


@dataclass(frozen=True)
class DocumentLoss:
    """What a document cost.

    Attributes:
        nats: Summed over its tokens and the end-of-text after them.
        n_targets: How many those are.
        n_bytes: UTF-8 bytes of its text.
    """

    nats: float
    n_targets: int
    n_bytes: int


@dataclass
class TextLoss:
    """Sums over documents.

    Attributes:
        by_token: Nats over targets.
        by_byte: Nats over bytes.
    """

    by_token: RatioSums = field(default_factory=RatioSums)
    by_byte: RatioSums = field(default_factory=RatioSums)

    def add(self, document: DocumentLoss) -> None:
        """Counts a document."""
        self.by_token.add(document.nats, document.n_targets)
        self.by_byte.add(document.nats, document.n_bytes)

    def __add__(self, other: TextLoss) -> TextLoss:
        """The sums over the documents of both."""
        return TextLoss(self.by_token + other.by_token, self.by_byte + other.by_byte)

    @property
    def n_documents(self) -> int:
        return self.by_token.n

    @property
    def totals(self) -> LossTotals:
        """In the units that training's own validation has."""
        return LossTotals(self.by_token.y, int(self.by_token.x), int(self.by_byte.x))


class _Open:
    """A document of which not all targets have been counted."""

    def __init__(self, n_targets: int, n_bytes: int) -> None:
        self.nats = 0.0
        self.n_targets = self.left = n_targets
        self.n_bytes = n_bytes

    def closed(self) -> DocumentLoss:
        return DocumentLoss(self.nats, self.n_targets, self.n_bytes)


@torch.inference_mode()
def document_losses(
    model: GPT,
    documents: Iterable[TokenDocument],
    protocol: Protocol,
    *,
    eot_id: int,
    batch_size: int,
    precision: Precision,
    on_targets: Callable[[int], None] = lambda n: None,
) -> Iterator[DocumentLoss]:
    """Yields what each document costs, in the documents' order.

    Args:
        model: In evaluation mode, on the precision's device.
        documents: Of one source; each is asked for when there is room for it.
        protocol: Windows; at most the model's context.
        eot_id: What begins a stream and ends a document.
        batch_size: Full windows at a time.
        precision: Of the forward pass.
        on_targets: Told how many targets have just been computed.

    Raises:
        UserError: The device's memory does not hold a batch.
    """
    assert not model.training
    assert protocol.context <= model.config.context
    waiting: dict[int, _Open] = {}

    def numbered() -> Iterator[tuple[int, Ids]]:
        for number, document in enumerate(documents):
            ids = np.append(document.ids, eot_id)
            waiting[number] = _Open(len(ids), document.n_bytes)
            yield number, ids

    windows = cut_windows(numbered(), protocol, eot_id)
    due = 0
    with precision.in_force():
        for batch in batch_windows(windows, protocol, batch_size, eot_id):
            losses = _losses(model, batch, precision, batch_size)
            counted = (batch.targets != IGNORE).numpy()
            _spread(losses[counted], batch.owner[counted], waiting)
            on_targets(int(counted.sum()))
            while due in waiting and not waiting[due].left:
                yield waiting.pop(due).closed()
                due += 1
    assert not waiting, "every target is counted exactly once"


def _losses(
    model: GPT, batch: WindowBatch, precision: Precision, batch_size: int
) -> npt.NDArray[np.float64]:
    """(B, T) nats of each target; 0 where there is none."""
    try:
        with precision.autocast():
            hidden = model.hidden(to_device(batch.ids, model.device))  # (B, T, C)
            losses = token_losses(
                model.output,
                hidden.flatten(0, 1),
                to_device(batch.targets, model.device).flatten(),
                ignore=IGNORE,
            )
        found: npt.NDArray[np.float64] = losses.cpu().double().view(batch.ids.shape).numpy()
        return found
    except torch.OutOfMemoryError:
        fewer = max(1, batch_size // 2)
        raise UserError(
            f"{batch_size} windows at a time are more than the memory of {model.device} holds.",
            fix=f"Use --batch-size {fewer}."
            if fewer < batch_size
            else "Use a shorter --context, or --device cpu.",
        ) from None


def _spread(
    losses: npt.NDArray[np.float64], owner: npt.NDArray[np.int64], waiting: dict[int, _Open]
) -> None:
    """Adds (k,) losses to the documents that they belong to."""
    numbers, where, counts = np.unique(owner, return_inverse=True, return_counts=True)
    sums = np.bincount(where, weights=losses, minlength=len(numbers))
    for number, nats, count in zip(numbers.tolist(), sums.tolist(), counts.tolist(), strict=True):
        document = waiting[number]
        document.nats += nats
        document.left -= count
