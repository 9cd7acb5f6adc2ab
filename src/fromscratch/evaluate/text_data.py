"""Text to evaluate on, from wherever it lies, as any model's tokens.

In: a split of prepared data, or a source of any kind that `prepare` takes. Out: its documents as
the tokens of whatever tokenizer the model has, so that models with different tokenizers are
measured on the same bytes; and a fingerprint of these bytes. Prepared data of another tokenizer is
turned back into its text first, exactly; of the same, its own ids are taken as they are. Always
true: documents stream through, and no more of them is held than a batch.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from fromscratch.data.documents import Split
from fromscratch.data.encoding import Cursor, read_batches
from fromscratch.data.prepared_text import BLOCK_TOKENS, document_offsets
from fromscratch.data.shards import Manifest, Shard, open_shard
from fromscratch.data.sources import Source, SourceReport
from fromscratch.evaluate.text_loss import TokenDocument
from fromscratch.evaluate.text_windows import Ids
from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.texts import Texts
from fromscratch.tokenizer.tokenizer import Tokenizer, load_tokenizer

_BATCH_DOCUMENTS = 256
_BATCH_BYTES = 1_000_000


@dataclass(frozen=True)
class RawDocument:
    """A document as it lies.

    Attributes:
        raw: The UTF-8 bytes of its text.
        ids: Its tokens, where it lies as tokens of the wanted tokenizer.
        passed: How much of the work has been read after it, in the unit of `EvalText.size`.
    """

    raw: bytes
    ids: Ids | None
    passed: int


class EvalText(ABC):
    """One named stream of documents that can be read again and again."""

    name: str

    @property
    @abstractmethod
    def size(self) -> int:
        """How much there is to read, in bytes of some kind: for progress."""

    @abstractmethod
    def settings(self) -> dict[str, str]:
        """What a record says about how it was read."""

    @abstractmethod
    def read(self, tokenizer: Tokenizer, report: SourceReport) -> Iterator[list[RawDocument]]:
        """Yields its documents in batches, in a fixed order.

        Args:
            tokenizer: Of the model.
            report: Told what was left out.

        Raises:
            UserError: Something in it is bad.
        """


@dataclass(frozen=True)
class PreparedText(EvalText):
    """A split of prepared data, or one source's part of it.

    Attributes:
        name: What a person calls it.
        folder: The data folder.
        manifest: Its manifest.
        split: Which side.
        only: The source; None for all of them.
    """

    name: str
    folder: Path
    manifest: Manifest
    split: Split
    only: str | None = None

    @property
    def size(self) -> int:
        return self.manifest.total("bytes", self.split, self.only)

    def settings(self) -> dict[str, str]:
        return {"split": self.split, "prepared": self.manifest.fingerprint}

    def read(self, tokenizer: Tokenizer, report: SourceReport) -> Iterator[list[RawDocument]]:
        own = load_tokenizer(self.folder)
        if own.fingerprint != self.manifest.tokenizer_fingerprint:
            raise UserError(
                f"The tokenizer in {self.folder} is not the one its data was prepared with.",
                fix="Prepare the data again.",
            )
        same = own.fingerprint == tokenizer.fingerprint
        batch: list[RawDocument] = []
        passed = held = 0
        for shard in self.manifest.select(self.split, self.only):
            for ids in _documents_of(self.folder, shard):
                text = ids[:-1] if len(ids) and ids[-1] == own.eot_id else ids
                try:
                    raw = own.decode_bytes(text.tolist())
                except IndexError:
                    raise UserError(
                        f"{self.folder / shard.file} holds the id {int(text.max())}; the tokenizer "
                        f"beside it has {own.vocab_size:,} ids.",
                        fix="Prepare the data again with the tokenizer that made these ids.",
                    ) from None
                passed += len(raw)
                held += len(raw)
                batch.append(RawDocument(raw, text if same else None, passed))
                if len(batch) == _BATCH_DOCUMENTS or held >= _BATCH_BYTES:
                    yield batch
                    batch, held = [], 0
        if batch:
            yield batch


def _documents_of(folder: Path, shard: Shard) -> Iterator[Ids]:
    """The documents of a shard, end-of-text included; no map of its file outlives a stretch."""
    for start in range(0, shard.tokens, BLOCK_TOKENS):  # documents that begin in this stretch
        offsets = document_offsets(folder, shard)
        first, last = np.searchsorted(offsets[:-1], [start, start + BLOCK_TOKENS])
        if first == last:
            continue
        bounds = np.array(offsets[first : last + 1])
        tokens = open_shard(folder, shard)[bounds[0] : bounds[-1]].astype(np.int64)
        yield from np.split(tokens, bounds[1:-1] - bounds[0])


@dataclass(frozen=True)
class SourceText(EvalText):
    """Text that is not prepared: files, folders, globs, Parquet, JSON, the hub.

    Attributes:
        name: What a person calls it.
        source: With what a document is settled.
    """

    name: str
    source: Source

    @property
    def size(self) -> int:
        return sum(portion.size for portion in self.source.portions())

    def settings(self) -> dict[str, str]:
        reading = self.source.reading
        found = {"source": self.source.whence, "documents": reading.documents}
        return found | ({"render": reading.render} if reading.render else {})

    def read(self, tokenizer: Tokenizer, report: SourceReport) -> Iterator[list[RawDocument]]:
        if self.source.tokenised:
            raise UserError(
                f"{self.source.spec} is tokens already, and nothing in it says whose.",
                fix="Prepare it with the tokenizer that made it, and evaluate on that: fromscratch "
                f"prepare {self.source.spec} --tokenizer TOKENIZER --out DATA",
            )
        work = [(0, portion) for portion in self.source.portions()]
        for batch in read_batches([self.source], work, tokenizer, Cursor()):
            report.files += batch.report.files
            for place, reason in batch.report.skipped:
                report.skip(place, reason)
            report.n_skipped += batch.report.n_skipped - len(batch.report.skipped)
            for place, remark in batch.report.notes:
                report.note(place, remark)
            raw = Texts([document.text for document in batch.documents]).raw
            yield [RawDocument(r, None, batch.passed) for r in raw]


@dataclass
class Fingerprint:
    """What documents went by: their number, their bytes, and a hash of them in their order.

    A document counts as its length in 8 bytes (little-endian) and its bytes, so that cutting the
    same text in other places gives another hash.
    """

    n_documents: int = 0
    n_bytes: int = 0
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256, repr=False)

    def add(self, raw: bytes) -> None:
        """Counts a document."""
        self.n_documents += 1
        self.n_bytes += len(raw)
        self._digest.update(len(raw).to_bytes(8, "little"))
        self._digest.update(raw)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def token_documents(
    text: EvalText,
    tokenizer: Tokenizer,
    report: SourceReport,
    fingerprints: list[Fingerprint],
    *,
    limit: int | None = None,
    on_passed: Callable[[int], None] = lambda passed: None,
) -> Iterator[TokenDocument]:
    """Yields a text's documents as a tokenizer's ids.

    Args:
        text: What to read.
        tokenizer: Of the model.
        report: Told what was left out.
        fingerprints: Each is given the documents that are yielded.
        limit: Of the documents, the first so many.
        on_passed: Told how much has been read, in the unit of `text.size`.

    Raises:
        UserError: Something in the text is bad, or the tokenizer cannot write it.
    """
    left = limit
    for whole in text.read(tokenizer, report):
        batch = list(islice(whole, left))
        if not batch:
            continue
        for document, ids in zip(batch, _ids_of(batch, tokenizer, text.name), strict=True):
            for fingerprint in fingerprints:
                fingerprint.add(document.raw)
            yield TokenDocument(ids, len(document.raw))
            on_passed(document.passed)
        if left is not None:
            left -= len(batch)
            if left <= 0:
                return


def _ids_of(batch: list[RawDocument], tokenizer: Tokenizer, name: str) -> list[Ids]:
    given = [document.ids for document in batch if document.ids is not None]
    if given:
        assert len(given) == len(batch)
        return given
    texts = Texts([document.raw.decode("utf-8", "replace") for document in batch])
    try:
        ids, lengths = tokenizer.encode_ragged(texts)
    except UserError as error:  # a vocabulary of characters
        raise UserError(
            f"The model's tokenizer cannot write all of {name}. {error.what}",
            fix="Evaluate it on text of the characters that it was trained on.",
        ) from None
    return np.split(ids.astype(np.int64), np.cumsum(lengths)[:-1])
