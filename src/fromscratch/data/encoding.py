"""Documents to ids, on all cores, in the order in which they were read.

Reading is cheap and happens on the calling thread; encoding and hashing leave the interpreter's
lock to others, so worker threads do them for a few batches ahead. Each batch says where reading
goes on after it: whoever has written a batch to the disk can note that place and lose nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice
from typing import Any

import numpy as np
import numpy.typing as npt

from fromscratch.data.documents import KEY_BYTES, Document, Split, content_key, held_out
from fromscratch.data.reading import LISTED
from fromscratch.data.shards import stored_as
from fromscratch.data.sides import Side, side_of
from fromscratch.data.sources import Portion, Source, SourceReport
from fromscratch.tokenizer.texts import Texts
from fromscratch.tokenizer.tokenizer import Tokenizer

_BATCH_DOCUMENTS = 256
_BATCH_CHARACTERS = 1_000_000

NearBands = Callable[[Sequence[str]], npt.NDArray[np.uint64]]
Work = list[tuple[int, Portion]]
"""What is to be read: the number of a source, and a portion of it."""


@dataclass(frozen=True)
class Cursor:
    """A place in the work: documents of a portion before it have been taken."""

    portion: int = 0
    documents: int = 0


@dataclass(frozen=True)
class Batch:
    """Some documents of one source, one after the other.

    Attributes:
        source: Its number.
        documents: Possibly none, at the end of a portion.
        end: Where reading goes on.
        report: What was met since the batch before.
        passed: Bytes of the portions that have been read at its end, as `Portion.size` counts them.
    """

    source: int
    documents: list[Document]
    end: Cursor
    report: SourceReport = field(default_factory=SourceReport)
    passed: int = 0


@dataclass(frozen=True)
class Encoded:
    """The documents of a batch as tokens.

    Attributes:
        batch: Where they came from; its documents are let go.
        sides: By split, its documents.
        text_bytes: Bytes of text read, all documents together.
        keys: (n, KEY_BYTES) what each document's content is known by.
        bands: (n, n_bands) for near-duplicates, where they are looked for.
    """

    batch: Batch
    sides: dict[Split, Side]
    text_bytes: int
    keys: npt.NDArray[np.uint8]
    bands: npt.NDArray[np.uint64] | None

    def __len__(self) -> int:
        return len(self.keys)


def read_batches(
    sources: list[Source],
    work: Work,
    tokenizer: Tokenizer,
    start: Cursor,
    *,
    most_characters: int = _BATCH_CHARACTERS,
) -> Iterator[Batch]:
    """Reads the work from `start` on, in batches bounded in number and, but for one text, in size.

    A batch is of one source. The last of each source may be empty: it tells what was skipped.
    """
    batch = _BatchBeingRead(start, min(most_characters, _BATCH_CHARACTERS))
    before = list(accumulate((portion.size for _, portion in work), initial=0))
    for index in range(start.portion, len(work)):
        number, portion = work[index]
        if index > start.portion and number != work[index - 1][0]:
            yield batch.take(work[index - 1][0])
        report = SourceReport()
        then = work[index + 1] if index + 1 < len(work) else (None, None)
        documents = sources[number].read(
            portion, report, tokenizer, then=then[1] if then[0] == number else None
        )
        passed = start.documents if index == start.portion else 0
        for _ in islice(documents, passed):  # what is already written
            pass
        batch.follow(report)
        for document in documents:
            passed += 1
            batch.add(document, Cursor(index, passed))
            if batch.is_full:
                batch.passed = before[index] + int(report.share() * portion.size)
                yield batch.take(number)
        batch.end, batch.passed = Cursor(index + 1, 0), before[index + 1]
        batch.look()
    if start.portion < len(work):
        yield batch.take(work[-1][0])


class _BatchBeingRead:
    """Collects documents, and what the report of the portion being read gained since the last."""

    def __init__(self, start: Cursor, most_characters: int) -> None:
        self.end = start
        self.passed = 0
        self._most_characters = most_characters
        self._documents: list[Document] = []
        self._size = 0
        self._gained = SourceReport()
        self.follow(SourceReport())

    @property
    def is_full(self) -> bool:
        return len(self._documents) == _BATCH_DOCUMENTS or self._size >= self._most_characters

    def follow(self, report: SourceReport) -> None:
        """From here on, counts what `report` gains."""
        self._report = report
        self._seen = replace(report, skipped=report.skipped[:], notes=report.notes[:])

    def look(self) -> None:
        """Takes over what the report gained."""
        now, seen = self._report, self._seen
        if (now.files, now.n_skipped, len(now.notes)) == (
            seen.files,
            seen.n_skipped,
            len(seen.notes),
        ):
            return
        self._gained.files += now.files - seen.files
        self._gained.n_skipped += now.n_skipped - seen.n_skipped
        # A batch can span any number of files that give no document.
        gained = self._gained
        gained.skipped += now.skipped[len(seen.skipped) :][: LISTED - len(gained.skipped)]
        gained.notes += now.notes[len(seen.notes) :][: LISTED - len(gained.notes)]
        self.follow(now)

    def add(self, document: Document, end: Cursor) -> None:
        self._documents.append(document)
        self._size += len(document.text) if document.ids is None else 4 * len(document.ids)
        self.end = end
        self.look()

    def take(self, source: int) -> Batch:
        taken = Batch(source, self._documents, self.end, self._gained, self.passed)
        self._documents, self._size, self._gained = [], 0, SourceReport()
        return taken


def encode(
    batch: Batch,
    tokenizer: Tokenizer,
    *,
    val_fraction: float,
    seed: int,
    near_bands: NearBands | None,
) -> Encoded:
    """The batch as tokens, parted into the splits; runs on any thread."""
    documents = batch.documents
    if documents and documents[0].ids is not None:
        given = [d.ids for d in documents if d.ids is not None]
        lengths = np.array([len(i) for i in given], dtype=np.int64)
        ids = np.concatenate(given)
        raw = [tokenizer.decode_bytes(i.tolist()) for i in given]
        texts: Sequence[str] = [r.decode("utf-8", "replace") for r in raw] if near_bands else []
    else:
        clean = Texts([d.text for d in documents])
        ids, lengths = tokenizer.encode_ragged(clean)
        texts, raw = clean, clean.raw
    n_bytes = np.array([len(r) for r in raw], dtype=np.int64)
    text_bytes = int(n_bytes.sum())
    if not tokenizer.keeps_every_byte:
        n_bytes = bytes_of_each(ids, lengths, tokenizer)
    joined = b"".join(content_key(r, seed) for r in raw)
    keys = np.frombuffer(joined, dtype=np.uint8).reshape(-1, KEY_BYTES)
    in_val = held_out(keys, val_fraction)
    parts: dict[Split, npt.NDArray[np.bool_]] = {"train": ~in_val, "val": in_val}
    return Encoded(
        batch=replace(batch, documents=[]),
        sides={
            split: side_of(
                chosen,
                ids,
                lengths,
                n_bytes,
                eot_id=tokenizer.eot_id,
                dtype=stored_as(tokenizer.vocab_size),
            )
            for split, chosen in parts.items()
        },
        text_bytes=text_bytes,
        keys=keys,
        bands=near_bands(texts) if near_bands else None,
    )


def bytes_of_each(
    ids: npt.NDArray[np.integer[Any]], lengths: npt.NDArray[np.int64], tokenizer: Tokenizer
) -> npt.NDArray[np.int64]:
    """(n,) bytes of text that each document's ids stand for; `ids` are of all, end to end."""
    before = np.concatenate([[0], np.cumsum(tokenizer.bytes_per_id[ids])])
    sizes: npt.NDArray[np.int64] = np.diff(before[np.concatenate([[0], np.cumsum(lengths)])])
    return sizes


def encode_in_order(
    batches: Iterator[Batch], encode_one: Callable[[Batch], Encoded], *, workers: int
) -> Iterator[Encoded]:
    """Encodes batches on `workers` threads and yields them in their order."""
    waiting: deque[Future[Encoded]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="encode") as pool:
        try:
            for batch in batches:
                waiting.append(pool.submit(encode_one, batch))
                if len(waiting) > workers + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
