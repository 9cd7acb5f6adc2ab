"""A bounded sample of documents, spread over all of them, and the held-out ones beside it.

In: documents in any order. Out: of each side of the split, the texts with the smallest hashes, as
many as fit the bound. So the sample is the same whatever order the documents came in, it takes as
evenly from the last source as from the first, and memory does not grow with the corpus.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator

from fromscratch.data.documents import Document, Split, split_of


class HashSample:
    """Keeps the texts with the smallest hashes.

    Args:
        most_bytes: UTF-8 bytes to keep at most; a longer text is cut to this length.

    Attributes:
        documents: Texts offered so far.
        bytes: Their size.
        kept_bytes: The size of those that are kept.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._kept: list[tuple[int, bytes]] = []  # the negative of the hash: its largest is on top
        # The smallest hash that had no room. What is larger has none either, even if it would fit:
        # else it would depend on the order which of the two is kept.
        self._limit = 2**64
        self.documents = self.bytes = self.kept_bytes = 0

    def offer(self, text: str) -> None:
        """Takes a text into account."""
        raw = text.encode("utf-8", "replace")
        self.documents += 1
        self.bytes += len(raw)
        rank = int.from_bytes(hashlib.sha256(raw).digest()[:8], "big")
        if rank >= self._limit:
            return
        raw = raw[: self._most]
        heapq.heappush(self._kept, (-rank, raw))
        self.kept_bytes += len(raw)
        while self.kept_bytes > self._most:
            negative, dropped = heapq.heappop(self._kept)
            self.kept_bytes -= len(dropped)
            self._limit = -negative

    @property
    def is_all(self) -> bool:
        """Whether everything that was offered is kept."""
        return self.kept_bytes == self.bytes

    def texts(self) -> Iterator[str]:
        """The kept texts in the order of their hashes."""
        for _, raw in sorted(self._kept, reverse=True):
            yield raw.decode("utf-8", "ignore")  # half a character may stand where it was cut


def sample_sides(
    documents: Iterable[Document], *, most_bytes: int, val_fraction: float, seed: int
) -> dict[Split, HashSample]:
    """A sample of the training side and one of the held-out side, in one pass.

    Args:
        documents: Read once, as a stream.
        most_bytes: Of the training side; the held-out side gets a tenth of it.
        val_fraction: As `prepare` holds out.
        seed: Of the split.
    """
    sides: dict[Split, HashSample] = {
        "train": HashSample(most_bytes),
        "val": HashSample(max(1, most_bytes // 10)),
    }
    for document in documents:
        sides[split_of(document.text, val_fraction=val_fraction, seed=seed)].offer(document.text)
    return sides
