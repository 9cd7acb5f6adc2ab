"""The position-wise feed-forward network. Shapes: B batch, T positions, C width, F hidden width."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from fromscratch.model.config import ModelConfig
from fromscratch.model.linear import Linear


def _relu_squared(x: Tensor) -> Tensor:
    """So et al. (2021), Primer."""
    return F.relu(x).square()


def _gated(x: Tensor) -> Tensor:
    """Shazeer (2020): silu(gate) * up, the two halves of (..., 2F)."""
    gate, value = x.chunk(2, dim=-1)
    return F.silu(gate) * value


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "relu2": _relu_squared,
    "swiglu": _gated,
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
            hidden = self.down(self.activation(hidden))
        out: Tensor = self.resid_dropout(hidden)
        return out
