"""Held-out documents that also stand, letter for letter, in the training split.

`prepare` cannot make such data, since the split is a function of a document's content (R06); data
that was put together elsewhere can. In: the pieces of the held-out documents, then those of the
training documents. Out: how many of the former have a copy, with examples. A held-out document is
remembered by 16 bytes of a hash and 12 of where it stands.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fromscratch.data.prepared_text import Piece, Place

_KEY_BYTES = 16
_BEGINNING = 200


@dataclass(frozen=True)
class ExactCopy:
    """A held-out document, and the first training document with the same text."""

    held_out: Place
    training: Place
    beginning: str


class CopyFinder:
    """Compares two splits; first `hold_out` takes all of one, then `compare` all of the other.

    Args:
        n_examples: How many copies to keep as examples.
    """

    def __init__(self, n_examples: int = 5) -> None:
        self.examples: list[ExactCopy] = []
        self._n_examples = n_examples
        self._collected = bytearray()
        self._numbers = array("q")
        self._shard_of = array("i")
        self._shards: list[Place] = []  # a place in each shard, of which only the number differs
        self._digest = hashlib.blake2b(digest_size=_KEY_BYTES)
        self._beginning = ""
        self._keys: npt.NDArray[np.bytes_] | None = None
        self._order: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._copied: npt.NDArray[np.bool_] = np.empty(0, dtype=np.bool_)

    def hold_out(self, pieces: Iterable[Piece]) -> None:
        """Remembers held-out documents; each document's pieces must follow one another."""
        for piece in pieces:
            key = self._key_at_end(piece)
            if key is not None:
                self._collected += key
                self._numbers.append(piece.place.number)
                if not self._shards or self._shards[-1].file != piece.place.file:
                    self._shards.append(piece.place)
                self._shard_of.append(len(self._shards) - 1)

    def compare(self, pieces: Iterable[Piece]) -> None:
        """Looks for training documents among the held-out ones."""
        if self._keys is None:
            keys = np.frombuffer(bytes(self._collected), dtype=f"S{_KEY_BYTES}")
            self._order = np.argsort(keys, kind="stable")
            self._keys = keys[self._order]
            self._copied = np.zeros(len(keys), dtype=np.bool_)
        ended, wanted, beginnings = [], bytearray(), []
        for piece in pieces:
            key = self._key_at_end(piece)
            if key is not None:
                ended.append(piece.place)
                wanted += key
                beginnings.append(self._beginning)
        if not ended or not len(self._keys):
            return
        asked = np.frombuffer(bytes(wanted), dtype=self._keys.dtype)
        low, high = (np.searchsorted(self._keys, asked, side=side) for side in ("left", "right"))
        for i in np.flatnonzero(low < high):
            if not self._copied[low[i]] and len(self.examples) < self._n_examples:
                held_out = self._place(int(self._order[low[i]]))
                self.examples.append(ExactCopy(held_out, ended[i], beginnings[i]))
            self._copied[low[i] : high[i]] = True

    @property
    def count(self) -> int:
        """Held-out documents of which a copy was found."""
        return int(self._copied.sum())

    def _key_at_end(self, piece: Piece) -> bytes | None:
        """A hash of the whole text, once its last piece has come; None for an empty document."""
        if piece.begins:
            self._digest = hashlib.blake2b(digest_size=_KEY_BYTES)
            self._beginning = ""
        self._beginning = (self._beginning + piece.text[:_BEGINNING])[:_BEGINNING]
        self._digest.update(piece.text.encode("utf-8"))
        return self._digest.digest() if piece.ends and self._beginning else None

    def _place(self, index: int) -> Place:
        shard = self._shards[self._shard_of[index]]
        return Place(shard.split, shard.source, shard.file, self._numbers[index])
