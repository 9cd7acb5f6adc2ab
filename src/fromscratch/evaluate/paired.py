"""Two models on the same documents: how much better one is, with the error of the difference.

Documents differ far more from each other than models differ on a document. The standard error of a
difference is therefore taken from each document's difference, and is much smaller than the two
models' own errors suggest (Miller 2024, "Adding Error Bars to Evals", section 4.2). For that each
document's nats are kept, 16 bytes a document in a file that goes away: memory stays flat.
"""

from __future__ import annotations

import math
import tempfile
from array import array
from collections.abc import Iterator
from typing import IO

import numpy as np
import numpy.typing as npt

from fromscratch.evaluate.ratio import RatioSums
from fromscratch.evaluate.text_loss import DocumentLoss

_CHUNK = 1 << 16  # numbers read at a time


class DocumentLog:
    """What each document cost one model, in the documents' order."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the object)
        self.n = 0

    def add(self, document: DocumentLoss) -> None:
        """Notes a document."""
        array("d", (document.nats, document.n_bytes)).tofile(self._file)
        self.n += 1

    def chunks(self) -> Iterator[npt.NDArray[np.float64]]:
        """The notes again, (k, 2) at a time: nats and bytes."""
        self._file.seek(0)
        while len(piece := np.frombuffer(self._file.read(8 * _CHUNK), dtype=np.float64)):
            yield piece.reshape(-1, 2)

    def close(self) -> None:
        """Gives the file back."""
        self._file.close()


def bits_per_byte_apart(one: DocumentLog, other: DocumentLog) -> RatioSums:
    """Bits per byte of one model less those of the other, as a ratio over the same documents."""
    assert one.n == other.n, "the same documents"
    sums = RatioSums()
    for mine, theirs in zip(one.chunks(), other.chunks(), strict=True):
        bits = (mine[:, 0] - theirs[:, 0]) / math.log(2)
        for y, x in zip(bits.tolist(), mine[:, 1].tolist(), strict=True):
            sums.add(y, x)
    return sums
