"""Text into token shards.

In: sources, a tokenizer, a split. Out: a data folder with shards, `tokenizer.json` and, last, the
manifest. Documents stream through in batches, so memory does not grow with the corpus. A folder
whose preparation was interrupted has a marker and no manifest, and nobody trains on it; preparing
again starts over in the same place.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from fromscratch.data.documents import SPLITS, Document, Split, fitting_val_fraction, split_of
from fromscratch.data.shards import Manifest, Shard, SourceSummary, is_prepared
from fromscratch.data.sources import Documents, Source, SourceReport, name_for
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import (
    DATA_INCOMPLETE,
    DATA_MANIFEST,
    DATA_TOKENIZER,
    DATA_TOKENIZER_CONFIG,
    documents_file,
    fsync_file,
    fsync_folder,
    sha256_of_file,
    shard_file,
    write_atomically,
)
from fromscratch.tokenizer.build import make_tokenizer
from fromscratch.tokenizer.names import needs_training
from fromscratch.tokenizer.tokenizer import Tokenizer, encodable

_BATCH_DOCUMENTS = 256
_BATCH_CHARACTERS = 8_000_000
_ENOUGH_DOCUMENTS = 100
Progress = Callable[[str, int], None]
Reader = Callable[[Source, SourceReport], Iterator[Document]]


@dataclass(frozen=True)
class PrepareOptions:
    """How to prepare.

    Attributes:
        tokenizer: `gpt2`, `bytes`, `chars`, `bpe:N` or a path.
        val_fraction: Expected share of documents that are held out.
        seed: Of the split.
        shard_tokens: Tokens after which a shard is closed, at the end of a document.
        documents: What a document is: `file`, `passage`, or `auto`: passages where all sources
            together have fewer than 100 files.
        allow_no_validation: Accept a corpus of which nothing is held out.
    """

    tokenizer: str = "gpt2"
    val_fraction: float = 0.01
    seed: int = 0
    shard_tokens: int = 100_000_000
    documents: Documents = "auto"
    allow_no_validation: bool = False


@dataclass(frozen=True)
class Prepared:
    """What `prepare` made, and what it met on the way."""

    folder: Path
    manifest: Manifest
    skipped: dict[str, list[tuple[str, str]]]


def prepare(
    sources: list[Source],
    folder: Path,
    options: PrepareOptions,
    *,
    overwrite: bool = False,
    progress: Progress = lambda stage, documents: None,
) -> Prepared:
    """Writes the sources' documents as token shards into `folder`.

    Args:
        sources: Read one after the other; each keeps its own shards.
        folder: Made when absent.
        options: Tokenizer, split and shard size.
        overwrite: Replace finished data in `folder`.
        progress: Called with a stage's name and the number of documents done in it.

    Raises:
        UserError: The folder holds finished data or something else, a source does not exist, there
            is no text, or nothing falls into the validation split.
    """
    _check_folder(folder, overwrite)
    if not 0.0 <= options.val_fraction < 1.0:
        raise UserError(f"--val-fraction {options.val_fraction} is not between 0 and 1.")
    if options.shard_tokens < 1:
        raise UserError(f"--shard-tokens {options.shard_tokens} is not a number of tokens.")
    if options.val_fraction == 0.0 and not options.allow_no_validation:
        raise UserError(
            "Without a validation set nobody can tell whether the model learns or memorises.",
            fix="Choose --val-fraction 0.01, or say --no-validation if you mean it.",
        )
    _check_not_empty(sources)
    read = _reader(sources, options)
    # Nothing is written, and no older data removed, before all that can be refused has been.
    tokenizer = _tokenizer_for(sources, read, options, progress)
    folder.mkdir(parents=True, exist_ok=True)
    _mark_incomplete(sources, folder, options)
    _remove_older_data(folder)
    tokenizer.save(folder)
    shards: list[Shard] = []
    summaries: list[SourceSummary] = []
    skipped: dict[str, list[tuple[str, str]]] = {}
    next_index: dict[Split, int] = dict.fromkeys(SPLITS, 0)
    for source in sources:
        report = SourceReport()
        writers = {
            split: _ShardWriter(folder, split, source.name, tokenizer, options, next_index)
            for split in SPLITS
        }
        summary = _write_source(
            source, read(source, report), report, tokenizer, options, writers, progress
        )
        summaries.append(summary)
        skipped[source.name] = report.skipped
        for split in SPLITS:
            shards += writers[split].close()
    shards.sort(key=lambda s: (s.split, s.file))
    manifest = Manifest(
        tokenizer=tokenizer.name,
        tokenizer_fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        eot_id=tokenizer.eot_id,
        val_fraction=options.val_fraction,
        seed=options.seed,
        sources=summaries,
        shards=shards,
    )
    try:
        _check_split(manifest, options)
    except UserError:  # the text is what it is: running it again would not help
        _remove_older_data(folder)
        for name in (DATA_TOKENIZER, DATA_TOKENIZER_CONFIG, DATA_INCOMPLETE):
            (folder / name).unlink()
        raise
    fsync_folder(folder)
    manifest.save(folder)
    (folder / DATA_INCOMPLETE).unlink()
    return Prepared(folder, manifest, skipped)


def default_val_fraction(sources: list[Source], *, least: float, seed: int = 0) -> float:
    """The share to hold out where nobody says one; see `fitting_val_fraction`.

    Raises:
        UserError: The text is too short to be parted.
    """
    read = _reader(sources, PrepareOptions())
    documents = (d.text for source in sources for d in read(source, SourceReport()))
    fraction = fitting_val_fraction(
        islice(documents, _ENOUGH_DOCUMENTS * 5), least=least, seed=seed
    )
    if fraction is None:
        _check_not_empty(sources)
        raise UserError(
            "The text is too short to hold some of it out for validation.",
            fix="Give more: a few files, or one of at least some ten thousand characters.",
        )
    return fraction


def _check_folder(folder: Path, overwrite: bool) -> None:
    if folder.is_file():
        raise UserError(f"{folder} is a file; --out names a folder.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not is_prepared(folder):
        raise UserError(
            f"{folder} is not empty and holds no prepared data; nothing was touched.",
            fix="Choose another --out.",
        )
    if (folder / DATA_MANIFEST).is_file() and not overwrite:
        raise UserError(
            f"{folder} already holds prepared data.",
            fix="Choose another --out, or say --overwrite to replace it.",
        )


def _remove_older_data(folder: Path) -> None:
    """Removes what an earlier preparation left; its manifest first, so that it never lies."""
    (folder / DATA_MANIFEST).unlink(missing_ok=True)
    fsync_folder(folder)
    for split in SPLITS:
        for pattern in (f"{split}-*.npy", f"docs-{split}-*.npy"):
            for path in folder.glob(pattern):
                path.unlink()


def _check_not_empty(sources: list[Source]) -> None:
    """Finds out before anything is written that a source has no text at all."""
    for source in sources:
        report = SourceReport()
        if source.tokenised:
            continue
        passages = replace(source, reading=replace(source.reading, documents="passage"))
        if next(passages.documents(report), None) is None:
            why = f" ({report.n_skipped} files skipped: " if report.skipped else ""
            if report.skipped:
                why += "; ".join(f"{Path(p).name}: {r}" for p, r in report.skipped[:3]) + ")"
            raise UserError(
                f"There is no text in {source.spec}{why}.",
                fix="Point at UTF-8 text: a file, a folder or a glob.",
            )


def _reader(sources: list[Source], options: PrepareOptions) -> Reader:
    """How the sources' documents are read: as they come, or cut into passages."""
    as_passages = (
        options.documents == "auto"
        and sum(source.count(_ENOUGH_DOCUMENTS) for source in sources) < _ENOUGH_DOCUMENTS
    )

    def read(source: Source, report: SourceReport) -> Iterator[Document]:
        if source.tokenised:
            return source.documents(report, make_tokenizer(options.tokenizer))
        kind = options.documents
        if kind == "auto":
            kind = "passage" if as_passages else "file"
        reading = replace(source.reading, documents=kind)
        return replace(source, reading=reading).documents(report)

    return read


def _mark_incomplete(sources: list[Source], folder: Path, options: PrepareOptions) -> None:
    """Leaves the command that would finish the job where the next reader of the folder looks."""
    parts = ["fromscratch", "prepare"]
    parts += [s.spec if s.name == name_for(s.spec) else f"{s.name}={s.spec}" for s in sources]
    parts += ["--out", str(folder), "--tokenizer", options.tokenizer, "--seed", str(options.seed)]
    parts += ["--documents", options.documents, "--shard-tokens", str(options.shard_tokens)]
    if options.allow_no_validation:
        parts += ["--no-validation"]
    else:
        parts += ["--val-fraction", str(options.val_fraction)]
    write_atomically(folder / DATA_INCOMPLETE, shlex.join(parts) + "\n")


def _tokenizer_for(
    sources: list[Source], read: Reader, options: PrepareOptions, progress: Progress
) -> Tokenizer:
    if not needs_training(options.tokenizer):
        return make_tokenizer(options.tokenizer)

    def texts() -> Iterator[str]:
        done = 0
        for source in sources:
            for document in read(source, SourceReport()):
                done += 1
                progress("tokenizer", done)
                # Characters are collected from everything, or held-out text could not be encoded;
                # merges are learned from the training side alone.
                side = split_of(document.text, val_fraction=options.val_fraction, seed=options.seed)
                if side == "train" or options.tokenizer == "chars":
                    yield document.text

    return make_tokenizer(options.tokenizer, texts())


def _write_source(
    source: Source,
    documents: Iterator[Document],
    report: SourceReport,
    tokenizer: Tokenizer,
    options: PrepareOptions,
    writers: dict[Split, _ShardWriter],
    progress: Progress,
) -> SourceSummary:
    """Encodes one source's documents and hands them to the split's writers."""
    digest = hashlib.sha256()
    n_documents = n_bytes = 0
    for batch in _batches(documents):
        texts = [
            encodable(d.text) if d.ids is None else tokenizer.decode(d.ids.tolist()) for d in batch
        ]
        for text, document, encoded in zip(
            texts, batch, tokenizer.encode_batch(texts), strict=True
        ):
            ids = encoded if document.ids is None else document.ids.tolist()
            raw = text.encode("utf-8")
            digest.update(hashlib.sha256(raw).digest())
            side = split_of(text, val_fraction=options.val_fraction, seed=options.seed)
            writers[side].add(ids, n_bytes=int(tokenizer.bytes_per_id[ids].sum()))
            n_documents += 1
            n_bytes += len(raw)
        progress("tokens", n_documents)
    return SourceSummary(
        name=source.name,
        spec=source.spec,
        documents=n_documents,
        bytes=n_bytes,
        files_skipped=report.n_skipped,
        sha256=digest.hexdigest(),
    )


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    """Groups documents so that a batch is bounded in number and, but for one, in size."""
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if len(batch) == _BATCH_DOCUMENTS or size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _check_split(manifest: Manifest, options: PrepareOptions) -> None:
    if manifest.total("tokens", "train") == 0:
        raise UserError(
            "Every document fell into the validation split: there is nothing to train on.",
            fix="Give more documents, or another --seed or --val-fraction.",
        )
    if manifest.total("tokens", "val") == 0 and not options.allow_no_validation:
        count = manifest.total("documents", "train")
        share = f"{options.val_fraction:.1%}"
        raise UserError(
            f"None of the {count} documents fell into the validation split at {share}.",
            fix="Raise --val-fraction, give the text as more (smaller) files, or say "
            "--no-validation if you mean it.",
        )


@dataclass
class _ShardWriter:
    """Collects one split's documents of one source and writes a shard whenever enough are there."""

    folder: Path
    split: Split
    source: str
    tokenizer: Tokenizer
    options: PrepareOptions
    next_index: dict[Split, int]
    _pieces: list[np.ndarray] = field(default_factory=list)
    _bytes: int = 0
    _tokens: int = 0
    _done: list[Shard] = field(default_factory=list)

    def add(self, ids: list[int], *, n_bytes: int) -> None:
        """Takes one document's ids; the end-of-text id is added here."""
        dtype = np.uint16 if self.tokenizer.vocab_size <= 2**16 else np.uint32
        self._pieces.append(np.array([*ids, self.tokenizer.eot_id], dtype=dtype))
        self._tokens += len(ids) + 1
        self._bytes += n_bytes
        if self._tokens >= self.options.shard_tokens:
            self._flush()

    def close(self) -> list[Shard]:
        """Writes what is left, however little (R10), and returns all shards written."""
        if self._pieces:
            self._flush()
        return self._done

    def _flush(self) -> None:
        index = self.next_index[self.split]
        self.next_index[self.split] = index + 1
        name, documents_name = shard_file(self.split, index), documents_file(self.split, index)
        offsets = np.cumsum([0, *(len(p) for p in self._pieces)], dtype=np.int64)
        for file, array in ((name, np.concatenate(self._pieces)), (documents_name, offsets)):
            np.save(self.folder / file, array, allow_pickle=False)
            fsync_file(self.folder / file)
        self._done.append(
            Shard(
                file=name,
                documents_file=documents_name,
                split=self.split,
                source=self.source,
                tokens=self._tokens,
                documents=len(self._pieces),
                bytes=self._bytes,
                sha256=sha256_of_file(self.folder / name),
            )
        )
        self._pieces, self._bytes, self._tokens = [], 0, 0
