"""Linear layers whose float32 products on a CPU go to the faster of the two libraries at hand.

torch gives float32 products to MKL. oneDNN, which is in the same build, is faster at y = x W^T and
at dx = dy W, and slower at dW = dy^T x (dev/LOG.md has the figures), so each goes where it is fast.
Elsewhere, and for the few rows of generation, this is `torch.nn.Linear`.

Shapes: N rows, K inputs, M outputs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_FEW_ROWS = 64


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """OneDNN's x W^T + b: (N, K), (M, K), (M,) to (N, M), without a gradient of its own."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def suits_onednn(x: Tensor) -> bool:
    """Whether `product` is there and faster for these inputs."""
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and x.numel() >= _FEW_ROWS * x.shape[-1]
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


class Linear(nn.Linear):
    """`torch.nn.Linear`: the same parameters, the same result up to rounding."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., K) to (..., M)."""
        if not suits_onednn(x):
            return F.linear(x, self.weight, self.bias)
        out: Tensor = _Linear.apply(  # type: ignore[no-untyped-call]
            x, self.weight, self.bias
        )
        return out


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])  # (N, K)
        ctx.save_for_backward(rows, weight)
        ctx.has_bias = bias is not None
        return product(rows, weight, bias).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_out: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        by_rows = by_out.reshape(-1, by_out.shape[-1])  # (N, M)
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        by_x = product(by_rows, weight.mT).view(*by_out.shape[:-1], -1) if needs_x else None
        by_weight = by_rows.mT @ rows if needs_weight else None
        by_bias = by_rows.sum(dim=0) if ctx.has_bias and needs_bias else None
        return by_x, by_weight, by_bias
