"""What a model has read of a conversation, kept from one answer to the next.

In: the tokens of the conversation as it is now. Out: those that are not read yet. A chat's prompt
is the one before with something added, so that an answer begins as soon as the new message is read,
however long the conversation has become. What comes of it is what a fresh cache would give, up to
rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

from fromscratch.model.gpt import GPT
from fromscratch.model.kv_cache import KVCache


class Memory:
    """Keys and values of the tokens that were read last.

    Args:
        model: Whose they are; it stays where it is, and as it is.
        capacity: Tokens that there is room for; the context where it is not said.
    """

    def __init__(self, model: GPT, *, capacity: int | None = None) -> None:
        self.cache = KVCache(
            model.config,
            1,
            capacity=capacity,
            device=model.device,
            dtype=model.embed.weight.dtype,
        )
        self._read: list[int] = []

    def unread(self, tokens: Sequence[int]) -> list[int]:
        """Forgets what is not the beginning of these tokens.

        Args:
            tokens: At least one; the context is long enough for them.

        Returns:
            Those that are to be read now, at least the last.
        """
        same = 0
        for known, token in zip(self._read, tokens[:-1], strict=False):
            if known != token:
                break
            same += 1
        del self._read[same:]
        self.cache.length = same
        return list(tokens[same:])

    def has_read(self, tokens: Sequence[int]) -> None:
        """Notes what the cache has taken in."""
        self._read += tokens
