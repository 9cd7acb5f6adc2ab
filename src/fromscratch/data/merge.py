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
from fromscratch.data.encoding import Batch, Cursor, Encoded, bytes_of_each
from fromscratch.data.folder import alone_in, begin, check_folder, writing_into
from fromscratch.data.journal import Journal, SourceProgress
from fromscratch.data.minhash import N_BANDS
from fromscratch.data.options import PrepareOptions
from fromscratch.data.output import Output
from fromscratch.data.prepare import Prepared, complete
from fromscratch.data.prepared_text import document_offsets
from fromscratch.data.shards import Manifest, Shard, TokenStream, load_part, stored_as
from fromscratch.data.sides import Side
from fromscratch.data.sources import SourceReport
from fromscratch.data.watching import Advance, Watch, unwatched
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import sha256_of_file
from fromscratch.foundation.names import DATA_PART_BANDS, DATA_PART_KEYS
from fromscratch.tokenizer.tokenizer import Tokenizer, load_tokenizer

_BATCH_DOCUMENTS = 1024
_BATCH_TOKENS = 1 << 20


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
        UserError: A part is missing, unfinished, damaged, given twice, or of another preparation;
            or `folder` is one of them, or cannot be written.
    """
    if folder.resolve() in [part.resolve() for part in folders]:  # replacing would destroy it
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
    # Not the name of the whole preparation: `prepare` must not take this for its own beginning.
    journal = Journal(f"merge {first.facts['job']}", [], [SourceProgress() for _ in names])
    journal.origins = [summary.spec for summary in summaries]
    command = ["fromscratch", "data", "merge", *map(str, folders), "--out", str(folder)]
    total = sum(s.documents for part in parts for s in part.manifest.sources) or 1
    with writing_into(folder, again="it begins again"), alone_in(folder):
        check_folder(folder, overwrite=overwrite)  # another process may have finished meanwhile
        begin(folder, command, tokenizer, journal)
        _verify(parts, watch)
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
        """The documents of source `number` in this part, in order, in batches of bounded size."""
        before = sum(s.documents for s in self.manifest.sources[:number])
        left = self.manifest.sources[number].documents
        streams = {split: _Documents(self, split, number) for split in SPLITS}
        while left:
            n = min(left, _BATCH_DOCUMENTS)
            keys = self._rows(DATA_PART_KEYS, np.uint8, KEY_BYTES, before, n)
            in_val = held_out(keys, options.val_fraction)
            lengths = np.empty(n, dtype=np.int64)
            lengths[~in_val] = streams["train"].lengths(n - int(in_val.sum()))
            lengths[in_val] = streams["val"].lengths(int(in_val.sum()))
            # A thousand books would be gigabytes.
            n = max(1, int(np.searchsorted(np.cumsum(lengths), _BATCH_TOKENS, side="right")))
            keys, in_val, lengths = keys[:n], in_val[:n], lengths[:n]
            bands = None
            if options.dedup == "near":
                bands = self._rows(DATA_PART_BANDS, "<u8", N_BANDS, before, n).astype(np.uint64)
            sides: dict[Split, Side] = {
                "train": streams["train"].take(~in_val, lengths, tokenizer),
                "val": streams["val"].take(in_val, lengths, tokenizer),
            }
            yield Encoded(Batch(number, [], Cursor()), sides, 0, keys, bands)
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
        path, itemsize = self.folder / name, np.dtype(dtype).itemsize
        size = path.stat().st_size if path.is_file() else 0
        if size < (first + n) * width * itemsize:
            raise UserError(
                f"{path} is cut off: it has {size:,} bytes.",
                fix="Copy the part again, or prepare it again.",
            )
        values = np.fromfile(path, dtype, count=n * width, offset=first * width * itemsize)
        return values.reshape(n, width)


class _Documents:
    """The documents of one split and source of a part, taken from the front."""

    def __init__(self, part: _Part, split: Split, number: int) -> None:
        self._folder = part.folder
        self._shards: list[Shard] = part.manifest.select(split, part.manifest.sources[number].name)
        self._stream = TokenStream(part.folder, self._shards)
        self._shard = self._document = self._token = 0

    def lengths(self, n: int) -> npt.NDArray[np.int64]:
        """(n,) tokens of each of the next `n` documents, end-of-text included; takes nothing."""
        found = [np.zeros(0, np.int64)]
        shard, document = self._shard, self._document
        while n:
            offsets = document_offsets(self._folder, self._shards[shard])
            found.append(np.diff(offsets[document : document + n + 1]))
            n -= len(found[-1])
            shard, document = shard + 1, 0
        return np.concatenate(found)

    def take(
        self,
        chosen: npt.NDArray[np.bool_],
        all_lengths: npt.NDArray[np.int64],
        tokenizer: Tokenizer,
    ) -> Side:
        """The next documents: those that are chosen of a batch.

        Args:
            chosen: (batch,) which.
            all_lengths: (batch,) tokens of each document of the batch.
            tokenizer: That made the tokens.
        """
        lengths = all_lengths[chosen]
        tokens = np.zeros(0, dtype=np.int64)
        if len(lengths):
            tokens = self._stream.read(self._token, int(lengths.sum()))
        self._token += len(tokens)
        self._document += len(lengths)
        while self._shard < len(self._shards):
            if self._document < self._shards[self._shard].documents:
                break
            self._document -= self._shards[self._shard].documents
            self._shard += 1
        # End-of-text stands for no bytes, so it may be counted with its document.
        n_bytes = bytes_of_each(tokens, lengths, tokenizer)
        return Side(chosen, tokens.astype(stored_as(tokenizer.vocab_size)), lengths, n_bytes)


def _verify(parts: list[_Part], watch: Watch) -> None:
    """Reads every shard once: a part that was copied from another machine may have lost a bit.

    Raises:
        UserError: A file is not as it was written, or cannot be read.
    """
    shards = [(part, shard) for part in parts for shard in part.manifest.shards]
    total = sum(shard.tokens for _, shard in shards) or 1
    documents = tokens = 0
    for part, shard in shards:
        path = part.folder / shard.file
        try:
            found = sha256_of_file(path)
        except OSError as error:
            raise UserError(
                f"{path} cannot be read: {error.strerror}.", fix=f"Copy {part.folder} once more."
            ) from None
        if found != shard.sha256:
            raise UserError(
                f"{path} is not as it was written (sha256 {found[:12]} instead of "
                f"{shard.sha256[:12]}).",
                fix="Copy that part once more, or prepare it again.",
            )
        documents, tokens = documents + shard.documents, tokens + shard.tokens
        watch(Advance("verifying", documents, share=tokens / total))


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
        if part.manifest.tokenizer_fingerprint != first.manifest.tokenizer_fingerprint:
            raise UserError(
                f"{part.folder} and {first.folder} were made with different tokenizers.",
                fix="Give every part the same tokenizer.json, and prepare those again that differ.",
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
