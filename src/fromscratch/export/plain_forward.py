"""GPT-2's forward pass written out plainly in float64: what an imported model is held against.

In: a foreign checkpoint's tensors by what they are. Out: logits. It shares no code with the network
in `model/`, so a part that was transposed, swapped or left out on the way shows as a difference.
The network: Radford et al. 2019; layer norm before attention and MLP, as in the released code.

Shapes: B sequences, T positions, C width, nh heads, V rows of the embedding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from fromscratch.export.foreign_names import ForeignModel
from fromscratch.model.config import ModelConfig


@torch.inference_mode()
def plain_logits(model: ForeignModel, config: ModelConfig, ids: Tensor) -> Tensor:
    """Logits (B, T, V) of ids (B, T)."""
    top = model.top
    x = top["embed.weight"][ids].double() + top["positions.weight"][: ids.shape[1]].double()
    for block in model.blocks:
        x = x + _attention(block, _norm(block, "attn_norm", x, config), config.n_head)
        inner = _gelu(_linear(block, "up", _norm(block, "mlp_norm", x, config)), config.activation)
        x = x + _linear(block, "down", inner)
    x = _norm(top, "final_norm", x, config)
    head = top.get("head.weight", top["embed.weight"]).double()
    logits = x @ head.t()
    return logits + top["head.bias"].double() if "head.bias" in top else logits


def _norm(place: Mapping[str, Tensor], name: str, x: Tensor, config: ModelConfig) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + config.norm_eps)
    out = scaled * place[f"{name}.weight"].double()
    return out + place[f"{name}.bias"].double() if f"{name}.bias" in place else out


def _linear(block: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    out = x @ block[f"{name}.weight"].double().t()
    return out + block[f"{name}.bias"].double() if f"{name}.bias" in block else out


def _attention(block: Mapping[str, Tensor], x: Tensor, n_head: int) -> Tensor:
    if "qkv.weight" in block:
        parts = _linear(block, "qkv", x).chunk(3, dim=-1)
    else:
        parts = tuple(_linear(block, name, x) for name in "qkv")
    batch, length, width = x.shape
    # (B, nh, T, C / nh)
    q, k, v = (p.reshape(batch, length, n_head, -1).transpose(1, 2) for p in parts)
    scores = q @ k.transpose(-1, -2) / math.sqrt(width / n_head)
    later = torch.ones(length, length, dtype=torch.bool).triu(1)
    weights = scores.masked_fill(later, -math.inf).softmax(-1)
    return _linear(block, "out", (weights @ v).transpose(1, 2).reshape(batch, length, width))


def _gelu(x: Tensor, activation: str) -> Tensor:
    if activation == "relu":
        return x.clamp(min=0)
    if activation == "relu2":
        return x.clamp(min=0) ** 2
    if activation == "gelu":
        return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
