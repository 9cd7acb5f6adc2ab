"""The head and its cross-entropy together, a few rows at a time.

In: hidden states, the head's matrix, targets. Out: the sum of the losses with its gradients, or
each target's loss, with or without. Always true: of the (rows, vocabulary) logits only a chunk
exists at any moment, and only a chunk in float32.

The gradients are computed on the way forward, chunk by chunk, because each chunk's logits are at
hand then: three matrix products in all, as without chunks, and nothing is computed twice. That the
gradient of a sum of losses is the sum of the chunks' gradients is all the mathematics there is
(Wijmans et al. 2024, "Cut Your Losses in Large-Vocabulary Language Models", go further; Liger
Kernel does as here). Where each loss is wanted by itself, what it will be multiplied by is known
only on the way back: the logits are computed again there, one product more.

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
    return _each_loss(_Products(head, hidden), targets, ignore, head)


def target_log_probs(head: Head, hidden: Tensor, targets: Tensor, *, ignore: int) -> Tensor:
    """The log-probability of each target, (N,), in nats, with gradients; 0 where there is none.

    For objectives that are no sum over targets. Arguments as for `summed_cross_entropy`; can be
    differentiated once. Rows without a target cost as much as others: leave out what can be.
    """
    losses: Tensor = _EachCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, head.weight, head.bias, targets, ignore, head.vocab_size, head.softcap
    )
    return -losses


def _each_loss(products: _Products, targets: Tensor, ignore: int, head: Head) -> Tensor:
    """Each target's loss, (N,)."""
    hidden = products.hidden
    losses = torch.empty(len(hidden), dtype=_wide(products.given), device=hidden.device)
    for rows in _chunks(len(hidden), len(head.weight)):
        _losses(products.logits(rows), targets[rows], ignore, head, out=losses[rows])
    return losses


class _Products:
    """The head's matrix products in the type that autocast asks for."""

    def __init__(self, head: Head, hidden: Tensor, dtype: torch.dtype | None = None) -> None:
        device = hidden.device.type
        self.given = hidden.dtype
        self.type = hidden.dtype if dtype is None else dtype
        if dtype is None and torch.is_autocast_enabled(device) and self.type != torch.float64:
            self.type = torch.get_autocast_dtype(device)
        self.by_onednn = self.type == self.given and suits_onednn(hidden)
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


@dataclass
class _Gradients:
    """By hidden states and head, added up over chunks; None for what needs none."""

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None

    @classmethod
    def empty(
        cls, hidden: Tensor, weight: Tensor, bias: Tensor | None, needed: tuple[bool, ...]
    ) -> _Gradients:
        """Room for those that are needed."""
        return cls(
            torch.empty_like(hidden) if needed[0] else None,
            torch.empty_like(weight) if needed[1] else None,
            torch.empty_like(bias) if bias is not None and needed[2] else None,
        )

    def fill(
        self,
        products: _Products,
        targets: Tensor,
        ignore: int,
        head: Head,
        shares: Tensor | None = None,
    ) -> Tensor:
        """Computes them a chunk at a time, and the loss of each target, (N,), on the way.

        Args:
            products: The logits.
            targets: (N,).
            ignore: The target that is none.
            head: Whose cap and padding apply.
            shares: (N, 1), what each target's loss counts; all of them 1 where left out.
        """
        losses = torch.empty(len(targets), dtype=_wide(products.given), device=targets.device)
        for rows in _chunks(len(targets), len(head.weight)):
            by_logits = products.logits(rows)
            _losses(by_logits, targets[rows], ignore, head, out=losses[rows], gradients=True)
            if shares is not None:
                by_logits *= shares[rows]
            self._add(rows, by_logits, (targets[rows] == ignore)[:, None], products)
        return losses

    def _add(self, rows: slice, by_logits: Tensor, none: Tensor, products: _Products) -> None:
        """What a chunk adds.

        Args:
            rows: The chunk; the one from row 0 on comes first.
            by_logits: (n, P) gradients.
            none: (n, 1), the rows without a target: left out here, where they are C wide, not P.
            products: Whose logits these are.
        """
        first = rows.start == 0
        with torch.autocast(by_logits.device.type, enabled=False):
            if self.hidden is not None:
                self.hidden[rows] = (by_logits @ products.weight).masked_fill_(none, 0.0)
            if self.weight is not None:
                kept = products.hidden[rows].masked_fill(none, 0.0)
                _add_product(self.weight, by_logits.mT, kept, first=first)
            if self.bias is not None:
                counted = (~none).to(by_logits.dtype)
                _add_product(self.bias[:, None], by_logits.mT, counted, first=first)

    def times(self, factor: Tensor) -> list[Tensor | None]:
        """All of them, multiplied in place: for this they can be used once."""
        every = (self.hidden, self.weight, self.bias)
        return [None if gradient is None else gradient.mul_(factor) for gradient in every]


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
        gradients = _Gradients.empty(hidden, weight, bias, ctx.needs_input_grad)
        ctx.gradients = gradients
        return gradients.fill(_Products(head, hidden), targets, ignore, head).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_total: Tensor) -> tuple[Tensor | None, ...]:
        assert ctx.gradients is not None, "the gradients were handed out already"
        gradients = ctx.gradients.times(by_total)
        ctx.gradients = None
        return (*gradients, None, None, None, None)


class _EachCrossEntropy(torch.autograd.Function):
    """Forward: the losses. Backward: their logits again, a chunk at a time, and the gradients."""

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
        products = _Products(Head(weight, bias, vocab_size, softcap), hidden)
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.settings = (ignore, vocab_size, softcap, products.type)
        return _each_loss(products, targets, ignore, Head(weight, bias, vocab_size, softcap))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_loss: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets = ctx.saved_tensors
        ignore, vocab_size, softcap, dtype = ctx.settings
        head = Head(weight, bias, vocab_size, softcap)
        products = _Products(head, hidden, dtype)
        gradients = _Gradients.empty(hidden, weight, bias, ctx.needs_input_grad)
        # With fp16's loss scale in it, a factor can be more than 16 bits hold: they get the share.
        largest = by_loss.abs().max().clamp(min=torch.finfo(by_loss.dtype).tiny)
        shares = (by_loss / largest)[:, None].to(products.type)  # (N, 1)
        gradients.fill(products, targets, ignore, head, shares)
        return (*gradients.times(largest), None, None, None, None)


def _add_product(total: Tensor, left: Tensor, right: Tensor, *, first: bool) -> None:
    """Adds a product to `total`, or puts it there first, with the sum in the type of `total`."""
    if total.dtype != left.dtype:
        added = left @ right
        _ = total.copy_(added) if first else total.add_(added)
    elif first:
        torch.mm(left, right, out=total)
    else:
        total.addmm_(left, right)
