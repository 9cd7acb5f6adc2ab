"""Documents of one split as tokens, ready to be written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Side:
    """The documents of a batch that fall on one side of the split, in order.

    Attributes:
        chosen: (batch,) which documents of the batch these are.
        tokens: All tokens, end to end, with the end-of-text id after each document; in the type in
            which they are stored.
        lengths: (n,) tokens of each document, end-of-text included.
        n_bytes: (n,) bytes of text of each document.
    """

    chosen: Flags
    tokens: npt.NDArray[np.generic]
    lengths: Counts
    n_bytes: Counts

    def without(self, dropped: Flags) -> Side:
        """The same without some documents of the batch, by their places in the batch."""
        keep = ~dropped[self.chosen]
        if keep.all():
            return self
        ends = np.cumsum(self.lengths)
        pieces = [self.tokens[ends[i] - self.lengths[i] : ends[i]] for i in np.flatnonzero(keep)]
        return Side(
            self.chosen & ~dropped,
            np.concatenate([self.tokens[:0], *pieces]),
            self.lengths[keep],
            self.n_bytes[keep],
        )


def side_of(
    chosen: Flags,
    ids: npt.NDArray[np.uint32],
    lengths: Counts,
    n_bytes: Counts,
    *,
    eot_id: int,
    dtype: npt.DTypeLike,
) -> Side:
    """Puts the chosen documents together.

    Args:
        chosen: (batch,) which.
        ids: Of all documents of the batch, end to end, without end-of-text.
        lengths: (batch,) ids of each.
        n_bytes: (batch,) bytes of text of each.
        eot_id: Put after each document.
        dtype: In which tokens are stored.
    """
    starts = (np.cumsum(lengths) - lengths)[chosen]
    lengths = lengths[chosen]
    tokens = np.full(int(lengths.sum()) + len(lengths), eot_id, dtype=dtype)
    position = 0
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        tokens[position : position + length] = ids[start : start + length]
        position += length + 1
    return Side(chosen, tokens, lengths + 1, n_bytes[chosen])
