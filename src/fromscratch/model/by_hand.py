"""Two stretches of attention on a CPU, forward and backward by hand.

Where nothing compiles a model, each elementwise operation is a pass over memory and a call, and its
gradient several. These two do what autograd would, with half the passes: queries and keys normed
and rotated together, and the attention of a context so short that its scores are a small matrix,
for which torch's kernel, made for long ones, takes twice as long (dev/LOG.md has the figures).

Shapes: B batch, T positions, nh query heads, nkv key/value heads, hd head size. Heads come first
here: (nh, B, T, hd) is one batch of matrices, and so are the first nh of (nh + 2 nkv, B, T, hd).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Up to here the whole matrix of scores is cheaper than a kernel that never makes it.
SHORT = 128


def suits(x: Tensor) -> bool:
    """Whether these are worth it: float32 on a CPU, and nobody compiles them."""
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


# --- queries and keys -----------------------------------------------------------------------------


def normed_and_rotated(
    qkv: Tensor, weights: tuple[Tensor, Tensor], rope: tuple[Tensor, Tensor], *, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys with QK-norm and rotary positions, and values, from their projection.

    Args:
        qkv: (B, T, (nh + 2 nkv) hd).
        weights: Of the norms: (nh, hd) of the queries' and (nkv, hd) of the keys'; views will do.
        rope: Cosines and sines (T, hd), as of `positions.rope_table`.
        eps: Of the norms.

    Returns:
        (nh, B, T, hd), (nkv, B, T, hd), (nkv, B, T, hd).
    """
    out: tuple[Tensor, Tensor, Tensor] = _NormedAndRotated.apply(  # type: ignore[no-untyped-call]
        qkv, *weights, *rope, eps
    )
    return out


def _by_head(qkv: Tensor, head_dim: int) -> Tensor:
    """(B, T, heads hd) as a view (heads, B, T, hd)."""
    batch, length, width = qkv.shape
    return qkv.view(batch, length, width // head_dim, head_dim).permute(2, 0, 1, 3)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor, *, sign: float) -> None:
    """Writes x rotated by the positions' angles (sign 1) or back (sign -1) into `out`."""
    half = x.shape[-1] // 2
    torch.mul(x, cos, out=out)
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-sign)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:], value=sign)


class _NormedAndRotated(torch.autograd.Function):
    """With x^ = x / rms(x), p = dy x^: dx = (w dy - x^ mean(w p)) / rms(x) and dw = sum of p."""

    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        q_weight: Tensor,
        k_weight: Tensor,
        cos: Tensor,
        sin: Tensor,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        head_dim, n_head = q_weight.shape[1], len(q_weight)
        weight = torch.cat((q_weight, k_weight))[:, None, None]  # (nh + nkv, 1, 1, hd)
        heads = _by_head(qkv, head_dim)
        x, v = heads[: len(weight)], heads[len(weight) :]
        mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(head_dim)
        inverse = mean_square.add_(eps).rsqrt_()  # (nh + nkv, B, T, 1)
        normed = torch.empty(x.shape, dtype=x.dtype)
        torch.mul(x, inverse, out=normed)
        out = torch.empty_like(normed)
        _rotate(normed * weight, cos, sin, out, sign=1.0)
        ctx.save_for_backward(normed, weight, inverse, cos, sin)
        ctx.n_head, ctx.shape = n_head, qkv.shape
        return out[:n_head], out[n_head:], v.contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_q: Tensor, by_k: Tensor, by_v: Tensor) -> tuple[Tensor | None, ...]:
        normed, weight, inverse, cos, sin = ctx.saved_tensors
        n_head, head_dim = ctx.n_head, normed.shape[-1]
        by_y = torch.empty_like(normed)
        _rotate(by_q, cos, sin, by_y[:n_head], sign=-1.0)
        _rotate(by_k, cos, sin, by_y[n_head:], sign=-1.0)
        by_weights = by_y * normed
        along = torch.matmul(by_weights.flatten(1, 2), weight.view(-1, head_dim, 1))
        along = along.view(inverse.shape).div_(-head_dim)
        by_qkv = torch.empty(ctx.shape, dtype=normed.dtype)
        parts = _by_head(by_qkv, head_dim)
        by_x = by_y.mul_(weight).addcmul_(normed, along)
        torch.mul(by_x, inverse, out=parts[: len(weight)])
        parts[len(weight) :].copy_(by_v)
        by_weight = by_weights.sum(dim=(1, 2))  # (nh + nkv, hd)
        return by_qkv, by_weight[:n_head], by_weight[n_head:], None, None, None


# --- attention ------------------------------------------------------------------------------------


def short_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention, softmax(q k^T / sqrt(hd)) v, by way of all its scores.

    Args:
        q: (nh, B, T, hd).
        k: (nh, B, T, hd).
        v: (nh, B, T, hd).

    Returns:
        (nh, B, T, hd).
    """
    out: Tensor = _ShortAttention.apply(q, k, v)  # type: ignore[no-untyped-call]
    return out


class _ShortAttention(torch.autograd.Function):
    """With the probabilities p: ds = p (dp - sum(p dp)), and products with it for q and k."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        length, head_dim = q.shape[-2:]
        flat = [x.reshape(-1, length, head_dim) for x in (q, k, v)]  # each (nh B, T, hd)
        future = torch.full((length, length), -math.inf, dtype=q.dtype).triu_(1)
        scores = torch.baddbmm(future, flat[0], flat[1].mT, alpha=head_dim**-0.5)
        probabilities = torch.softmax(scores, dim=-1)  # (nh B, T, T)
        ctx.save_for_backward(*flat, probabilities)
        return torch.bmm(probabilities, flat[2]).view(q.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, probabilities = ctx.saved_tensors
        by_rows = by_out.reshape(q.shape)
        by_v = torch.bmm(probabilities.mT, by_rows)
        by_probabilities = torch.bmm(by_rows, v.mT)
        by_scores = torch._softmax_backward_data(
            by_probabilities, probabilities, -1, probabilities.dtype
        ).mul_(q.shape[-1] ** -0.5)
        by_q, by_k = torch.bmm(by_scores, k), torch.bmm(by_scores.mT, q)
        shape = by_out.shape
        return by_q.view(shape), by_k.view(shape), by_v.view(shape)
