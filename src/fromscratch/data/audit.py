"""What is in prepared data: the facts of `fromscratch data show`.

In: a data folder. Out: an `Audit`: counts, lengths, random documents, token frequencies, special
tokens spelled out in text, and what the held-out split shares with the training split.

Counts and lengths are exact and cover everything, whatever the size. What needs the text itself is
looked for in at most `most_tokens` tokens of each split, spread evenly, and the audit says in what
share. Memory does not grow with the data.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fromscratch.data.copies import CopyFinder, ExactCopy
from fromscratch.data.documents import SPLITS, Split
from fromscratch.data.duplicates import Across, near_bands, near_duplicates_across
from fromscratch.data.lengths import LengthCounter, Lengths
from fromscratch.data.prepared_text import (
    Block,
    Piece,
    Place,
    document_offsets,
    read_beginning,
    read_blocks,
    whole_documents,
)
from fromscratch.data.shards import Manifest, Shard, load_manifest
from fromscratch.data.special_text import SpecialText, SpecialTextFinder
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.seeds import derive_seed
from fromscratch.tokenizer.tokenizer import Tokenizer, load_tokenizer

# Called with what is under way, tokens done and tokens to do.
Progress = Callable[[str, int, int], None]
_SAMPLE_TOKENS = 256
# A document that is longer than this is compared with others by so much of its beginning.
_COMPARED_CHARACTERS = 4_000_000
NAMES: dict[Split, str] = {"train": "training", "val": "held-out"}


def _silent(stage: str, done: int, total: int) -> None:
    pass


@dataclass(frozen=True)
class AuditOptions:
    """How to look.

    Attributes:
        context: The length that documents are compared with.
        samples: How many random documents to show.
        frequent: How many of the most frequent tokens to show.
        seed: Chooses the random documents.
        most_tokens: Of each split, how many tokens of text to look at; None for all.
    """

    context: int = 1024
    samples: int = 10
    frequent: int = 20
    seed: int = 0
    most_tokens: int | None = 50_000_000


@dataclass(frozen=True)
class Amount:
    """How much text."""

    documents: int
    tokens: int
    bytes: int

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of text for each token; 0 where there is none."""
        return self.bytes / self.tokens if self.tokens else 0.0


@dataclass(frozen=True)
class FrequentToken:
    """A token, its text, and how often it occurs in what was looked at."""

    id: int
    text: str
    count: int
    share: float


@dataclass(frozen=True)
class Sample:
    """A random document: where it stands, its length in tokens, and its beginning."""

    place: Place
    tokens: int
    beginning: str


@dataclass(frozen=True)
class Content:
    """What was found in the text, or in the part of it that was looked at.

    Attributes:
        tokens: How many tokens were looked at.
        looked_at: Which share of each split's tokens that is.
        frequent: The most frequent tokens.
        never: Ids of the vocabulary that do not occur.
        special: Special tokens spelled out in documents, the most frequent first.
        exact_copies: Held-out documents that stand in the training split too.
        exact_examples: The first few of those.
        near: Held-out documents with a near copy in training; None where the package for it lacks.
        near_lacks: What to do about that.
    """

    tokens: int
    looked_at: dict[Split, float]
    frequent: list[FrequentToken]
    never: int
    special: list[SpecialText]
    exact_copies: int
    exact_examples: list[ExactCopy]
    near: Across | None
    near_lacks: str | None

    @property
    def complete(self) -> bool:
        """Whether everything was looked at."""
        return all(share >= 1.0 for share in self.looked_at.values())


@dataclass(frozen=True)
class Audit:
    """Everything that `data show` shows.

    Attributes:
        folder: The data.
        manifest: What `prepare` wrote down.
        total: All text; `splits` and `sources` are its parts, the latter for each split too.
        lengths: Of all documents.
        split_lengths: Of each split's.
        samples: Random documents.
        content: What was found in the text.
    """

    folder: Path
    manifest: Manifest
    total: Amount
    splits: dict[Split, Amount]
    sources: dict[str, dict[Split, Amount]]
    lengths: Lengths
    split_lengths: dict[Split, Lengths]
    samples: list[Sample]
    content: Content


def audit(folder: Path, options: AuditOptions, *, progress: Progress = _silent) -> Audit:
    """Looks at prepared data.

    Raises:
        UserError: The folder is not prepared data, or a file is not as its manifest says.
    """
    manifest = load_manifest(folder)
    tokenizer = load_tokenizer(folder)
    total = _amount(manifest.shards)
    everything = LengthCounter()
    split_lengths = {}
    for split in SPLITS:
        counter = LengthCounter()
        counter.add_shards(folder, manifest.select(split))
        everything.include(counter)
        split_lengths[split] = counter.summary(options.context)
    return Audit(
        folder=folder,
        manifest=manifest,
        total=total,
        splits={split: _amount(manifest.select(split)) for split in SPLITS},
        sources={
            source.name: {split: _amount(manifest.select(split, source.name)) for split in SPLITS}
            for source in manifest.sources
        },
        lengths=everything.summary(options.context),
        split_lengths=split_lengths,
        samples=_samples(folder, manifest, tokenizer, options),
        content=_content(
            _Reader(folder, manifest, tokenizer, options.most_tokens, progress), options.frequent
        ),
    )


def looked_at(manifest: Manifest, split: Split, most_tokens: int | None) -> float:
    """The share of a split that `most_tokens` are; 1 where that is all of it."""
    tokens = manifest.total("tokens", split)
    return 1.0 if most_tokens is None else min(1.0, most_tokens / max(1, tokens))


def _amount(shards: list[Shard]) -> Amount:
    return Amount(
        documents=sum(s.documents for s in shards),
        tokens=sum(s.tokens for s in shards),
        bytes=sum(s.bytes for s in shards),
    )


class _Reader:
    """Reads a split's text, or as much of it as is wanted, and says how far it is."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        tokenizer: Tokenizer,
        most_tokens: int | None,
        progress: Progress,
    ) -> None:
        self.folder, self.manifest, self.tokenizer = folder, manifest, tokenizer
        self.most_tokens, self.progress = most_tokens, progress
        self.read: dict[Split, int] = dict.fromkeys(SPLITS, 0)

    def blocks(self, split: Split, doing: str) -> Iterator[Block]:
        """The split's blocks; `doing` says to a person what for."""
        share = looked_at(self.manifest, split, self.most_tokens)
        expected = int(self.manifest.total("tokens", split) * share)
        self.read[split] = 0
        shards = self.manifest.select(split)
        for block in read_blocks(self.folder, self.tokenizer, shards, share=share):
            yield block
            self.read[split] += len(block.ids)
            self.progress(doing, self.read[split], max(self.read[split], expected))

    def shares(self) -> dict[Split, float]:
        """Of each split, the share of its tokens that was read; 1 of an empty one."""
        totals = {split: self.manifest.total("tokens", split) for split in SPLITS}
        return {split: self.read[split] / n if n else 1.0 for split, n in totals.items()}


def _content(reader: _Reader, wanted: int) -> Content:
    tokenizer = reader.tokenizer
    counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    special, copies = SpecialTextFinder(), CopyFinder()
    # What is held out comes first: the training documents are compared with it.
    takes: dict[Split, Callable[[list[Piece]], None]] = {
        "val": copies.hold_out,
        "train": copies.compare,
    }
    for split, take in takes.items():
        for block in reader.blocks(split, f"reading {NAMES[split]} documents"):
            counts += np.bincount(block.ids, minlength=len(counts))
            special.add(block.pieces)
            take(block.pieces)
    near, lacks = _near(reader)
    return Content(
        tokens=int(counts.sum()),
        looked_at=reader.shares(),
        frequent=_frequent(counts, tokenizer, wanted),
        never=int((counts == 0).sum()),
        special=special.result(),
        exact_copies=copies.count,
        exact_examples=copies.examples,
        near=near,
        near_lacks=lacks,
    )


def _near(reader: _Reader) -> tuple[Across | None, str | None]:
    """Near-duplicates across the split, or what to install to have them looked for."""
    try:
        near_bands(["five words or some more"])
    except UserError as error:
        return None, error.fix

    def documents(split: Split) -> Iterator[tuple[str, str]]:
        blocks = reader.blocks(split, f"comparing {NAMES[split]} documents")
        for place, text in whole_documents(blocks, _COMPARED_CHARACTERS):
            yield str(place), text

    return near_duplicates_across(documents("val"), documents("train")), None


def _frequent(
    counts: npt.NDArray[np.int64], tokenizer: Tokenizer, wanted: int
) -> list[FrequentToken]:
    tokens = max(1, int(counts.sum()))
    order = np.argsort(-counts, kind="stable")[:wanted]
    return [
        FrequentToken(
            int(i),
            "end of text" if i == tokenizer.eot_id else repr(tokenizer.decode([int(i)])),
            int(counts[i]),
            int(counts[i]) / tokens,
        )
        for i in order
        if counts[i]
    ]


def _samples(
    folder: Path, manifest: Manifest, tokenizer: Tokenizer, options: AuditOptions
) -> list[Sample]:
    """Documents drawn evenly from all, in the order of the data."""
    ends = np.cumsum([s.documents for s in manifest.shards])
    total = int(ends[-1]) if len(ends) else 0
    draw = random.Random(derive_seed(options.seed, "data show"))
    samples = []
    for chosen in sorted(draw.sample(range(total), min(options.samples, total))):
        index = int(np.searchsorted(ends, chosen, side="right"))
        shard = manifest.shards[index]
        number = chosen - (int(ends[index]) - shard.documents)
        offsets = document_offsets(folder, shard)
        samples.append(
            Sample(
                Place(shard.split, shard.source, shard.file, number),
                int(offsets[number + 1] - offsets[number]),
                read_beginning(folder, tokenizer, shard, number, _SAMPLE_TOKENS),
            )
        )
    return samples
