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
from fromscratch.data.sides import Side
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import fsync_folder, sha256_of_file
from fromscratch.foundation.names import documents_file, shard_file


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
        shard_tokens: int,
        state: OpenShard,
    ) -> None:
        self.folder, self.split, self.source = folder, split, source
        self.dtype: np.dtype[np.generic] = np.dtype(dtype)
        self.shard_tokens = shard_tokens
        self._index = state.index
        self._tokens, self._documents, self._bytes = state.tokens, state.documents, state.bytes
        self._files: tuple[BinaryIO, BinaryIO] | None = None
        if state.documents:
            self._files = self._open(new=False)

    def add(self, side: Side) -> list[Shard]:
        """Takes documents; returns the shards that were filled and closed."""
        tokens, lengths, n_bytes = side.tokens, side.lengths, side.n_bytes
        ends = np.cumsum(lengths)
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
        self._files[0].write(tokens.data)
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
            file = opened_at(path, 0 if new else len(start) + size)
            if new:
                file.write(start)
            opened.append(file)
        if new:  # a file whose content is on the disk, but not its name, would not count
            fsync_folder(self.folder)
        return opened[0], opened[1]


def opened_at(path: Path, committed: int) -> BinaryIO:
    """Opens a file to be gone on with: what a crash left beyond `committed` bytes is cut off.

    Raises:
        UserError: It has fewer bytes than that.
    """
    if not committed:
        return open(path, "wb")
    size = path.stat().st_size if path.is_file() else 0
    if size < committed:  # cutting would fill it up with zeros
        raise UserError(
            f"{path} has {size:,} bytes, fewer than the {committed:,} that were written: it was "
            "changed after the preparation was interrupted.",
            fix=f"Remove {path.parent} and prepare the text again.",
        )
    file = open(path, "rb+")  # noqa: SIM115  (closed by the caller)
    file.truncate(committed)
    file.seek(0, os.SEEK_END)
    return file


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
