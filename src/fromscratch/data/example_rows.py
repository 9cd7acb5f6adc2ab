"""Tokenised examples as rows to train on: several whole ones in a row, or one each.

In: examples of one side of the split. Out: a `Readable`. The last token of an example is a target
and never an input, so an example of n tokens takes n - 1 positions. Targets that are not to be
learned are IGNORE. In a packed row each example is a segment of its own, and so is the padding at
the end: none attends to another (R52). A row of one example needs no segments: what comes behind it
is padding, which it cannot see.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from fromscratch.data.batches import IGNORE, Batch
from fromscratch.data.examples import Examples, Side
from fromscratch.data.packing import Packed, one_each, pack


class ExampleRows:
    """Rows of the examples of one side.

    Args:
        examples: All of a source.
        side: Which of them.
        context: Positions in a row; no example has more.
        packing: Whether a row holds several.
        padding_id: What stands where nothing does.
    """

    def __init__(
        self, examples: Examples, side: Side, context: int, *, packing: bool, padding_id: int
    ) -> None:
        self.examples = examples
        self.context = context
        self.padded = not packing
        self._padding_id = padding_id
        self._chosen = examples.of(side)

    @cached_property
    def packed(self) -> Packed:
        """Which examples are in which row, by their number among the side's."""
        if self.padded:
            return one_each(len(self._chosen))
        return pack(self.examples.lengths(self._chosen) - 1, self.context)

    def __len__(self) -> int:
        return len(self.packed)

    @property
    def n_tokens(self) -> int:
        """Positions of all rows, padding included: an epoch is every row once."""
        return len(self) * self.context

    @property
    def filled(self) -> float:
        """Share of the positions in which there is an example."""
        used = int((self.examples.lengths(self._chosen) - 1).sum())
        return used / self.n_tokens if len(self) else 0.0

    def batch(self, indices: npt.NDArray[np.int64], *, cut: int, eot_id: int | None) -> Batch:
        """Some rows, (len(indices), context); neither `cut` nor `eot_id` matters to them."""
        shape = (len(indices), self.context)
        ids = np.full(shape, self._padding_id, dtype=np.int64)
        targets = np.full(shape, IGNORE, dtype=np.int64)
        segments = np.zeros(shape, dtype=np.int64)
        for place, index in enumerate(indices.tolist()):
            at = 0
            for example in self._chosen[self.packed.row(index)].tolist():
                tokens, learned = self.examples.read(example)
                end = at + len(tokens) - 1
                ids[place, at:end] = tokens[:-1]
                targets[place, at:end] = np.where(learned[1:], tokens[1:], IGNORE)
                segments[place, end:] += 1  # of what comes behind it
                at = end
        return Batch(
            torch.from_numpy(ids),
            torch.from_numpy(targets),
            None if self.padded else torch.from_numpy(segments),
        )

    def token_of(self, index: int, *, cut: int) -> int:
        """Where the first example of a row begins in the source's tokens."""
        return int(self.examples.starts[self._chosen[self.packed.row(index)[0]]])
