"""The head and its cross-entropy together, a few rows at a time.

In: hidden states, the head's matrix, targets. Out: the sum of the losses with its gradients, or
each target's loss without. Always true: of the (rows, vocabulary) logits only a chunk exists at any
moment, and only a chunk in float32.

The gradients are computed on the way forward, chunk by chunk, because each chunk's logits are at
hand then: three matrix products in all, as without chunks, and nothing is computed twice. That the
gradient of a sum of losses is the sum of the chunks' gradients is all the mathematics there is
(Wijmans et al. 2024, "Cut Your Losses in Large-Vocabulary Language Models", go further; Liger
Kernel does as here).

Shapes: N rows (batch times positions), n rows of a chunk, C width, V real and P padded vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from fromscratch.model import few_rows
from fromscratch.model.int8 import Int8Linear
from fromscratch.model.linear import product, suits_onednn

CHUNK_BYTES = 64 * 2**20
"""Of one chunk's logits in float32. Smaller ones read the head's matrix from memory more often."""

_CACHED_BYTES = 8 * 2**20
"""Of the rows whose softmax is taken at a time on a CPU: it goes over them several times."""


@dataclass(frozen=True)
class Head:
    """What turns hidden states into logits.

    Attributes:
        weight: (P, C).
        bias: (P,), or None.
        vocab_size: V; the ids from V to P are padding and take no probability (R21).
        softcap: Logits are softcap * tanh(logits / softcap) (Gemma Team 2024); 0 for none.
        int8: Instead of weight (of which only the shape then counts) and bias, in a quantised
            model, which has no gradients.
        packed: The weight as `few_rows.pack` made it.
    """

    weight: Tensor
    bias: Tensor | None
    vocab_size: int
    softcap: float = 0.0
    int8: Int8Linear | None = None
    packed: few_rows.Packed | None = None

    def logits(self, hidden: Tensor) -> Tensor:
        """Maps (..., C) to (..., P); those of padding ids are -inf."""
        if self.int8 is not None:
            return self.finish(self.int8(hidden))
        if few_rows.suits(hidden):
            return self.finish(few_rows.product(hidden, self.weight, self.bias, self.packed))
        return self.finish(F.linear(hidden, self.weight, self.bias))

    def finish(self, products: Tensor) -> Tensor:
        """What the products (..., P) with the matrix still lack: the cap, and the padding's -inf.

        May overwrite them.
        """
        if self.softcap:
            products = self.softcap * torch.tanh(products / self.softcap)
        if self.vocab_size < self.weight.shape[0]:
            products[..., self.vocab_size :] = float("-inf")
        return products


def summed_cross_entropy(head: Head, hidden: Tensor, targets: Tensor, *, ignore: int) -> Tensor:
    """The negative log-likelihoods of all targets, summed, in nats.

    Equal to `F.cross_entropy(head.logits(hidden).float(), targets, reduction="sum")`, gradients
    included. Under autocast the products run in its type, everything else in float32.

    Args:
        head: The head.
        hidden: (N, C).
        targets: (N,) ids; rows with `ignore` count nothing.
        ignore: The target that is none.

    Returns:
        A scalar; it can be differentiated once.
    """
    total: Tensor = _SummedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, head.weight, head.bias, targets, ignore, head.vocab_size, head.softcap
    )
    return total


@torch.no_grad()
def token_losses(head: Head, hidden: Tensor, targets: Tensor, *, ignore: int) -> Tensor:
    """The negative log-likelihood of each target, (N,), in nats; 0 where there is none.

    Arguments as for `summed_cross_entropy`. Without gradients.
    """
    products = _Products(head, hidden)
    losses = torch.empty(len(hidden), dtype=_wide(hidden.dtype), device=hidden.device)
    for rows in _chunks(len(hidden), len(head.weight)):
        _losses(products.logits(rows), targets[rows], ignore, head, out=losses[rows])
    return losses


class _Products:
    """The head's matrix products in the type that autocast asks for."""

    def __init__(self, head: Head, hidden: Tensor) -> None:
        device = hidden.device.type
        self.type = hidden.dtype
        if torch.is_autocast_enabled(device) and self.type != torch.float64:
            self.type = torch.get_autocast_dtype(device)
        self.by_onednn = suits_onednn(hidden)
        self.int8 = head.int8
        self.hidden = hidden.to(self.type)  # (N, C)
        self.weight = head.weight.to(self.type)  # (P, C)
        self.bias = None if head.bias is None else head.bias.to(self.type)

    def logits(self, rows: slice) -> Tensor:
        """(n, P), before the cap and the padding's -inf."""
        if self.int8 is not None:
            out: Tensor = self.int8(self.hidden[rows])
            return out
        if self.by_onednn:
            return product(self.hidden[rows], self.weight, self.bias)
        with torch.autocast(self.hidden.device.type, enabled=False):
            return F.linear(self.hidden[rows], self.weight, self.bias)


def _losses(
    logits: Tensor,
    targets: Tensor,
    ignore: int,
    head: Head,
    *,
    out: Tensor,
    gradients: bool = False,
) -> None:
    """The losses of some rows, and in place of their logits the gradients.

    Args:
        logits: (n, P), overwritten: by the gradients where they are asked for, which in rows
            without a target are of no use.
        targets: (n,).
        ignore: The target that is none.
        head: Whose cap and padding apply.
        out: (n,), filled with the losses.
        gradients: Whether gradients are wanted.
    """
    step = len(logits)
    if logits.device.type == "cpu":
        step = max(1, _CACHED_BYTES // (4 * logits.shape[1]))
    none = targets == ignore
    columns = targets.masked_fill(none, 0)[:, None]  # some column where there is no target
    for start in range(0, len(logits), step):
        rows = slice(start, start + step)
        finished = head.finish(logits[rows].to(_wide(logits.dtype)))
        part = F.log_softmax(finished, dim=-1)
        picked = part.gather(1, columns[rows])
        torch.neg(picked[:, 0].masked_fill(none[rows], 0.0), out=out[rows])
        if gradients:
            part.exp_().scatter_add_(1, columns[rows], torch.full_like(picked, -1.0))
            if head.softcap:
                # The padding's are -inf, where the cap has no slope; their gradient is zero.
                real = slice(0, head.vocab_size)
                part[:, real] *= 1 - (finished[:, real] / head.softcap) ** 2
            logits[rows] = part


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _chunks(rows: int, columns: int) -> Iterator[slice]:
    """Cuts the rows into as few equal chunks as have at most `CHUNK_BYTES` of logits."""
    most = max(1, CHUNK_BYTES // (4 * columns))
    each = -(-rows // -(-rows // most)) if rows else 1
    if each >= 128 and each % 128:
        each = min(each + 128 - each % 128, most)  # whole tiles of a matrix product
    for start in range(0, rows, each):
        yield slice(start, min(start + each, rows))


class _SummedCrossEntropy(torch.autograd.Function):
    """Forward: the sum, and the gradients by hidden states and head. Backward: hands them out."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        ignore: int,
        vocab_size: int,
        softcap: float,
    ) -> Tensor:
        head = Head(weight, bias, vocab_size, softcap)
        products = _Products(head, hidden)
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        by_hidden = torch.empty_like(hidden) if needs_hidden else None
        by_weight = torch.empty_like(weight) if needs_weight else None
        by_bias = torch.empty_like(bias) if bias is not None and needs_bias else None
        losses = torch.empty(len(hidden), dtype=_wide(hidden.dtype), device=hidden.device)
        for rows in _chunks(len(hidden), len(weight)):
            by_logits = products.logits(rows)
            _losses(by_logits, targets[rows], ignore, head, out=losses[rows], gradients=True)
            # Rows without a target are left out here, where they are C wide instead of P.
            none = (targets[rows] == ignore)[:, None]
            first = rows.start == 0
            with torch.autocast(hidden.device.type, enabled=False):
                if by_hidden is not None:
                    by_hidden[rows] = (by_logits @ products.weight).masked_fill_(none, 0.0)
                if by_weight is not None:
                    kept = products.hidden[rows].masked_fill(none, 0.0)
                    _add_product(by_weight, by_logits.mT, kept, first=first)
                if by_bias is not None:
                    counted = (~none).to(by_logits.dtype)
                    _add_product(by_bias[:, None], by_logits.mT, counted, first=first)
        ctx.gradients = (by_hidden, by_weight, by_bias)
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_total: Tensor) -> tuple[Tensor | None, ...]:
        assert ctx.gradients is not None, "the gradients were handed out already"
        gradients = [None if g is None else g.mul_(by_total) for g in ctx.gradients]
        ctx.gradients = None
        return (*gradients, None, None, None, None)


def _add_product(total: Tensor, left: Tensor, right: Tensor, *, first: bool) -> None:
    """Adds a product to `total`, or puts it there first, with the sum in the type of `total`."""
    if total.dtype != left.dtype:
        added = left @ right
        _ = total.copy_(added) if first else total.add_(added)
    elif first:
        torch.mm(left, right, out=total)
    else:
        total.addmm_(left, right)
