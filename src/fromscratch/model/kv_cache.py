"""Keys and values of the tokens seen so far, so that each new token costs one position.

Shapes: L layers, B batch, nkv key/value heads, S capacity in tokens, T new tokens, hd head size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fromscratch.model.config import ModelConfig


class KVCache:
    """A preallocated cache for one batch of equally long sequences.

    `length` tokens are filled; `GPT.forward` appends the new ones layer by layer and then calls
    `advance` once.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        *,
        capacity: int | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.capacity = capacity or config.context
        shape = (config.n_layer, batch, config.n_kv_head, self.capacity, config.head_dim)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)  # (L, B, nkv, S, hd)
        self.values = torch.zeros(shape, device=device, dtype=dtype)  # (L, B, nkv, S, hd)
        self.length = 0

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Stores T new positions of one layer; returns all of that layer's, old and new.

        Args:
            layer: Which layer.
            keys: (B, nkv, T, hd).
            values: (B, nkv, T, hd).

        Returns:
            Keys and values (B, nkv, length + T, hd).
        """
        end = self.length + keys.shape[2]
        assert end <= self.capacity, "the cache is full: slide the window first"
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def advance(self, n_tokens: int) -> None:
        """Counts n_tokens as stored, after every layer has appended them."""
        self.length += n_tokens

    def reset(self) -> None:
        """Forgets everything; the memory stays."""
        self.length = 0
