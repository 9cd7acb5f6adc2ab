"""Where a token stands: rotary (RoPE) and sinusoidal encodings. Learned ones are an embedding.

Shapes: B batch, T positions, nh heads, hd head size, C width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rope_table(context: int, head_dim: int, theta: float, device: torch.device) -> Tensor:
    """Cosines and sines of the rotation angles (Su et al. 2021, RoFormer).

    Angles are computed in float32, as transformers does, whatever the model's dtype.

    Returns:
        Tensor (2, context, head_dim): cosines and sines. The angles of the first half of the
        dimensions are repeated in the second, as Qwen3 and Llama pair dimension i with i + hd/2.
        The second half's sines carry no sign; `rotate` applies it.
    """
    exponent = torch.arange(0, head_dim, 2, dtype=torch.int64, device=device).float() / head_dim
    frequency = 1.0 / (theta**exponent)  # (hd/2)
    angle = torch.arange(context, device=device).float()[:, None] * frequency  # (context, hd/2)
    angle = torch.cat((angle, angle), dim=-1)  # (context, hd)
    return torch.stack((angle.cos(), angle.sin()))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the pairs (i, i + hd/2) of queries or keys.

    Args:
        x: (B, nh, T, hd).
        cos: Cosines, broadcastable to x: (T, hd) or (B, 1, T, hd).
        sin: Sines, likewise.
    """
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos + turned * sin


def sinusoidal_table(context: int, width: int, device: torch.device) -> Tensor:
    """The fixed encoding of Vaswani et al. (2017), section 3.5.

    Returns:
        Tensor (context, width): sines in the even dimensions, cosines in the odd ones.
    """
    exponent = torch.arange(0, width, 2, dtype=torch.int64, device=device).float() / width
    angle = torch.arange(context, device=device).float()[:, None] / (10_000.0**exponent)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).reshape(context, width)
