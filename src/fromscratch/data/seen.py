"""Which documents have been seen before, at any number of them, restorable to any earlier moment.

In: for each document, in order, a hash of its content and, for near-duplicates, its band keys.
Out: whether it is the first of its kind. Always: the answers do not depend on how documents are cut
into batches; memory does not grow with their number; and after a kill, `forget_from` gives exactly
the state of that moment.

On disk is a log of the documents that were kept, one record of equal length each: the document's
number and its keys. All else is an index of the log, built anew whenever the log is opened or cut,
so that nothing can come apart. That takes two seconds for ten million documents by content alone,
and three for each million with band keys.
"""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fromscratch.data.key_set import KeySet
from fromscratch.data.minhash import N_BANDS
from fromscratch.data.splitmix import U64, mix
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import fsync_folder

Flags = npt.NDArray[np.bool_]

_MAGIC = b"fs-seen1"
_HEADER = 16
_REBUILD_RECORDS = 1 << 13


class Seen:
    """The documents kept so far.

    A content hash of 16 bytes is folded into 8. That two different documents among n are taken for
    copies has a probability of about n^2 / 2^65: 3 in 10,000 at a hundred million documents.

    Args:
        path: The log; made when absent. Two processes must not open it at once.
        near: Whether band keys are compared as well as content hashes.

    Raises:
        UserError: The file is something else, or its documents were compared in the other way.
    """

    def __init__(self, path: Path, *, near: bool) -> None:
        self._path = path
        self._near = near
        self._words = 2 + N_BANDS if near else 2  # of 8 bytes, in a record
        self._log = open(path, "a+b", buffering=0)  # noqa: SIM115  (closed by `close`)
        self._log.seek(0)
        found = self._log.read(_HEADER)
        if len(found) < _HEADER and self._header().startswith(found):
            self._log.truncate(0)
            _write_all(self._log, self._header())
            fsync_folder(path.parent)
        elif found != self._header():
            self._log.close()
            raise UserError(
                f"{path} was not written by the same kind of deduplication.",
                fix="Remove it and prepare anew, or choose the --dedup of before.",
            )
        self._next = 0
        self._index: KeySet | None = None  # made when it is needed, from what is left of the log

    def keep(self, first: int, keys: npt.NDArray[np.uint8], bands: U64 | None = None) -> Flags:
        """Decides on the next documents, and remembers those that are kept.

        Args:
            first: The number of the first of them, above those of all earlier calls.
            keys: (n, 16) bytes of a hash of each document's content.
            bands: (n, n_bands) from `near_bands` where near-duplicates are looked for, else None.

        Returns:
            (n,) True where no document kept earlier has the same content or any equal band key.
        """
        assert (bands is not None) == self._near
        index = self._index or self._rebuild()
        assert first >= self._next, f"document {first} after document {self._next - 1}"
        if not len(keys):
            return np.zeros(0, dtype=np.bool_)
        marks = _marks(keys, bands)  # (n, 1 or 15)
        known = index.contains(marks.ravel()).reshape(marks.shape)
        kept: Flags = np.logical_not(known.any(axis=1))
        _drop_repeats(marks, kept)
        chosen = np.flatnonzero(kept)
        if len(chosen):
            records = np.column_stack([np.uint64(first) + chosen.astype(np.uint64), marks[chosen]])
            _write_all(self._log, records.astype("<u8").tobytes())
            index.add(marks[chosen].ravel())
        self._next = first + len(keys)
        return kept

    def commit(self) -> None:
        """Forces what was decided to the disk; call it before a journal that counts on it."""
        os.fsync(self._log.fileno())

    def forget_from(self, ordinal: int) -> None:
        """Returns to the moment before document number `ordinal`.

        After a crash, call it with the number of documents that the journal says are done, before
        any `keep`: what the log has beyond the last `commit` cannot be trusted.
        """
        if self._index is None or ordinal < self._next:
            self._rebuild(ordinal)

    def close(self) -> None:
        """Closes the log; it stays on the disk and can be opened again."""
        if self._index is not None:
            self._index.close()
        self._log.close()

    def _header(self) -> bytes:
        return _MAGIC + self._words.to_bytes(8, "little")

    def _rebuild(self, until: int = 2**63 - 1) -> KeySet:
        """Makes the index of the documents before number `until`, and cuts the log after them.

        What a crash left of a half-written end goes as well.
        """
        if self._index is not None:
            self._index.close()
            self._index = None
        record = 8 * self._words
        total = (os.fstat(self._log.fileno()).st_size - _HEADER) // record
        index = KeySet(self._path.parent, expected=total * (self._words - 1))
        self._next = done = 0
        self._log.seek(_HEADER)
        while done < total:
            size = record * min(_REBUILD_RECORDS, total - done)
            rows = np.frombuffer(_read_all(self._log, size), dtype="<u8").reshape(-1, self._words)
            ordinals = rows[:, 0].astype(np.int64)
            # After a power cut the end of a file may be zeros: numbers that no longer ascend.
            ascending = np.diff(ordinals, prepend=self._next - 1) > 0
            wrong = np.flatnonzero(~ascending | (ordinals >= until))
            good = int(wrong[0]) if len(wrong) else len(rows)
            index.add(rows[:good, 1:].astype(np.uint64).ravel())
            done += good
            if good:
                self._next = int(ordinals[good - 1]) + 1
            if good < len(rows):
                break
        self._log.truncate(_HEADER + record * done)
        self._index = index
        return index


def _marks(keys: npt.NDArray[np.uint8], bands: U64 | None) -> U64:
    """What a document is known by: its content's hash, then its bands; 0 means none."""
    halves = np.ascontiguousarray(keys).view("<u8").astype(np.uint64)
    content = mix(mix(halves[:, 0] + np.uint64(1)) ^ halves[:, 1])
    content[content == 0] = 1
    if bands is None:
        return content[:, None]
    # Keys are compared within their column: the column becomes part of them.
    marks = mix(mix(bands) ^ np.arange(1, N_BANDS + 1, dtype=np.uint64))
    marks[marks == 0] = 1
    marks[bands == 0] = 0
    return np.column_stack([content, marks])


def _drop_repeats(marks: U64, kept: Flags) -> None:
    """Clears `kept` of each document that shares a mark with an earlier kept one of this batch."""
    candidates = np.flatnonzero(kept)
    found = marks[candidates]
    ordered = np.sort(found, axis=None)
    if not ((ordered[1:] == ordered[:-1]) & (ordered[1:] != 0)).any():
        return
    values, where, counts = np.unique(found, return_inverse=True, return_counts=True)
    shared = ((counts > 1) & (values != 0))[where].reshape(found.shape)
    known: set[int] = set()
    # A document that is dropped marks nothing, so that those few go one by one, in order.
    for row in np.flatnonzero(shared.any(axis=1)):
        mine = found[row][shared[row]].tolist()
        if known.isdisjoint(mine):
            known.update(mine)
        else:
            kept[candidates[row]] = False


def _write_all(log: FileIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[log.write(left) :]


def _read_all(log: FileIO, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        parts.append(log.read(size))
        assert parts[-1], "the log of documents seen got shorter while it was read"
        size -= len(parts[-1])
    return b"".join(parts)
