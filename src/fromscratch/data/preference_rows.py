"""Pairs of answers as rows of tokens, by number.

In: examples on disk, of which every second one is a rejected answer to what the one before it is
the chosen answer to. Out: batches in which the rows of a pair stand one below the other, so that
both go through the model in one pass.

What always holds: a row is a whole conversation, at most `context` + 1 tokens, and only its answer
is learned; it is padded on the right, where no real position can see.

Shapes: B pairs, R = 2 B rows, T positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fromscratch.data.batches import IGNORE, Batch
from fromscratch.data.examples import Examples, Side
from fromscratch.foundation.hardware import to_device


@dataclass(frozen=True)
class PairBatch(Batch):
    """Pairs side by side: `ids` and `targets` are (R, T), `segments` None.

    Attributes:
        reference: (B, 2) log-probabilities of the chosen and the rejected answer before training;
            None where they are not known, or not needed.
    """

    reference: Tensor | None = None

    @property
    def n_terms(self) -> int:
        """Pairs: what the loss of a step is the mean over."""
        return len(self.ids) // 2

    def rows(self, begin: int, end: int) -> PairBatch:
        """Some of its pairs; a view."""
        reference = None if self.reference is None else self.reference[begin:end]
        both = slice(2 * begin, 2 * end)
        return PairBatch(self.ids[both], self.targets[both], None, reference)

    def to(self, device: torch.device) -> PairBatch:
        """The same batch on another device."""
        plain = super().to(device)
        reference = self.reference
        if reference is not None:
            reference = to_device(reference, device)
        return PairBatch(plain.ids, plain.targets, None, reference)

    def joined(self, others: Sequence[Batch], order: Tensor) -> PairBatch:
        """Its pairs and those of others, in an order of pairs."""
        rows = torch.stack([2 * order, 2 * order + 1], dim=1).flatten()
        plain = super().joined(others, rows)
        every = [batch.reference for batch in (self, *others) if isinstance(batch, PairBatch)]
        known = [reference for reference in every if reference is not None]
        assert len(known) in (0, len(every)), "of all sources or of none"
        return PairBatch(plain.ids, plain.targets, None, torch.cat(known)[order] if known else None)

    def without_padding(self) -> PairBatch:
        """The same batch as narrow as its targets allow."""
        plain = super().without_padding()
        return replace(self, ids=plain.ids, targets=plain.targets)


class PairRows:
    """The pairs of one side of the split, by number; a `Readable` whose rows are pairs.

    Attributes:
        context: T, positions of a row.
        reference: (pairs, 2) log-probabilities before training, once they are known.

    Args:
        examples: All of a source.
        side: Which of them.
        context: No example has more positions.
        padding_id: What stands where nothing does.
    """

    padded = True

    def __init__(self, examples: Examples, side: Side, context: int, *, padding_id: int) -> None:
        self.examples = examples
        self.context = context
        self.reference: Tensor | None = None
        self._padding_id = padding_id
        self._chosen = examples.of(side)[::2]

    def __len__(self) -> int:
        return len(self._chosen)

    @property
    def n_tokens(self) -> int:
        """Positions of all rows, padding included: an epoch is every pair once."""
        return 2 * len(self) * self.context

    @property
    def filled(self) -> float:
        """Share of the positions in which there is an example."""
        if not len(self):
            return 0.0
        numbers = np.concatenate([self._chosen, self._chosen + 1])
        return int((self.examples.lengths(numbers) - 1).sum()) / self.n_tokens

    def batch(
        self, indices: npt.NDArray[np.int64], *, cut: int = 0, eot_id: int | None = None
    ) -> PairBatch:
        """Some pairs, each row `context` wide; neither `cut` nor `eot_id` matters to them."""
        shape = (2 * len(indices), self.context)
        ids = np.full(shape, self._padding_id, dtype=np.int64)
        targets = np.full(shape, IGNORE, dtype=np.int64)
        chosen = self._chosen[indices]
        for row, example in enumerate(np.stack([chosen, chosen + 1], axis=1).flat):
            tokens, learned = self.examples.read(int(example))
            end = len(tokens) - 1
            ids[row, :end] = tokens[:-1]
            targets[row, :end] = np.where(learned[1:], tokens[1:], IGNORE)
        reference = None if self.reference is None else self.reference[torch.from_numpy(indices)]
        return PairBatch(torch.from_numpy(ids), torch.from_numpy(targets), None, reference)

    def token_of(self, index: int, *, cut: int = 0) -> int:
        """Where a pair begins in the source's tokens."""
        return int(self.examples.starts[self._chosen[index]])

    def chosen_tokens(self) -> npt.NDArray[np.int64]:
        """All tokens of the chosen answers, one after the other."""
        read = (self.examples.read(int(number)) for number in self._chosen)
        return np.concatenate([tokens[1:][learned[1:]] for tokens, learned in read])
