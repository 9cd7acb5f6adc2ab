"""The folder that encoded documents are written into, and its state that survives a crash.

In: documents as ids, in order, with the keys of their content. Out: shards of both splits, without
the duplicates where they are not wanted. Everything is appended; `commit` makes what was added
count. Memory holds one batch.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fromscratch.data.documents import KEY_BYTES, SPLITS, Split
from fromscratch.data.duplicates import Dedup, Seen
from fromscratch.data.encoding import Cursor, Encoded
from fromscratch.data.journal import Journal, SourceProgress
from fromscratch.data.minhash import N_BANDS
from fromscratch.data.options import PrepareOptions
from fromscratch.data.shards import Shard, stored_as
from fromscratch.data.writer import ShardWriter, opened_at
from fromscratch.foundation.names import DATA_PART_BANDS, DATA_PART_KEYS, DATA_SEEN
from fromscratch.tokenizer.tokenizer import Tokenizer


class Output:
    """Where documents become shards.

    Args:
        folder: The data folder.
        tokenizer: That made the ids.
        options: Split, size of shards, duplicates.
        sources: The sources' names.
        journal: Where to go on; kept up to date by `commit`.
        is_part: Write a part to be joined with others: duplicates stay, and the keys by which they
            are known are kept beside the shards.
    """

    def __init__(
        self,
        folder: Path,
        tokenizer: Tokenizer,
        options: PrepareOptions,
        sources: list[str],
        journal: Journal,
        *,
        is_part: bool,
    ) -> None:
        self.folder, self.tokenizer, self.options = folder, tokenizer, options
        self.sources, self.journal = sources, journal
        self._writers = self._open_writers()
        dedup: Dedup = "none" if is_part else options.dedup
        self._seen = None
        if dedup != "none":
            self._seen = Seen(folder / DATA_SEEN, near=dedup == "near")
            self._seen.forget_from(journal.documents_read)
        self._keys = self._bands = None
        if is_part:
            n = journal.documents_read
            self._keys = _Appended(folder / DATA_PART_KEYS, n * KEY_BYTES)
            if options.dedup == "near":
                self._bands = _Appended(folder / DATA_PART_BANDS, n * N_BANDS * 8)

    def add(self, encoded: Encoded) -> bool:
        """Takes a batch; returns whether a shard was filled by it."""
        batch = encoded.batch
        closed = self._turn_to(batch.source)
        progress = self.journal.sources[batch.source]
        progress.take_over(batch.report)
        progress.bytes += encoded.text_bytes
        if len(encoded):
            closed |= self._write(encoded, progress)
        return closed

    def commit(self, cursor: Cursor) -> None:
        """Makes all that was added count: work goes on at `cursor` from now on."""
        for split, writer in self._writers.items():
            self.journal.open[split] = writer.commit()
        for appended in (self._keys, self._bands):
            if appended is not None:
                appended.commit()
        if self._seen is not None:
            self._seen.commit()
        self.journal.cursor = cursor
        self.journal.save(self.folder)

    def finish(self) -> None:
        """Closes every file; the last shards are written however small."""
        self._close_writers()
        for appended in (self._keys, self._bands):
            if appended is not None:
                appended.commit()
        self.abandon()

    def abandon(self) -> None:
        """Lets go of the files; what was committed can be gone on with."""
        for writer in self._writers.values():
            writer.abandon()
        for appended in (self._keys, self._bands):
            if appended is not None:
                appended.close()
        if self._seen is not None:
            self._seen.close()

    def _write(self, encoded: Encoded, progress: SourceProgress) -> bool:
        keep = np.ones(len(encoded), dtype=np.bool_)
        if self._seen is not None:
            keep = self._seen.keep(self.journal.documents_read, encoded.keys, encoded.bands)
        if self._keys is not None:
            self._keys.write(encoded.keys.tobytes())
        if self._bands is not None and encoded.bands is not None:
            self._bands.write(encoded.bands.astype("<u8").tobytes())
        progress.documents += len(encoded)
        progress.duplicates += len(encoded) - int(keep.sum())
        progress.sha256 = chained(progress.sha256, encoded.keys)
        closed: list[Shard] = []
        for split, side in encoded.sides.items():
            wanted = side.without(~keep)
            if len(wanted.lengths):
                closed += self._writers[split].add(wanted)
        self.journal.shards += closed
        return bool(closed)

    def _turn_to(self, source: int) -> bool:
        """Sources do not share shards: closes those of the source before."""
        if source == self.journal.source:
            return False
        closed = self._close_writers()
        self.journal.source = source
        self._writers = self._open_writers()
        return closed

    def _open_writers(self) -> dict[Split, ShardWriter]:
        journal = self.journal
        return {
            split: ShardWriter(
                self.folder,
                split,
                self.sources[journal.source],
                dtype=stored_as(self.tokenizer.vocab_size),
                shard_tokens=self.options.shard_tokens,
                state=journal.open[split],
            )
            for split in SPLITS
        }

    def _close_writers(self) -> bool:
        closed = []
        for split, writer in self._writers.items():
            closed += writer.close()
            self.journal.open[split] = writer.commit()
        self._writers = {}
        self.journal.shards += closed
        return bool(closed)


def chained(sha256: str, keys: npt.NDArray[np.uint8]) -> str:
    """The hash over a source's documents, gone on with: each link is over the one before and a key.

    A chain, and not one running hash, because a chain's state is 32 bytes that fit in a journal.
    """
    link = bytes.fromhex(sha256)
    for key in keys:
        link = hashlib.sha256(link + key.tobytes()).digest()
    return link.hex()


class _Appended:
    """A file that is only appended to; what a crash left behind the committed end is cut off."""

    def __init__(self, path: Path, committed: int) -> None:
        self._file = opened_at(path, committed)

    def write(self, content: bytes) -> None:
        self._file.write(content)

    def commit(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a full disk: what was not committed does not count
            self._file.close()
