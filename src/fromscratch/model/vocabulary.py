"""More ids for a model that is there: the vocabulary's padding first, then further rows.

A new row begins as the mean of the real ones (Hewitt 2021, "Initializing new word embeddings for
pretrained language models": the new ids then take little from the old ones' probability), with a
little noise so that no two new ids are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fromscratch.foundation.seeds import derive_seed
from fromscratch.model.gpt import GPT

_MULTIPLE = 64  # rows of a matrix that grows: what matrix products of every device like
_NOISE = 0.01  # of the rows' own standard deviation


@torch.no_grad()
def grow_vocabulary(model: GPT, vocab_size: int) -> None:
    """Makes ids up to `vocab_size` real; in place, and the same for the same weights.

    Args:
        model: On any device; no optimiser has its parameters yet.
        vocab_size: At least the model's.
    """
    config = model.config
    new = vocab_size - config.vocab_size
    assert new >= 0, "a vocabulary only grows"
    if not new:
        return
    rows = config.padded_vocab
    if vocab_size > rows:
        rows = -(-vocab_size // _MULTIPLE) * _MULTIPLE
    layers: list[nn.Embedding | nn.Linear] = [model.embed]
    if model.head is not None:
        layers.append(model.head)
    for layer in layers:
        weight = _grown(layer.weight, config.vocab_size, vocab_size, rows)
        layer.weight = nn.Parameter(weight, requires_grad=layer.weight.requires_grad)
        if isinstance(layer, nn.Embedding):
            layer.num_embeddings = rows
            continue
        layer.out_features = rows
        if layer.bias is not None:
            bias = _grown(layer.bias, config.vocab_size, vocab_size, rows)
            layer.bias = nn.Parameter(bias, requires_grad=layer.bias.requires_grad)
    model.config = config.model_copy(update={"vocab_size": vocab_size, "padded_vocab": rows})


def _grown(table: Tensor, real: int, wanted: int, rows: int) -> Tensor:
    """`table` (rows before, ...) with real rows up to `wanted` and `rows` in all."""
    grown = table.new_zeros((rows, *table.shape[1:]))
    grown[: table.shape[0]] = table
    known = table[:real].float()
    generator = torch.Generator().manual_seed(derive_seed(0, "new vocabulary", wanted))
    noise = torch.randn((wanted - real, *table.shape[1:]), generator=generator).to(table.device)
    grown[real:wanted] = (known.mean(0) + _NOISE * known.std(0) * noise).to(table.dtype)
    return grown
