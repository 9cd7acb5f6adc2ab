"""Documents as windows that a model is evaluated on, and windows as batches.

Every token of every document, and the end-of-text after it, is a target exactly once. The first
token of a document is predicted from an end-of-text, which is what "a document begins" looks like
in training. Two protocols:

- packed: the documents of a source stand one after the other in one stream, which is cut into
  windows without regard to where documents end (GPT-2, nanoGPT, this package's own validation).
- separate: each document is a stream of its own; what stands before it does not help it.

A stream's windows begin `stride` targets apart. With stride = context nothing overlaps. With less,
a window after the first counts only its last `stride` targets, each of which so has at least
context - stride tokens before it (the sliding window of Hugging Face's guide on perplexity).

Shapes: T context, n targets of a window, B windows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fromscratch.data.batches import IGNORE

Ids = npt.NDArray[np.int64]
_STREAM_TOKENS = 1 << 16
_SORTED_BATCHES = 32


@dataclass(frozen=True)
class Protocol:
    """How text becomes windows.

    Attributes:
        context: T, the most targets of a window.
        stride: Targets from one window's start to the next one's; `context` for no overlap.
        separate: Whether each document is by itself.
    """

    context: int
    stride: int
    separate: bool = False

    def __str__(self) -> str:
        """What was done, as a sentence for people."""
        overlap = (
            "without overlap"
            if self.stride == self.context
            else f"that begin {self.stride:,} apart: each counts its last {self.stride:,} targets, "
            "the first all"
        )
        documents = (
            "each document by itself"
            if self.separate
            else "documents one after the other with end-of-text between"
        )
        return f"windows of {self.context:,} tokens {overlap}; {documents}"


@dataclass(frozen=True)
class Window:
    """Consecutive tokens of a stream.

    Attributes:
        tokens: (n + 1,) the targets and what the first of them is predicted from.
        owner: (n,) the number of the document that each target belongs to.
        skip: How many of the first targets an earlier window has counted.
    """

    tokens: Ids
    owner: Ids
    skip: int


@dataclass(frozen=True)
class WindowBatch:
    """Windows side by side, the shorter ones filled up on the right.

    Attributes:
        ids: (B, T) inputs.
        targets: (B, T); IGNORE where there is none, or it has been counted.
        owner: (B, T) the number of each target's document.
    """

    ids: Tensor
    targets: Tensor
    owner: Ids


def cut_windows(
    documents: Iterable[tuple[int, Ids]], protocol: Protocol, eot_id: int
) -> Iterator[Window]:
    """Yields the windows of a source's documents, in order.

    Args:
        documents: Number and tokens of each, its end-of-text included.
        protocol: How.
        eot_id: What a stream begins with.
    """
    if protocol.separate:
        for number, ids in documents:
            stream = _Stream(protocol, eot_id)
            stream.append(number, ids)
            yield from stream.take(at_end=True)
        return
    stream = _Stream(protocol, eot_id)
    for number, ids in documents:
        stream.append(number, ids)
        if stream.waiting >= _STREAM_TOKENS:
            yield from stream.take()
    yield from stream.take(at_end=True)


class _Stream:
    """Tokens that arrive in pieces and leave as windows; no more are held than a few windows."""

    def __init__(self, protocol: Protocol, eot_id: int) -> None:
        self._protocol = protocol
        self._tokens: list[Ids] = [np.array([eot_id], dtype=np.int64)]
        self._owner: list[Ids] = []
        self._is_first = True
        self.waiting = 0

    def append(self, number: int, ids: Ids) -> None:
        self._tokens.append(ids)
        self._owner.append(np.full(len(ids), number, dtype=np.int64))
        self.waiting += len(ids)

    def take(self, *, at_end: bool = False) -> Iterator[Window]:
        """The windows that are full; at the stream's end also what is left."""
        if not self._owner:
            return
        context, stride = self._protocol.context, self._protocol.stride
        tokens, owner = np.concatenate(self._tokens), np.concatenate(self._owner)
        start = 0
        while start + context <= len(owner):
            end = start + context
            yield Window(tokens[start : end + 1], owner[start:end], self._skip)
            self._is_first = False
            start += stride
        if at_end and len(owner) - start > self._skip:
            yield Window(tokens[start:], owner[start:], self._skip)
        self._tokens, self._owner = [tokens[start:].copy()], [owner[start:].copy()]
        self.waiting = len(owner) - start

    @property
    def _skip(self) -> int:
        return 0 if self._is_first else self._protocol.context - self._protocol.stride


def batch_windows(
    windows: Iterable[Window], protocol: Protocol, batch_size: int, fill: int
) -> Iterator[WindowBatch]:
    """Puts windows side by side.

    Args:
        windows: In order.
        protocol: Theirs. Separate documents differ in length: some thousand of them at a time are
            ordered by it, and as many short ones go into a batch as have the tokens of
            `batch_size` full windows.
        batch_size: Full windows in a batch.
        fill: The id that stands to the right of a window's end; no target comes from it.
    """
    coming = iter(windows)
    room = batch_size * protocol.context
    many = batch_size * _SORTED_BATCHES if protocol.separate else batch_size
    while group := list(islice(coming, many)):
        if protocol.separate:
            group.sort(key=lambda window: len(window.owner), reverse=True)
        start = 0
        while start < len(group):
            rows = max(1, room // len(group[start].owner))
            yield _side_by_side(group[start : start + rows], fill)
            start += rows


def _side_by_side(windows: list[Window], fill: int) -> WindowBatch:
    width = max(len(window.owner) for window in windows)
    ids = np.full((len(windows), width), fill, dtype=np.int64)
    targets = np.full_like(ids, IGNORE)
    owner = np.zeros_like(ids)
    for row, window in enumerate(windows):
        n = len(window.owner)
        ids[row, :n] = window.tokens[:-1]
        targets[row, window.skip : n] = window.tokens[1 + window.skip :]
        owner[row, :n] = window.owner
    return WindowBatch(torch.from_numpy(ids), torch.from_numpy(targets), owner)
