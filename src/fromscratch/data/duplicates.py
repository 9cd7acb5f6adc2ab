"""Exact and near duplicates: the choice, and how many cross from training into validation.

In: documents' texts. Out: which documents repeat others (`Seen`, by the keys of `near_bands`), and
the held-out texts that have a near copy in training (R06), with the first such pairs to look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fromscratch.data.minhash import N_BANDS, SIGNATURE, bands_of, near_bands, signatures
from fromscratch.data.seen import Seen

__all__ = ["Across", "Dedup", "Pair", "Seen", "near_bands", "near_duplicates_across"]

Dedup = Literal["none", "exact", "near"]

_BATCH_DOCUMENTS = 256
_BATCH_CHARACTERS = 4_000_000
_BEGINNING = 200


@dataclass(frozen=True)
class Pair:
    """A held-out document and its nearest copy in training.

    Attributes:
        held_out: What a person would call the held-out document.
        training: What a person would call the training document.
        similarity: Estimated Jaccard similarity of their runs of five words.
        held_out_text: How the held-out one begins.
        training_text: How the training one begins.
    """

    held_out: str
    training: str
    similarity: float
    held_out_text: str
    training_text: str


@dataclass(frozen=True)
class Across:
    """Near-duplicates across the split.

    Attributes:
        compared: Held-out documents that were compared: those of five words or more, up to a limit.
        passed_over: Held-out documents that were not.
        near: Compared ones that have a near copy in training.
        pairs: The most similar pairs, one for each held-out document, most similar first.
    """

    compared: int
    passed_over: int
    near: int
    pairs: list[Pair]


def near_duplicates_across(
    held_out: Iterable[tuple[str, str]],
    training: Iterable[tuple[str, str]],
    *,
    limit: int = 20_000,
    n_pairs: int = 10,
) -> Across:
    """Finds the held-out documents that have a near copy in training.

    Args:
        held_out: Name and text of each held-out document; read first, once.
        training: Name and text of each training document; streamed, once.
        limit: Held-out documents that are compared; each takes about 3 KB of memory.
        n_pairs: Pairs that are returned.

    Raises:
        UserError: The package that computes the minima is not installed.
    """
    names: list[str] = []
    beginnings: list[str] = []
    minima = np.zeros((0, SIGNATURE), dtype=np.uint32)
    bands = np.zeros((0, N_BANDS), dtype=np.uint64)
    seen = 0
    for documents in _batches(held_out):
        seen += len(documents)
        documents = documents[: max(0, limit - len(names))]
        found, comparable = signatures([text for _, text in documents])
        minima = np.concatenate([minima, found[comparable]])
        bands = np.concatenate([bands, bands_of(found, comparable)[comparable]])
        chosen = [documents[i] for i in np.flatnonzero(comparable)]
        names += [name for name, _ in chosen]
        beginnings += [text[:_BEGINNING] for _, text in chosen]
    best = _Nearest(minima, bands)
    for documents in _batches(training) if names else ():
        best.look_at(documents)
    order = sorted(best.copies, key=lambda i: (-best.copies[i][0], i))
    pairs = [
        Pair(names[i], best.copies[i][1], best.copies[i][0], beginnings[i], best.copies[i][2])
        for i in order[:n_pairs]
    ]
    return Across(len(names), seen - len(names), len(order), pairs)


class _Nearest:
    """The nearest training document so far of each held-out one that has a near copy.

    Attributes:
        copies: By held-out document: similarity, the training document's name, how it begins.
    """

    def __init__(self, minima: npt.NDArray[np.uint32], bands: npt.NDArray[np.uint64]) -> None:
        self.copies: dict[int, tuple[float, str, str]] = {}
        self._minima = minima
        order = np.argsort(bands.ravel(), kind="stable")
        self._keys = bands.ravel()[order]
        self._owners = order // N_BANDS

    def look_at(self, documents: list[tuple[str, str]]) -> None:
        """Compares some training documents with all held-out ones."""
        minima, comparable = signatures([text for _, text in documents])
        keys = bands_of(minima, comparable).ravel()
        low = np.searchsorted(self._keys, keys, side="left")
        high = np.searchsorted(self._keys, keys, side="right")
        for place in np.flatnonzero(high > low):
            number = int(place) // N_BANDS
            name, text = documents[number]
            for owner in self._owners[low[place] : high[place]].tolist():
                similarity = float((self._minima[owner] == minima[number]).mean())
                if similarity > self.copies.get(owner, (-1.0, "", ""))[0]:
                    self.copies[owner] = (similarity, name, text[:_BEGINNING])


def _batches(documents: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Groups documents, bounded in number and, but for one, in size."""
    batch: list[tuple[str, str]] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document[1])
        if len(batch) == _BATCH_DOCUMENTS or size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
