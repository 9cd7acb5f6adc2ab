"""The position-wise feed-forward network. Shapes: B batch, T positions, C width, F hidden width."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fromscratch.model.config import ModelConfig
from fromscratch.model.linear import Activation, Linear


def _gelu(approximate: str) -> Activation:
    """Hendrycks and Gimpel (2016)."""
    return Activation(
        lambda x: F.gelu(x, approximate=approximate),
        lambda by_y, x: torch.ops.aten.gelu_backward(by_y, x, approximate=approximate),
    )


def _gated(x: Tensor) -> Tensor:
    """Shazeer (2020): silu(gate) * up, the two halves of (..., 2F)."""
    gate, value = x.chunk(2, dim=-1)
    return F.silu(gate) * value


def _by_gated(by_y: Tensor, x: Tensor) -> Tensor:
    by_x = torch.empty_like(x)
    (gate, value), (by_gate, by_value) = x.chunk(2, dim=-1), by_x.chunk(2, dim=-1)
    torch.mul(by_y, F.silu(gate), out=by_value)
    by_gate.copy_(torch.ops.aten.silu_backward(by_y * value, gate))
    return by_x


_ACTIVATIONS = {
    "gelu": _gelu("none"),
    "gelu_tanh": _gelu("tanh"),
    "relu": Activation(F.relu, lambda by_y, x: by_y * (x > 0)),
    # So et al. (2021), Primer.
    "relu2": Activation(lambda x: F.relu(x).square(), lambda by_y, x: 2 * by_y * F.relu(x)),
    "swiglu": Activation(_gated, _by_gated),
}


class MLP(nn.Module):
    """Up, activation, down; with `swiglu` (Shazeer 2020) silu(gate) * up, both in one product."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gated = config.gated
        self.rows = (config.d_ff, config.d_ff) if self.gated else (config.d_ff,)
        self.up = Linear(config.d_model, sum(self.rows), bias=config.mlp_bias)
        self.down = Linear(config.d_ff, config.d_model, bias=config.mlp_bias)
        self.activation = _ACTIVATIONS[config.activation]
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, T, C) to (B, T, C)."""
        hidden = self.up(x)  # (B, T, F), or (B, T, 2F): gate, then up
        if self.training:
            hidden = self.down.of(self.activation, hidden)
        else:
            return cast(Tensor, self.down(self.activation(hidden)))
        return cast(Tensor, self.resid_dropout(hidden))
