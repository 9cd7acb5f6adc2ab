"""Keys and values of the tokens seen so far, so that each new token costs one position.

`KVCache` holds one batch of equally long sequences. `KVRows` puts several caches of one sequence
each end to end, whatever their lengths and however many tokens each of them is given.

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
        self._by_layer = list(zip(self.keys.unbind(), self.values.unbind(), strict=True))
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
        n_tokens = keys.shape[2]
        end = self.length + n_tokens
        assert end <= self.capacity, "the cache is full: slide the window first"
        all_keys, all_values = self._by_layer[layer]  # (B, nkv, S, hd)
        all_keys.narrow(2, self.length, n_tokens).copy_(keys)
        all_values.narrow(2, self.length, n_tokens).copy_(values)
        return all_keys.narrow(2, 0, end), all_values.narrow(2, 0, end)

    def positions(self, n_tokens: int) -> slice | Tensor:
        """Where the next tokens stand."""
        return slice(self.length, self.length + n_tokens)

    def length_with(self, n_tokens: int) -> int:
        """Of the longest sequence, when it has been given so many more."""
        return self.length + n_tokens

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
    """Caches of one sequence each; their new tokens are one row, (1, T), one after the other.

    So everything but attention is computed for all of them at once, as for one sequence.

    Args:
        rows: The caches.
        counts: How many of the T tokens belong to each.
    """

    def __init__(self, rows: Sequence[KVCache], counts: Sequence[int]) -> None:
        self.rows, self.counts = rows, list(counts)
        self.masks = [self._mask(row, n) for row, n in zip(rows, counts, strict=True)]

    @staticmethod
    def _mask(row: KVCache, n_tokens: int) -> Tensor | None:
        """Who may look at whom, (T, S); None where plain causality says it all."""
        if n_tokens == 1 or row.length == 0:
            return None
        device = row.keys.device
        queries = torch.arange(row.length, row.length + n_tokens, device=device)[:, None]
        return queries >= torch.arange(row.length + n_tokens, device=device)

    def positions(self, n_tokens: int) -> slice | Tensor:
        """Where the tokens stand, each in its own sequence, (T,)."""
        assert n_tokens == sum(self.counts), "each token belongs to a sequence"
        where = [
            position
            for row, n in zip(self.rows, self.counts, strict=True)
            for position in range(row.length, row.length + n)
        ]
        return torch.tensor(where, device=self.rows[0].keys.device)

    def length_with(self, n_tokens: int) -> int:
        """Of the longest sequence, when each has been given its tokens."""
        return max(row.length + n for row, n in zip(self.rows, self.counts, strict=True))

    def advance(self, n_tokens: int) -> None:
        """Counts the tokens as stored."""
        for row, n in zip(self.rows, self.counts, strict=True):
            row.advance(n)
