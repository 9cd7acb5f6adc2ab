"""What quantising a model costs: bits per byte before and after, on the same text.

In: a model as it was loaded, texts. Out: two numbers, and the model quantised. Measured as `eval`
measures: every byte counts once, windows of the whole context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.evaluate.text_loss import TextLoss, TokenDocument, document_losses
from fromscratch.evaluate.text_windows import Protocol
from fromscratch.generate.ready import quantize
from fromscratch.train.precision import choose_precision


@dataclass(frozen=True)
class QuantizationCost:
    """Bits per byte of text, before and after."""

    before: float
    after: float

    @property
    def added(self) -> float:
        """What it costs."""
        return self.after - self.before


def cost_of_quantizing(
    bundle: ModelBundle, texts: Sequence[str], to: str = "int8", *, batch_size: int = 4
) -> QuantizationCost:
    """Quantises a bundle's model, and measures it before and after.

    Args:
        bundle: Its model is float32 on a CPU; it stays quantised.
        texts: Documents.
        to: As for `quantize`.
        batch_size: Windows at a time.

    Raises:
        UserError: As `quantize`.
    """
    before = _bits_per_byte(bundle, texts, batch_size)
    quantize(bundle.model, to)
    return QuantizationCost(before, _bits_per_byte(bundle, texts, batch_size))


def _bits_per_byte(bundle: ModelBundle, texts: Sequence[str], batch_size: int) -> float:
    encoded = ((bundle.tokenizer.encode(text), len(text.encode())) for text in texts)
    context, loss = bundle.model.config.context, TextLoss()
    for document in document_losses(
        bundle.model,
        (TokenDocument(np.array(ids), n_bytes) for ids, n_bytes in encoded),
        Protocol(context, context),
        eot_id=bundle.tokenizer.eot_id,
        batch_size=batch_size,
        precision=choose_precision("fp32", torch.device("cpu")),
    ):
        loss.add(document)
    return loss.totals.bits_per_byte
