"""A document, and which side of the validation split it falls on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Split = Literal["train", "val"]
_WANTED_HELD_OUT = 10
SPLITS: tuple[Split, ...] = ("train", "val")


@dataclass(frozen=True)
class Document:
    """One text.

    Attributes:
        text: The whole text; empty where `ids` stand for it.
        id: What a person would call it: a path, a URL, a topic.
        source: The name of the source it came from.
        ids: The tokens of a text that somebody else has tokenised, without end-of-text; else None.
    """

    text: str
    id: str
    source: str
    ids: npt.NDArray[np.uint32] | None = None


def split_of(text: str, *, val_fraction: float, seed: int) -> Split:
    """The side that a text falls on: a function of its content alone.

    A copy of a document, wherever it stands, falls on the same side (R06), and the held-out texts
    are spread over the whole corpus rather than being its tail (R05).

    Args:
        text: The document's text.
        val_fraction: Expected share of documents held out.
        seed: Chooses among splits (modulo 2**64); part of the manifest.
    """
    return "val" if _draw(text, seed) < val_fraction else "train"


def fitting_val_fraction(texts: Iterable[str], *, least: float, seed: int) -> float | None:
    """The share to hold out where nobody says one.

    Args:
        texts: The documents' texts, or the first few hundred of a large corpus.
        least: What a large corpus has held out.
        seed: Of the split.

    Returns:
        `least`, or as much more as it takes to hold out some ten documents of a small corpus, a
        third of a very small one; None when there are not two different texts to part.
    """
    draws = sorted({_draw(text, seed) for text in texts})
    wanted = min(_WANTED_HELD_OUT, len(draws) // 3 or 1)
    if len(draws) < 2:
        return None
    return max(least, math.ceil((draws[wanted - 1] + 1e-9) * 10_000) / 10_000)


def _draw(text: str, seed: int) -> float:
    """A number in [0, 1) that a text and a seed always give."""
    salt = (seed % 2**64).to_bytes(8, "big")
    digest = hashlib.sha256(salt + text.encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
