"""Pairs of answers as rows of tokens, by number.

In: rendered conversations, two for each pair, of which only the answers' tokens are targets. Out:
batches in which the rows of a pair stand one below the other: its chosen answer, then its rejected
one. Both go through the model in one pass.

What always holds: a row is a whole conversation, at most `context` + 1 tokens; rows are padded on
the right, where no real position can see; a row has at least one target. Memory is five bytes a
token.

Shapes: B pairs, R = 2 B rows, T positions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fromscratch.chat.rendering import Rendered
from fromscratch.data.batches import IGNORE, Batch


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
            reference = reference.to(device, non_blocking=True)
        return PairBatch(plain.ids, plain.targets, None, reference)

    def without_padding(self) -> PairBatch:
        """The same batch as narrow as its targets allow."""
        used = torch.nonzero((self.targets != IGNORE).any(dim=0))  # (n, 1)
        width = int(used[-1]) + 1
        return replace(self, ids=self.ids[:, :width], targets=self.targets[:, :width])


class PairRows:
    """Pairs by number; `data.batches.Readable`, a row being a pair.

    Attributes:
        context: T, positions that a row may have.
        reference: (pairs, 2) log-probabilities before training, once they are known.

    Args:
        pairs: Chosen and rejected side of each, in which only the answer is supervised.
        context: Every side has at most one token more.
    """

    padded = True

    def __init__(self, pairs: Sequence[tuple[Rendered, Rendered]], context: int) -> None:
        sides = [side for pair in pairs for side in pair]
        lengths = np.array([len(side.ids) for side in sides], dtype=np.int64)
        assert all(2 <= n <= context + 1 for n in lengths), "what is too long was left out before"
        assert all(any(side.supervised[1:]) for side in sides), "an answer has a token at least"
        self.context = context
        self.reference: Tensor | None = None
        self._starts = np.concatenate([[0], lengths.cumsum()])  # (R + 1,)
        total = int(self._starts[-1])
        self._ids = np.fromiter((i for side in sides for i in side.ids), np.int32, total)
        self._supervised = np.fromiter((s for side in sides for s in side.supervised), bool, total)

    def __len__(self) -> int:
        """How many pairs there are."""
        return len(self._starts) // 2

    @property
    def n_tokens(self) -> int:
        """Of both sides of all pairs."""
        return len(self._ids)

    @property
    def n_targets(self) -> int:
        """Tokens of the answers."""
        return int(self._supervised.sum())

    def batch(
        self, indices: npt.NDArray[np.int64], *, cut: int = 0, eot_id: int | None = None
    ) -> PairBatch:
        """Some pairs, each row `context` wide.

        Args:
            indices: Which, from 0 to len - 1.
            cut: Says nothing here: rows begin where conversations do.
            eot_id: Nor does this: there is one conversation in a row.
        """
        ids = np.zeros((2 * len(indices), self.context), dtype=np.int64)
        targets = np.full_like(ids, IGNORE)
        for row, source in enumerate(np.stack([2 * indices, 2 * indices + 1], axis=1).flat):
            of = slice(int(self._starts[source]), int(self._starts[source + 1]))
            tokens, width = self._ids[of], of.stop - of.start - 1
            ids[row, :width] = tokens[:-1]
            targets[row, :width] = np.where(self._supervised[of][1:], tokens[1:], IGNORE)
        reference = None if self.reference is None else self.reference[torch.from_numpy(indices)]
        return PairBatch(torch.from_numpy(ids), torch.from_numpy(targets), None, reference)

    def token_of(self, index: int, *, cut: int = 0) -> int:
        """Where a pair begins among the tokens of all."""
        return int(self._starts[2 * index])

    def side(self, index: int, *, rejected: bool) -> Rendered:
        """One side of a pair, for a person to look at."""
        row = 2 * index + rejected
        of = slice(int(self._starts[row]), int(self._starts[row + 1]))
        return Rendered(self._ids[of].tolist(), self._supervised[of].tolist())

    @property
    def fingerprint(self) -> str:
        """sha256 of all tokens, of which are targets, and of where rows begin."""
        digest = hashlib.sha256(b"pairs 1")
        for array in (self._starts.astype("<i8"), self._ids.astype("<i4"), self._supervised):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()
