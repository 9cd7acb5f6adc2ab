"""How long the documents of prepared data are, exactly, in memory that does not grow with them.

In: the documents' offsets on disk. Out: a histogram and quantiles, and what cropping would lose.
Lengths are whole numbers, so they are counted rather than kept: one counter for each length up to a
million tokens, and a list of the longer ones, of which a corpus has at most one per million tokens.

A length here is in tokens with the end-of-text id, so the lengths add up to the tokens of the data.
Quantiles are the smallest length that is not exceeded by that share of the documents.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fromscratch.data.prepared_text import document_offsets
from fromscratch.data.shards import Shard
from fromscratch.foundation.errors import UserError

_COUNTED = 1 << 20
_CHUNK = 1 << 18
# The histogram's bins begin at 16, 32, ... 2,048; below and above them one each.
BIN_STARTS = (0, *(1 << k for k in range(4, 12)))


@dataclass(frozen=True)
class LengthBin:
    """Documents of `low` tokens and more, but fewer than `high` (None: no bound)."""

    low: int
    high: int | None
    documents: int
    tokens: int


@dataclass(frozen=True)
class Lengths:
    """The lengths of some documents, in tokens.

    Attributes:
        documents: Number of them.
        tokens: Their sum.
        shortest: And so on: statistics; 0 where there is no document.
        bins: The histogram.
        context: The length to which documents would be cropped.
        longer_than_context: Documents longer than it.
        cropped_tokens: Tokens beyond it: the sum over documents of max(0, length - context).
    """

    documents: int
    tokens: int
    shortest: int
    mean: float
    median: int
    p95: int
    longest: int
    bins: list[LengthBin]
    context: int
    longer_than_context: int
    cropped_tokens: int


class LengthCounter:
    """Counts lengths; see the module's description."""

    def __init__(self) -> None:
        self._counts = np.zeros(_COUNTED, dtype=np.int64)
        self._longer: list[int] = []

    def add_shards(self, folder: Path, shards: Iterable[Shard]) -> None:
        """Counts the documents of some shards.

        Raises:
            UserError: The offsets of a shard are damaged.
        """
        for shard in shards:
            for start in range(0, shard.documents, _CHUNK):
                # Mapped anew for each chunk: pages of a map that stays count as memory in use.
                offsets = document_offsets(folder, shard)[start : start + _CHUNK + 1]
                lengths = np.diff(offsets)
                if (lengths < 0).any():
                    number = start + int(np.argmax(lengths < 0))
                    raise UserError(
                        f"{folder / shard.documents_file}: document {number} ends before it "
                        "begins.",
                        fix="Prepare the data again.",
                    )
                self.add(lengths)

    def add(self, lengths: npt.NDArray[np.int64]) -> None:
        """Counts (n,) lengths."""
        longer = lengths >= _COUNTED
        self._longer += lengths[longer].tolist()
        counted = np.bincount(lengths[~longer])
        self._counts[: len(counted)] += counted

    def include(self, other: LengthCounter) -> None:
        """Adds what another counter has counted."""
        self._counts += other._counts
        self._longer += other._longer

    def summary(self, context: int) -> Lengths:
        """The statistics, with what cropping each document to `context` tokens would lose."""
        some = np.flatnonzero(self._counts)
        values = np.concatenate((some, np.sort(np.array(self._longer, dtype=np.int64))))
        counts = np.concatenate((self._counts[some], np.ones(len(self._longer), dtype=np.int64)))
        documents, tokens = int(counts.sum()), int((values * counts).sum())
        upto = np.cumsum(counts)

        def quantile(share: float) -> int:
            return int(values[np.searchsorted(upto, share * documents - 1e-9)]) if documents else 0

        bins = []
        for low, high in zip(BIN_STARTS, (*BIN_STARTS[1:], None), strict=True):
            inside = (values >= low) & (values < (np.inf if high is None else high))
            bins.append(
                LengthBin(
                    low, high, int(counts[inside].sum()), int((values * counts)[inside].sum())
                )
            )
        over = np.maximum(values - context, 0)
        return Lengths(
            documents=documents,
            tokens=tokens,
            shortest=quantile(0.0),
            mean=tokens / documents if documents else 0.0,
            median=quantile(0.5),
            p95=quantile(0.95),
            longest=quantile(1.0),
            bins=bins,
            context=context,
            longer_than_context=int(counts[over > 0].sum()),
            cropped_tokens=int((over * counts).sum()),
        )
