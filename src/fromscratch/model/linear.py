"""Linear layers that are fast and sparing in float32 on a CPU.

torch gives float32 products to MKL. oneDNN, which is in the same build, is faster at y = x W^T and
at dx = dy W, and slower at dW = dy^T x (dev/LOG.md has the figures), so each goes where it is fast.
Elsewhere, and for the few rows of generation, this is `torch.nn.Linear`.

A layer may also take what it is applied to as a function of something smaller or needed anyway (an
activation of what comes before it): then that is kept for the backward pass instead of both, and
the function, cheap beside the product, is computed again. A compiler does as much where there is
one.

Shapes: N rows, K inputs, M outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fromscratch.model import few_rows

_FEW_ROWS = few_rows.MOST_ROWS


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


@dataclass(frozen=True)
class Activation:
    """A function without parameters, elementwise or by row, and its gradient.

    Attributes:
        function: Maps (..., K') to (..., K).
        gradient: Maps the gradient of the result (..., K) and the input to that of the input.
    """

    function: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        """The function itself, which autograd can follow."""
        return self.function(x)


class Linear(nn.Linear):
    """`torch.nn.Linear`: the same parameters, the same result up to rounding."""

    packed: few_rows.Packed | None = None
    """The weight as `few_rows.pack` made it, for generating."""

    of_one_row: Callable[[Tensor], Tensor] | None = None
    """`few_rows.product_of_one_row` of this layer, while one sequence is generated."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., K) to (..., M)."""
        if (
            self.of_one_row is not None
            and x.numel() == self.in_features
            and x.is_contiguous()
            and not torch.is_grad_enabled()
        ):
            return self.of_one_row(x)
        return self.of(None, x)

    def of(self, function: Activation | None, x: Tensor) -> Tensor:
        """Applies the layer to `function(x)`."""
        if few_rows.suits(x):
            inputs = x if function is None else function(x)
            return few_rows.product(inputs, self.weight, self.bias, self.packed)
        if not suits_onednn(x):
            return F.linear(x if function is None else function(x), self.weight, self.bias)
        out: Tensor = _LinearOf.apply(  # type: ignore[no-untyped-call]
            function, x, self.weight, self.bias
        )
        return out


class _LinearOf(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        function: Activation | None,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        inputs = x if function is None else function(x)  # (..., K)
        ctx.save_for_backward(x, weight)
        ctx.function, ctx.has_bias = function, bias is not None
        rows = inputs.reshape(-1, inputs.shape[-1])  # (N, K)
        return product(rows, weight, bias).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_out: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        _, needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        by_rows = by_out.reshape(-1, by_out.shape[-1])  # (N, M)
        inputs = x if ctx.function is None else ctx.function(x)
        by_weight = None
        if needs_weight:
            by_weight = by_rows.mT @ inputs.reshape(-1, inputs.shape[-1])
        by_x = product(by_rows, weight.mT).view(inputs.shape) if needs_x else None
        if ctx.function is not None and by_x is not None:
            by_x = ctx.function.gradient(by_x, x)
        by_bias = by_rows.sum(dim=0) if ctx.has_bias and needs_bias else None
        return None, by_x, by_weight, by_bias
