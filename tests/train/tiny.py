"""Tiny models in double precision, and batches with ragged targets."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fromscratch.data.batches import IGNORE, Batch
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import Optimizers, build_optimizers
from fromscratch.optim.config import OptimConfig


def tiny(name: str = "adamw", **optim: object) -> tuple[GPT, Optimizers]:
    """A model in float64 and its optimisers; always the same weights."""
    config = ModelConfig(
        family="gpt2", n_layer=2, n_head=2, d_model=16, context=12, vocab_size=23, padded_vocab=24
    )
    model = GPT(config, seed=3).double().train()
    return model, build_optimizers(model, OptimConfig(name=name, lr=0.01, **optim))


def ragged(n: int, seed: int = 0) -> Batch:
    """Windows of which each has another number of targets, one of them none."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 23, (n, 12), generator=draw)
    targets = torch.randint(0, 23, (n, 12), generator=draw)
    for row in range(n):
        targets[row, : row * 12 // max(1, n - 1)] = IGNORE
    return Batch(ids, targets)


def pieces(batch: Batch, size: int) -> list[Batch]:
    """The batch as micro-batches."""
    parts = zip(batch.ids.split(size), batch.targets.split(size), strict=True)
    return [Batch(ids, targets) for ids, targets in parts]


def double_loss(model: GPT, batch: Batch) -> Tensor:
    """Pretraining's objective without its float32."""
    logits = model(batch.ids, segments=batch.segments)  # (B, T, P)
    return F.cross_entropy(
        logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE, reduction="sum"
    )


def weights(model: GPT) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}
