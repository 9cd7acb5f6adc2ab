"""A document, and which side of the validation split it falls on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")


@dataclass(frozen=True)
class Document:
    """One text.

    Attributes:
        text: The whole text.
        id: What a person would call it: a path, a URL, a topic.
        source: The name of the source it came from.
    """

    text: str
    id: str
    source: str


def split_of(text: str, *, val_fraction: float, seed: int) -> Split:
    """The side that a text falls on: a function of its content alone.

    A copy of a document, wherever it stands, falls on the same side (R06), and the held-out texts
    are spread over the whole corpus rather than being its tail (R05).

    Args:
        text: The document's text.
        val_fraction: Expected share of documents held out.
        seed: Chooses among splits (modulo 2**64); part of the manifest.
    """
    salt = (seed % 2**64).to_bytes(8, "big")
    digest = hashlib.sha256(salt + text.encode("utf-8", "replace")).digest()
    return "val" if int.from_bytes(digest[:8], "big") < val_fraction * 2**64 else "train"
