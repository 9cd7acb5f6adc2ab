"""Products with weights of eight bits, for generation on a CPU: a quarter of the memory to read.

Each output's weights are integers in -127 .. 127 times a scale of their own. The inputs become
integers as well, with one scale a row, chosen when they come (dynamic quantisation; Dettmers et al.
2022 call this vector-wise). FBGEMM, which is in torch, multiplies the integers exactly; so a row's
result does not depend on the rows beside it.

Shapes: N rows, K inputs, M outputs.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

ENGINE = "fbgemm"


def is_supported() -> bool:
    """Whether this torch and this processor have the products."""
    return (
        ENGINE in torch.backends.quantized.supported_engines
        and hasattr(torch, "_make_per_channel_quantized_tensor")
        and hasattr(torch.ops.quantized, "linear_with_input_q_dq_qweight_dq_output_fp32")
    )


class Int8Linear(nn.Module):
    """Takes the place of a linear layer in a model that is only used.

    Args:
        weight: (M, K) float32 on a CPU; it is not kept.
        bias: (M,) or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        integers, scales = quantized(weight.detach())
        self.bias = None if bias is None else bias.detach().clone()
        self._packed = _pack(integers, scales)
        # Without VNNI a product of two bytes and its neighbour's are added up in 16 bits, which
        # overflow unless the inputs leave a bit free.
        self._levels = 127 if torch.cpu._is_vnni_supported() else 63

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., K) to (..., M)."""
        assert not torch.is_grad_enabled(), "a quantised model cannot be trained"
        largest = torch.linalg.vector_norm(x, torch.inf, dim=-1, keepdim=True)  # (..., 1)
        if largest.numel() == 1:
            # A row that is all zeros is zeros at any scale.
            scale = largest.item() / self._levels or 1.0
            out = self._product(x, scale)
            return out if self.bias is None else out.add_(self.bias)
        largest.clamp_(min=torch.finfo(x.dtype).tiny)
        out = self._product(x / largest, 1.0 / self._levels)
        return out.mul_(largest) if self.bias is None else torch.addcmul(self.bias, out, largest)

    def _product(self, x: Tensor, scale: float) -> Tensor:
        out: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            x, scale, self._levels + 1, self._packed
        )
        return out


def quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest integers, (M, K) int8, and each output's scale, (M,) float32."""
    scales = weight.abs().amax(dim=1).clamp(min=torch.finfo(weight.dtype).tiny) / 127
    return (weight / scales[:, None]).round().to(torch.int8), scales


def _pack(integers: Tensor, scales: Tensor) -> Any:
    """FBGEMM's own layout of the weights."""
    before = torch.backends.quantized.engine
    with warnings.catch_warnings():
        # The type of tensor is deprecated; the products, which take no other, are not.
        warnings.simplefilter("ignore", UserWarning)
        torch.backends.quantized.engine = ENGINE
        try:
            tensor = torch._make_per_channel_quantized_tensor(
                integers, scales, torch.zeros(len(scales), dtype=torch.int), 0
            )
            return torch.ops.quantized.linear_prepack(tensor, None)
        finally:
            torch.backends.quantized.engine = before
