"""Keys and values of the tokens seen so far, so that each new token costs one position.

`KVCache` holds one batch of equally long sequences. `KVRows` puts several caches of one sequence
each side by side, whatever their lengths, so that one step gives each of them its next token.

Shapes: L layers, B batch, nkv key/value heads, S capacity in tokens, T new tokens, hd head size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fromscratch.model.config import ModelConfig


class KVCache:
    """A preallocated cache for one batch of equally long sequences.

    `length` tokens are filled; `GPT.forward` appends the new ones layer by layer and then calls
    `advance` once. What lies beyond `length` is never read, so it is never written either: the
    system gives the memory as it is filled.
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
        self.keys = torch.empty(shape, device=device, dtype=dtype)  # (L, B, nkv, S, hd)
        self.values = torch.empty(shape, device=device, dtype=dtype)  # (L, B, nkv, S, hd)
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

    def positions(self, n_tokens: int) -> slice | Tensor:
        """Where the next tokens stand."""
        return slice(self.length, self.length + n_tokens)

    def advance(self, n_tokens: int) -> None:
        """Counts n_tokens as stored, after every layer has appended them."""
        self.length += n_tokens

    def reset(self) -> None:
        """Forgets everything; the memory stays."""
        self.length = 0

    def copy_from(self, other: KVCache) -> None:
        """Becomes a copy of a cache of the same model and batch, whatever the capacities."""
        assert other.length <= self.capacity, "what is copied does not fit"
        self.length = other.length
        self.keys[:, :, :, : self.length] = other.keys[:, :, :, : self.length]
        self.values[:, :, :, : self.length] = other.values[:, :, :, : self.length]


class KVRows:
    """Caches of one sequence each, taken as the rows of a batch: one new token for every row."""

    def __init__(self, rows: Sequence[KVCache]) -> None:
        self.rows = rows

    @property
    def length(self) -> int:
        """Of the longest."""
        return max(row.length for row in self.rows)

    def positions(self, n_tokens: int) -> slice | Tensor:
        """Where the rows' next tokens stand, (B, 1)."""
        assert n_tokens == 1, "rows of unequal length go on by one token at a time"
        where = [row.length for row in self.rows]
        return torch.tensor(where, device=self.rows[0].keys.device)[:, None]

    def advance(self, n_tokens: int) -> None:
        """Counts a token as stored in every row."""
        for row in self.rows:
            row.advance(n_tokens)
