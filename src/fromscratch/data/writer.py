"""Token shards written as a stream, so that memory does not grow with a shard.

In: documents as ids. Out: `.npy` files of tokens and of document offsets, the same bytes whatever
the batches they came in. A shard that is being written is an ordinary file that is only ever
appended to; `commit` forces it to the disk and says how much of it counts, and a writer that is
opened with that state cuts off whatever a crash left behind it.
"""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from fromscratch.data.documents import Split
from fromscratch.data.shards import Shard
from fromscratch.foundation.files import documents_file, sha256_of_file, shard_file


@dataclass(frozen=True)
class OpenShard:
    """How much of the shard that is being written is committed."""

    index: int = 0
    tokens: int = 0
    documents: int = 0
    bytes: int = 0


class ShardWriter:
    """Writes the documents of one source and one split.

    Args:
        folder: Where the shards go.
        split: `train` or `val`.
        source: The source's name.
        dtype: uint16 or uint32.
        eot_id: Written after every document.
        shard_tokens: A shard is closed at the end of the document that fills it.
        state: Where to go on; what the files hold beyond it is cut off.
    """

    def __init__(
        self,
        folder: Path,
        split: Split,
        source: str,
        *,
        dtype: type[np.uint16] | type[np.uint32],
        eot_id: int,
        shard_tokens: int,
        state: OpenShard,
    ) -> None:
        self.folder, self.split, self.source = folder, split, source
        self.dtype: np.dtype[np.generic] = np.dtype(dtype)
        self.eot_id, self.shard_tokens = eot_id, shard_tokens
        self._index = state.index
        self._tokens, self._documents, self._bytes = state.tokens, state.documents, state.bytes
        self._files: tuple[BinaryIO, BinaryIO] | None = None
        if state.documents:
            self._files = self._open(new=False)

    def add(
        self,
        ids: npt.NDArray[np.uint32],
        lengths: npt.NDArray[np.int64],
        n_bytes: npt.NDArray[np.int64],
    ) -> list[Shard]:
        """Takes documents; end-of-text ids are added here.

        Args:
            ids: Those of all documents, end to end.
            lengths: (n,) ids of each document.
            n_bytes: (n,) bytes of text of each document.

        Returns:
            The shards that were filled and closed.
        """
        tokens = with_end_of_text(ids, lengths, self.eot_id, self.dtype)
        ends = np.cumsum(lengths + 1)
        closed = []
        first = written = 0
        while first < len(lengths):
            room = max(1, self.shard_tokens - self._tokens)
            # Up to the first document whose end fills the shard.
            last = min(int(np.searchsorted(ends, written + room)) + 1, len(lengths))
            end = int(ends[last - 1])
            self._append(tokens[written:end], ends[first:last] - written)
            self._documents += last - first
            self._bytes += int(n_bytes[first:last].sum())
            first, written = last, end
            if self._tokens >= self.shard_tokens:
                closed += self.close()
        return closed

    def commit(self) -> OpenShard:
        """Forces what was added to the disk, and returns what makes it count."""
        for file in self._files or ():
            file.flush()
            os.fsync(file.fileno())
        return OpenShard(self._index, self._tokens, self._documents, self._bytes)

    def close(self) -> list[Shard]:
        """Completes the shard that is being written, however little is in it (R10)."""
        if self._files is None:
            return []
        counts = (self._tokens, self._documents + 1)
        for file, dtype, count in zip(
            self._files, (self.dtype, np.dtype(np.int64)), counts, strict=True
        ):
            file.seek(0)
            file.write(npy_header(dtype, count))
            file.flush()
            os.fsync(file.fileno())
            file.close()
        self._files = None
        name = shard_file(self.split, self._index)
        shard = Shard(
            file=name,
            documents_file=documents_file(self.split, self._index),
            split=self.split,
            source=self.source,
            tokens=self._tokens,
            documents=self._documents,
            bytes=self._bytes,
            sha256=sha256_of_file(self.folder / name),
        )
        self._index += 1
        self._tokens = self._documents = self._bytes = 0
        return [shard]

    def abandon(self) -> None:
        """Lets go of the files as they are; what was committed can be gone on with."""
        for file in self._files or ():
            with contextlib.suppress(OSError):  # a full disk: what was not committed does not count
                file.close()
        self._files = None

    def _append(self, tokens: npt.NDArray[np.generic], ends: npt.NDArray[np.int64]) -> None:
        if self._files is None:
            self._files = self._open(new=True)
        self._files[0].write(tokens.tobytes())
        self._files[1].write((ends + self._tokens).astype("<i8").tobytes())
        self._tokens += len(tokens)

    def _open(self, *, new: bool) -> tuple[BinaryIO, BinaryIO]:
        tokens = self.folder / shard_file(self.split, self._index)
        offsets = self.folder / documents_file(self.split, self._index)
        starts = (
            npy_header(self.dtype, 0),
            npy_header(np.dtype(np.int64), 0) + np.int64(0).astype("<i8").tobytes(),
        )
        sizes = (self._tokens * self.dtype.itemsize, self._documents * 8)
        opened = []
        for path, start, size in zip((tokens, offsets), starts, sizes, strict=True):
            file = open(path, "wb" if new else "rb+")  # noqa: SIM115
            if new:
                file.write(start)
            else:
                file.truncate(len(start) + size)
                file.seek(0, os.SEEK_END)
            opened.append(file)
        return opened[0], opened[1]


def with_end_of_text(
    ids: npt.NDArray[np.uint32],
    lengths: npt.NDArray[np.int64],
    eot_id: int,
    dtype: np.dtype[np.generic],
) -> npt.NDArray[np.generic]:
    """The documents' ids end to end, with the end-of-text id after each."""
    tokens = np.empty(len(ids) + len(lengths), dtype=dtype)
    ends = np.cumsum(lengths + 1) - 1
    is_text = np.ones(len(tokens), dtype=np.bool_)
    is_text[ends] = False
    tokens[is_text] = ids
    tokens[ends] = eot_id
    return tokens


def npy_header(dtype: np.dtype[np.generic], count: int) -> bytes:
    """The start of a one-dimensional `.npy` file, as numpy itself writes it.

    numpy leaves room for any count, so a header can be rewritten in place; that is checked.
    """
    sizes = []
    for n in (0, count):
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            buffer,
            {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (n,)},
        )
        sizes.append(len(buffer.getvalue()))
    assert sizes[0] == sizes[1], "numpy changed the padding of its headers"
    return buffer.getvalue()
