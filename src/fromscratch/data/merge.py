"""Parts prepared by several processes, joined into the bytes that one would have written.

Parts are runs of consecutive portions, so their documents one after the other are all documents in
order. What depends on the documents before (duplicates, where shards end) is decided here, by the
rules of `Output`. Tokens are copied; nothing is encoded again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fromscratch.data.documents import KEY_BYTES, SPLITS, Split, held_out
from fromscratch.data.encoding import Batch, Cursor, Encoded
from fromscratch.data.folder import alone_in, begin, check_folder, writing_into
from fromscratch.data.journal import Journal, SourceProgress
from fromscratch.data.minhash import N_BANDS
from fromscratch.data.options import PrepareOptions
from fromscratch.data.output import Output
from fromscratch.data.prepare import Prepared, complete
from fromscratch.data.shards import Manifest, Shard, TokenStream, load_part
from fromscratch.data.sources import SourceReport
from fromscratch.data.watching import Advance, Watch, unwatched
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import DATA_PART_BANDS, DATA_PART_KEYS
from fromscratch.tokenizer.tokenizer import Tokenizer, load_tokenizer

_BATCH_DOCUMENTS = 1024


def merge(
    folders: list[Path],
    folder: Path,
    *,
    overwrite: bool = False,
    watch: Watch = unwatched,
) -> Prepared:
    """Joins all parts of a preparation into `folder`.

    Args:
        folders: The parts, in any order.
        folder: Made when absent.
        overwrite: Replace finished data in `folder`.
        watch: Told how far the work is.

    Raises:
        UserError: A part is missing, unfinished, given twice, of another preparation, or is
            `folder` itself; or that cannot be written.
    """
    for part_folder in folders:
        if part_folder.resolve() == folder.resolve():
            raise UserError(
                f"--out {folder} is one of the parts.", fix="Choose another folder for the whole."
            )
    check_folder(folder, overwrite=overwrite)
    parts = _in_order([_Part(f, *load_part(f)) for f in folders])
    first = parts[0]
    options = PrepareOptions(**first.facts["options"])
    summaries = first.manifest.sources
    names = [summary.name for summary in summaries]
    tokenizer = load_tokenizer(first.folder)
    journal = Journal(first.facts["job"], [], [SourceProgress() for _ in names])
    journal.origins = [summary.spec for summary in summaries]
    command = ["fromscratch", "data", "merge", *map(str, folders), "--out", str(folder)]
    total = sum(s.documents for part in parts for s in part.manifest.sources) or 1
    with writing_into(folder, again="it begins again"), alone_in(folder):
        check_folder(folder, overwrite=overwrite)  # another process may have finished meanwhile
        begin(folder, command, tokenizer, journal)
        output = Output(folder, tokenizer, options, names, journal, is_part=False)
        try:
            for number, progress_of in enumerate(journal.sources):
                for part in parts:
                    for encoded in part.documents(number, tokenizer, options):
                        output.add(encoded)
                        done = journal.documents_read
                        watch(Advance("joining", done, share=done / total))
                    part.add_counts(number, progress_of)
            output.finish()
        finally:
            output.abandon()
        return complete(folder, tokenizer, options, names, journal)


@dataclass(frozen=True)
class _Part:
    """One part, opened."""

    folder: Path
    manifest: Manifest
    facts: dict[str, Any]

    @property
    def index(self) -> int:
        return int(self.facts["part"]["index"])

    @property
    def count(self) -> int:
        return int(self.facts["part"]["count"])

    def documents(
        self, number: int, tokenizer: Tokenizer, options: PrepareOptions
    ) -> Iterator[Encoded]:
        """The documents of source `number` in this part, in order."""
        before = sum(s.documents for s in self.manifest.sources[:number])
        left = self.manifest.sources[number].documents
        streams = {split: _Documents(self, split, number) for split in SPLITS}
        while left:
            n = min(left, _BATCH_DOCUMENTS)
            keys = self._rows(DATA_PART_KEYS, np.uint8, KEY_BYTES, before, n)
            bands = None
            if options.dedup == "near":
                bands = self._rows(DATA_PART_BANDS, "<u8", N_BANDS, before, n).astype(np.uint64)
            in_val = held_out(keys, options.val_fraction)
            ids, lengths = _interleaved(
                in_val,
                streams["train"].take(n - int(in_val.sum())),
                streams["val"].take(int(in_val.sum())),
            )
            n_bytes = np.concatenate([[0], np.cumsum(tokenizer.bytes_per_id[ids])])
            ends = np.concatenate([[0], np.cumsum(lengths)])
            yield Encoded(
                Batch(number, [], Cursor()), ids, lengths, np.diff(n_bytes[ends]), 0, keys, bands
            )
            before, left = before + n, left - n

    def add_counts(self, number: int, progress: SourceProgress) -> None:
        """What only reading the text could tell."""
        summary = self.manifest.sources[number]
        progress.bytes += summary.bytes
        skipped, notes = (
            [(place, what) for place, what in self.facts[key][summary.name]]
            for key in ("skipped", "notes")
        )
        progress.take_over(
            SourceReport(n_skipped=summary.files_skipped, skipped=skipped, notes=notes)
        )

    def _rows(
        self, name: str, dtype: npt.DTypeLike, width: int, first: int, n: int
    ) -> npt.NDArray[Any]:
        itemsize = np.dtype(dtype).itemsize
        values = np.fromfile(
            self.folder / name, dtype, count=n * width, offset=first * width * itemsize
        )
        return values.reshape(n, width)


class _Documents:
    """The documents of one split and source of a part, taken from the front."""

    def __init__(self, part: _Part, split: Split, number: int) -> None:
        self._folder = part.folder
        self._shards: list[Shard] = part.manifest.select(split, part.manifest.sources[number].name)
        self._stream = TokenStream(part.folder, self._shards)
        self._shard = self._document = self._token = 0

    def take(self, n: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """The next `n` documents: their ids without end-of-text, end to end, and their lengths."""
        lengths = []
        while n:
            shard = self._shards[self._shard]
            offsets = np.load(self._folder / shard.documents_file, mmap_mode="r")
            some = np.diff(offsets[self._document : self._document + n + 1])
            lengths.append(some)
            n -= len(some)
            self._document += len(some)
            if self._document == shard.documents:
                self._shard, self._document = self._shard + 1, 0
        if not lengths:
            return np.zeros(0, np.uint32), np.zeros(0, np.int64)
        with_end = np.concatenate(lengths)
        tokens = self._stream.read(self._token, int(with_end.sum()))
        self._token += len(tokens)
        is_text = np.ones(len(tokens), dtype=np.bool_)
        is_text[np.cumsum(with_end) - 1] = False
        return tokens[is_text].astype(np.uint32), with_end - 1


def _interleaved(
    in_val: npt.NDArray[np.bool_],
    train: tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]],
    val: tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]],
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """The documents of both splits in their common order."""
    lengths = np.empty(len(in_val), dtype=np.int64)
    lengths[~in_val], lengths[in_val] = train[1], val[1]
    from_val = np.repeat(in_val, lengths)
    ids = np.empty(len(from_val), dtype=np.uint32)
    ids[~from_val], ids[from_val] = train[0], val[0]
    return ids, lengths


def _in_order(parts: list[_Part]) -> list[_Part]:
    """All parts of one preparation, once each, by their numbers."""
    first = parts[0]
    for part in parts:
        origins = [[source.spec for source in p.manifest.sources] for p in (part, first)]
        if part.count == first.count and origins[0] != origins[1]:
            raise UserError(
                f"{part.folder} and {first.folder} were read from different places, or at "
                f"different commits: {', '.join(origins[0])}; {', '.join(origins[1])}.",
                fix="Prepare all parts from the same; a data set of the hub that changes is named "
                "with its commit: hf:ORG/NAME@COMMIT.",
            )
        if part.facts["job"] != first.facts["job"] or part.count != first.count:
            raise UserError(
                f"{part.folder} and {first.folder} are parts of different preparations: their "
                "sources, settings or number of parts differ.",
                fix="Prepare all parts with the same command but for --part and --out.",
            )
    ordered = sorted(parts, key=lambda p: p.index)
    indices = [p.index for p in ordered]
    for part in ordered:
        if indices.count(part.index) > 1:
            raise UserError(f"Part {part.index}/{part.count} is given twice.")
    missing = [f"{i}/{first.count}" for i in range(first.count) if i not in indices]
    if missing:
        raise UserError(f"Missing: part {', '.join(missing)}.", fix="Give every part's folder.")
    return ordered
