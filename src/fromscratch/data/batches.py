"""Training batches whose order is a pure function of position.

A source is rows of `context` targets (`Readable`), and an epoch is a permutation of them. For
pretraining a stream is cut into such rows, so every token is a target exactly once per epoch, the
last short window being padded with ignored targets; each epoch has its own permutation and its own
offset of the cuts. Conversations are rows of whole examples (example_rows.py). Sample number n of
the run maps to (source, epoch, row) without any state, hence: the batch of a step does not depend
on the number of ranks, on the micro-batch, or on how often the run was interrupted (R02, R07, R08,
R14).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fromscratch.data.mixture import Mixture
from fromscratch.data.permutation import Permutation, StretchedPermutation
from fromscratch.data.shards import TokenStream
from fromscratch.data.shares import Stage
from fromscratch.data.skipping import Ranges, before, kept_numbers
from fromscratch.foundation.hardware import to_device
from fromscratch.foundation.seeds import derive_seed

IGNORE = -100
"""The target that takes no part in the loss; torch's own convention."""

_WIDTHS = 32  # a batch without its padding is so many positions wide, or twice, or three times ...


@dataclass(frozen=True)
class Batch:
    """Windows side by side.

    Attributes:
        ids: (B, T) int64 token ids.
        targets: (B, T) int64; the token after each, or IGNORE.
        segments: (B, T) int64 number of the document each position belongs to, or None when
            positions may attend across documents.
    """

    ids: Tensor
    targets: Tensor
    segments: Tensor | None = None

    @property
    def n_targets(self) -> int:
        """Positions that take part in the loss."""
        return int((self.targets != IGNORE).sum())

    @property
    def n_terms(self) -> int:
        """What the loss of a step is the mean over: targets, unless a batch is of other things."""
        return self.n_targets

    def rows(self, begin: int, end: int) -> Batch:
        """Some of its windows; a view."""
        segments = None if self.segments is None else self.segments[begin:end]
        return Batch(self.ids[begin:end], self.targets[begin:end], segments)

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        segments = None if self.segments is None else to_device(self.segments, device)
        return Batch(to_device(self.ids, device), to_device(self.targets, device), segments)

    def joined(self, others: Sequence[Batch], order: Tensor) -> Batch:
        """Its rows and those of others, one below the other, in another order."""
        every = (self, *others)
        segments = [batch.segments for batch in every if batch.segments is not None]
        assert len(segments) in (0, len(every)), "of all sources or of none"
        return Batch(
            torch.cat([batch.ids for batch in every])[order],
            torch.cat([batch.targets for batch in every])[order],
            torch.cat(segments)[order] if segments else None,
        )

    def without_padding(self) -> Batch:
        """The same batch as narrow as its targets allow, in steps of some positions."""
        used = torch.nonzero((self.targets != IGNORE).any(dim=0))  # (n, 1)
        last = int(used[-1]) + 1 if len(used) else 1
        width = min(-(-last // _WIDTHS) * _WIDTHS, self.ids.shape[1])
        segments = None if self.segments is None else self.segments[:, :width]
        return Batch(self.ids[:, :width], self.targets[:, :width], segments)


class Readable(Protocol):
    """The rows that a source has, and what is trained on in an epoch: each of them once."""

    @property
    def context(self) -> int:
        """Positions of a row."""

    @property
    def n_tokens(self) -> int:
        """Positions of all rows that are not there only to fill up the last one."""

    @property
    def padded(self) -> bool:
        """Whether rows end in padding, which a batch can do without."""

    def __len__(self) -> int:
        """How many rows there are, in every epoch."""

    def batch(self, indices: npt.NDArray[np.int64], *, cut: int, eot_id: int | None) -> Batch:
        """Some rows, each `context` wide.

        Args:
            indices: Which, from 0 to len - 1.
            cut: A number of the epoch's, that may say where rows begin.
            eot_id: As for `TrainingData`.
        """

    def token_of(self, index: int, *, cut: int) -> int:
        """Where a row begins in what the source is stored as, for a person to look at."""


Rows = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Inputs and targets, each (B, T)."""


@dataclass(frozen=True)
class Windows:
    """A stream cut into windows, in stream order.

    Attributes:
        stream: Where tokens come from.
        context: T, targets per window.
    """

    stream: TokenStream
    context: int

    padded = False

    def __len__(self) -> int:
        return -(-len(self.stream) // self.context)

    @property
    def n_tokens(self) -> int:
        """Tokens of the stream, each of which is a target once an epoch."""
        return len(self.stream)

    def batch(self, indices: npt.NDArray[np.int64], *, cut: int, eot_id: int | None) -> Batch:
        """Some windows of the stream as it is cut from `cut` on, modulo its length."""
        return collate(self.read(indices, offset=cut % len(self.stream)), eot_id)

    def token_of(self, index: int, *, cut: int) -> int:
        """Stream position of a window's first target; the stream is a circle."""
        return (cut + index * self.context) % len(self.stream)

    def read(self, indices: npt.NDArray[np.int64], *, offset: int = 0) -> Rows:
        """Inputs and targets of some windows, each (len(indices), T).

        Args:
            indices: Which windows, 0 to len - 1.
            offset: Stream position of window 0's first target.
        """
        starts = indices * self.context
        tokens = self.stream.read_rows(offset + starts - 1, self.context + 1)  # (rows, T + 1)
        ids, targets = tokens[:, :-1], tokens[:, 1:].copy()
        for row in np.flatnonzero(starts + self.context > len(self.stream)):
            targets[row, len(self.stream) - int(starts[row]) :] = IGNORE
        return ids, targets


@dataclass(frozen=True)
class TrainingSource:
    """One source of the training mixture; `texts` are the hashes of what was prepared for it."""

    name: str
    weight: float
    windows: Readable
    fingerprint: str
    texts: tuple[str, ...] = ()

    @property
    def known_texts(self) -> tuple[str, ...]:
        """What its text is recognised by in other data."""
        return self.texts or (self.fingerprint,)


@dataclass(frozen=True)
class WindowPlace:
    """Where a training window stands.

    Attributes:
        sample: Its number in the run.
        source: The source's name.
        epoch: The pass over the source, from 0.
        window: Its number in that pass's cut of the source.
        token: Where it begins in what the source is stored as.
    """

    sample: int
    source: str
    epoch: int
    window: int
    token: int


class TrainingData:
    """The run's training windows, addressed by sample number.

    Where a method takes `skipped`, the windows in these ranges are passed over (data/skipping.py).

    Args:
        sources: What is mixed.
        seed: Of the order.
        eot_id: The id that starts a new document's segment; None to attend across documents.
        stages: Later weights of the sources; their positions are in windows.
    """

    def __init__(
        self,
        sources: list[TrainingSource],
        *,
        seed: int,
        eot_id: int | None,
        stages: tuple[Stage, ...] = (),
    ) -> None:
        self.sources = sources
        self.mixture = Mixture(tuple(s.weight for s in sources), stages)
        self.eot_id = eot_id
        self.context = sources[0].windows.context
        self._seeds = [derive_seed(seed, "order", s.name, s.fingerprint) for s in sources]
        self._epochs: dict[tuple[int, int], StretchedPermutation] = {}

    def batch(self, first_sample: int, n_samples: int, skipped: Ranges = ()) -> Batch:
        """The next n_samples samples of the run from first_sample on."""
        samples = kept_numbers(first_sample, n_samples, skipped)
        parts, places = [], []
        source_of, ordinals = self.mixture.locate(samples)
        for source, described in enumerate(self.sources):
            rows = np.flatnonzero(source_of == source)
            epochs, positions = np.divmod(ordinals[rows], len(described.windows))
            for epoch in np.unique(epochs):
                order = self._order_of(source, int(epoch))
                mine = epochs == epoch
                indices, cut = order(positions[mine]), order.permutation.seed
                parts.append(described.windows.batch(indices, cut=cut, eot_id=self.eot_id))
                places.append(rows[mine])
        return _in_order(parts, places)

    def micro_batches(
        self, first_sample: int, n_samples: int, size: int, skipped: Ranges = ()
    ) -> list[Batch]:
        """The same samples in portions of `size`, which divides their number."""
        whole = self.batch(first_sample, n_samples, skipped)
        portions = [whole.rows(i, i + size) for i in range(0, n_samples, size)]
        if any(source.windows.padded for source in self.sources):
            return [portion.without_padding() for portion in portions]
        return portions

    def after(self, first_sample: int, n_samples: int, skipped: Ranges = ()) -> int:
        """The cursor after these samples: the number from which the next ones are looked for."""
        if not n_samples:
            return first_sample
        return int(kept_numbers(first_sample, n_samples, skipped)[-1]) + 1

    def places(self, samples: npt.NDArray[np.int64]) -> list[WindowPlace]:
        """Where the windows of some samples stand, so that a person can look at their text."""
        found = []
        for sample, source, ordinal in zip(samples, *self.mixture.locate(samples), strict=True):
            described = self.sources[source]
            epoch, position = divmod(int(ordinal), len(described.windows))
            order = self._order_of(int(source), epoch)
            window = int(order(np.array([position]))[0])
            token = described.windows.token_of(window, cut=order.permutation.seed)
            found.append(WindowPlace(int(sample), described.name, epoch, window, token))
        return found

    def _order_of(self, source: int, epoch: int) -> StretchedPermutation:
        """The order of an epoch's windows; its seed says where they are cut, too."""
        if (source, epoch) not in self._epochs:
            if len(self._epochs) > 4 * len(self.sources):  # those of epochs that are over
                self._epochs.clear()
            seed = derive_seed(self._seeds[source], "epoch", epoch)
            size = len(self.sources[source].windows)
            self._epochs[source, epoch] = StretchedPermutation(Permutation(size, seed))
        return self._epochs[source, epoch]

    def drawn(self, n_samples: int, skipped: Ranges = ()) -> dict[str, int]:
        """How many of the samples before n_samples come from each source."""
        drawn = np.array(self.mixture.drawn(n_samples))
        for begin, end in before(skipped, n_samples):
            drawn -= np.array(self.mixture.drawn(end)) - np.array(self.mixture.drawn(begin))
        return {s.name: int(n) for s, n in zip(self.sources, drawn, strict=True)}

    def wanted(self, n_samples: int, skipped: Ranges = ()) -> dict[str, float]:
        """How many the exact shares ask for: never a whole window away from `drawn`.

        Every skipped range may add less than two windows to that.
        """
        wanted = np.array(self.mixture.wanted(n_samples))
        for begin, end in before(skipped, n_samples):
            wanted -= np.array(self.mixture.wanted(end)) - np.array(self.mixture.wanted(begin))
        return {s.name: float(n) for s, n in zip(self.sources, wanted, strict=True)}

    def epochs(self, n_samples: int, skipped: Ranges = ()) -> dict[str, float]:
        """How often each source has been gone through by the samples before n_samples."""
        drawn = self.drawn(n_samples, skipped)
        return {s.name: drawn[s.name] / len(s.windows) for s in self.sources}

    @property
    def tokens(self) -> int:
        """Distinct training tokens over all sources."""
        return sum(s.windows.n_tokens for s in self.sources)

    @property
    def fingerprint(self) -> str:
        """sha256 of all that determines which tokens stand in sample n, but for the seed."""
        content: list[object] = [
            [(s.name, s.weight, s.fingerprint) for s in self.sources],
            self.context,
        ]
        if self.mixture.period is None:
            content += ["scheduled order", [(s.start, s.weights, s.blend) for s in self.stages]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Later weights; their positions are in windows."""
        return self.mixture.stages


@dataclass(frozen=True)
class ValidationSet:
    """Held-out windows: all of a split, or always the same part of it.

    Attributes:
        name: How metrics call it.
        windows: The held-out stream, cut; or held-out conversations.
        bytes_per_id: (V,) UTF-8 bytes of each token, for bits per byte.
        eot_id: As for `TrainingData`.
        max_tokens: Targets evaluated, rounded up to whole windows; 0 for all.
    """

    name: str
    windows: Readable
    bytes_per_id: npt.NDArray[np.int64]
    eot_id: int | None
    max_tokens: int = 0

    def batches(self, batch_size: int, *, rank: int = 0, size: int = 1) -> Iterator[Batch]:
        """The same batches at every call, non-overlapping windows in stream order.

        Args:
            batch_size: Windows in each.
            rank: Of `size` readers, which one this is: each has its own part of the batches.
            size: How many readers.
        """
        chosen = self.chosen()
        for i in range(rank * batch_size, len(chosen), size * batch_size):
            batch = self.windows.batch(chosen[i : i + batch_size], cut=0, eot_id=self.eot_id)
            yield batch.without_padding() if self.windows.padded else batch

    def chosen(self) -> npt.NDArray[np.int64]:
        """The numbers of the windows that are evaluated: a fixed random part, sorted."""
        total = len(self.windows)
        wanted = -(-self.max_tokens // self.windows.context) if self.max_tokens else total
        if wanted >= total:
            return np.arange(total)
        return np.sort(Permutation(total, seed=0)(np.arange(wanted)))


def _in_order(parts: list[Batch], places: list[npt.NDArray[np.int64]]) -> Batch:
    """Rows that were read source by source, each at its place."""
    if len(parts) == 1:
        return parts[0]
    order = torch.from_numpy(np.argsort(np.concatenate(places)))
    return parts[0].joined(parts[1:], order)


def collate(rows: Rows, eot_id: int | None) -> Batch:
    """Windows as a batch; with `eot_id`, numbers the documents inside each window."""
    ids = torch.from_numpy(np.ascontiguousarray(rows[0]))  # (B, T)
    targets = torch.from_numpy(rows[1])  # (B, T)
    # An end-of-text id is what the next document's first token is predicted from: it opens it.
    segments = None if eot_id is None else (ids == eot_id).cumsum(dim=1)
    return Batch(ids, targets, segments)
