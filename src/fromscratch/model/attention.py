"""Causal self-attention through `scaled_dot_product_attention`, or by hand (see `by_hand`).

Shapes: B batch, T positions, S positions seen (cached ones and new ones), C width, nh query heads,
nkv key/value heads, hd head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fromscratch.model import by_hand
from fromscratch.model.config import ModelConfig
from fromscratch.model.kv_cache import KVCache, KVRows
from fromscratch.model.linear import Linear
from fromscratch.model.norm import make_qk_norm
from fromscratch.model.positions import rotate


@dataclass(frozen=True)
class AttentionInputs:
    """What all layers of one forward pass share.

    Attributes:
        rope: Cosines and sines for the positions at hand, each (T, hd) or (B, 1, T, hd); None when
            positions are not rotary.
        mask: (B, 1, T, S), True where a query may look; None for plain causal attention.
        cache: Where keys and values are kept while generating.
    """

    rope: tuple[Tensor, Tensor] | None = None
    mask: Tensor | None = None
    cache: KVCache | KVRows | None = None


class Attention(nn.Module):
    """Multi-head attention with optional grouped key/value heads, QK-norm and rotary positions."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.n_head, self.n_kv_head = config.n_head, config.n_kv_head
        self.head_dim = config.head_dim
        self.dropout = config.dropout
        self.rows = (self.n_head * self.head_dim, *[self.n_kv_head * self.head_dim] * 2)
        self.qkv = Linear(config.d_model, sum(self.rows), bias=config.qkv_bias)
        self.norm_eps = config.norm_eps
        self.q_norm = make_qk_norm(config) if config.qk_norm else None
        self.k_norm = make_qk_norm(config) if config.qk_norm else None
        self.out = Linear(self.rows[0], config.d_model, bias=config.attn_out_bias)
        self.extra = (
            Linear(config.d_model, config.d_model, bias=config.attn_out_bias)
            if config.extra_attn_proj
            else None
        )
        self.resid_dropout = nn.Dropout(config.dropout)

    def project(self, x: Tensor, inputs: AttentionInputs) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, nh, T, hd), keys and values (B, nkv, T, hd) of x (B, T, C), as compared."""
        batch, length, _ = x.shape
        qkv = self.qkv(x)  # (B, T, (nh + 2 nkv) hd)
        weights, rope = self._norm_weights(), inputs.rope
        if weights is not None and rope is not None and rope[0].dim() == 2 and by_hand.suits(qkv):
            by_head = by_hand.normed_and_rotated(qkv, weights, rope, eps=self.norm_eps)
            q, k, v = (part.transpose(0, 1) for part in by_head)
            return q, k, v
        q, k, v = qkv.split(self.rows, dim=-1)
        q = q.view(batch, length, self.n_head, self.head_dim).transpose(1, 2)  # (B, nh, T, hd)
        k = k.view(batch, length, self.n_kv_head, self.head_dim).transpose(1, 2)  # (B, nkv, T, hd)
        v = v.view(batch, length, self.n_kv_head, self.head_dim).transpose(1, 2)  # (B, nkv, T, hd)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = rotate(q, *rope), rotate(k, *rope)
        return q, k, v

    def _norm_weights(self) -> tuple[Tensor, Tensor] | None:
        """QK-norm's weights for each head, (nh, hd) and (nkv, hd); None where it has none."""
        if self.q_norm is None or self.k_norm is None:
            return None
        q, k = self.q_norm.weight, self.k_norm.weight
        if q is None or k is None:
            return None
        return q.expand(self.n_head, -1), k.expand(self.n_kv_head, -1)

    def forward(self, x: Tensor, inputs: AttentionInputs) -> Tensor:
        """Maps (B, T, C) to (B, T, C)."""
        batch, length, _ = x.shape
        q, k, v = self.project(x, inputs)
        if isinstance(inputs.cache, KVCache):
            k, v = inputs.cache.append(self.layer, k, v)  # (B, nkv, S, hd)
        if isinstance(inputs.cache, KVRows):
            y = self._attend_rows(q, k, v, inputs.cache)
        elif self._is_short(q, k, inputs):
            y = by_hand.short_attention(q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1))
            y = y.transpose(0, 1)
        else:
            y = self._attend(q, k, v, inputs)
        y = self.out(y.transpose(1, 2).reshape(batch, length, -1))  # (B, T, C)
        if self.extra is not None:
            y = self.extra(y)
        # Generation makes so many calls for each token that one without effect is felt.
        return cast(Tensor, self.resid_dropout(y)) if self.training else y

    def _attend_rows(self, q: Tensor, k: Tensor, v: Tensor, cache: KVRows) -> Tensor:
        """Each sequence's new queries with its own past: (1, nh, T, hd) to (1, nh, T, hd)."""
        parts = (x.split(cache.counts, dim=2) for x in (q, k, v))
        out = []
        for row, mask, queries, *new in zip(cache.rows, cache.masks, *parts, strict=True):
            keys, values = row.append(self.layer, *new)
            out.append(self._attend(queries, keys, values, AttentionInputs(mask=mask)))
        return torch.cat(out, dim=2)

    def _is_short(self, q: Tensor, k: Tensor, inputs: AttentionInputs) -> bool:
        """Whether all scores may be made at once: plain causal attention of a short context."""
        return (
            q.shape == k.shape
            and 1 < q.shape[2] <= by_hand.SHORT
            and inputs.mask is None
            and not (self.training and self.dropout)
            and by_hand.suits(q)
        )

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, inputs: AttentionInputs) -> Tensor:
        """(B, nh, T, hd) and twice (B, nkv, S, hd) to (B, nh, T, hd)."""
        return F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=inputs.mask,
            dropout_p=self.dropout if self.training else 0.0,
            # One new token may look at everything that is cached; causality is then no constraint.
            is_causal=inputs.mask is None and q.shape[2] > 1,
            enable_gqa=self.n_kv_head != self.n_head,
        )
