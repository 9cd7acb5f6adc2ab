"""A document, and which side of the validation split it falls on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fromscratch.tokenizer.texts import encodable

Split = Literal["train", "val"]
KEY_BYTES = 16
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
        made: What the reading makes of a record, where it is not read for a text.
        place: Of such a record, for messages: its file and the line, row or number in it.
    """

    text: str
    id: str
    source: str
    ids: npt.NDArray[np.uint32] | None = None
    made: Any = None
    place: str = ""


def split_of(text: str, *, val_fraction: float, seed: int) -> Split:
    """The side that a text falls on: a function of its content alone.

    A copy of a document, wherever it stands, falls on the same side (R06), and the held-out texts
    are spread over the whole corpus rather than being its tail (R05).

    Args:
        text: The document's text.
        val_fraction: Expected share of documents held out.
        seed: Chooses among splits (modulo 2**64); part of the manifest.
    """
    key = np.frombuffer(_key_of_text(text, seed), dtype=np.uint8)
    return "val" if held_out(key[None], val_fraction)[0] else "train"


def content_key(text: bytes, seed: int) -> bytes:
    """The 16 bytes that stand for a document's content: equal texts, equal keys.

    The start of the sha256 of the seed (8 bytes, big-endian) and the text's UTF-8.
    """
    salt = (seed % 2**64).to_bytes(8, "big")
    digest = hashlib.sha256(salt)
    digest.update(text)
    return digest.digest()[:KEY_BYTES]


def _key_of_text(text: str, seed: int) -> bytes:
    """The key that a text gets once it is prepared: of what is encoded, not of what was read."""
    return content_key(encodable(text).encode("utf-8"), seed)


def held_out(keys: npt.NDArray[np.uint8], val_fraction: float) -> npt.NDArray[np.bool_]:
    """(n,) which documents, by their (n, KEY_BYTES) keys, are held out."""
    draws = np.ascontiguousarray(keys[:, :8]).view(">u8")[:, 0].astype(np.float64) / 2.0**64
    return draws < val_fraction


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
    keys = {_key_of_text(text, seed) for text in texts}
    draws = sorted(int.from_bytes(key[:8], "big") / 2**64 for key in keys)
    wanted = min(_WANTED_HELD_OUT, len(draws) // 3 or 1)
    if len(draws) < 2:
        return None
    return max(least, math.ceil((draws[wanted - 1] + 1e-9) * 10_000) / 10_000)
