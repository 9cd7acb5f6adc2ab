"""LayerNorm and RMSNorm, with weight and bias each an option."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fromscratch.model.config import ModelConfig


class LayerNorm(nn.Module):
    """Ba et al. (2016), with weight and bias each optional. Statistics over the last dimension."""

    def __init__(self, width: int, *, weight: bool, bias: bool, eps: float) -> None:
        super().__init__()
        self.width, self.eps = width, eps
        self.weight = nn.Parameter(torch.ones(width)) if weight else None
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (self.width,), self.weight, self.bias, self.eps)


class RMSNorm(nn.Module):
    """Zhang and Sennrich (2019): x / sqrt(mean(x^2) + eps), times an optional weight."""

    def __init__(self, width: int, *, weight: bool, eps: float) -> None:
        super().__init__()
        self.width, self.eps = width, eps
        self.weight = nn.Parameter(torch.ones(width)) if weight else None

    def forward(self, x: Tensor) -> Tensor:
        if self.weight is not None:
            # Under autocast queries and keys are 16-bit and the weight is not: the fused kernel
            # needs one dtype, and the norm wants the wider one.
            x = x.to(self.weight.dtype)
        return F.rms_norm(x, (self.width,), self.weight, self.eps)


def make_norm(config: ModelConfig, width: int) -> nn.Module:
    """The configured norm of the residual path."""
    if config.norm == "rmsnorm":
        return RMSNorm(width, weight=config.norm_weight, eps=config.norm_eps)
    return LayerNorm(width, weight=config.norm_weight, bias=config.norm_bias, eps=config.norm_eps)


def make_qk_norm(config: ModelConfig) -> RMSNorm:
    """The norm of each head's queries or keys: always RMSNorm, as in Qwen3."""
    return RMSNorm(config.head_dim, weight=config.norm_weight, eps=config.norm_eps)
