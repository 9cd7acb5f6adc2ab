"""The settings of a preparation."""

from __future__ import annotations

import os
from dataclasses import dataclass

from fromscratch.data.duplicates import Dedup
from fromscratch.data.sources import Documents
from fromscratch.foundation.errors import UserError


@dataclass(frozen=True)
class PrepareOptions:
    """How to prepare: all of it determines the result.

    Attributes:
        tokenizer: `gpt2`, `bytes`, `chars`, `bpe:N` or a path.
        val_fraction: Expected share of documents that are held out.
        seed: Of the split.
        shard_tokens: Tokens after which a shard is closed, at the end of a document.
        documents: What a document is in plain text: a `file`, a `passage` of one, a `paragraph`, or
            `auto`: passages of a source that has fewer than 100 documents, else files.
        dedup: Leave out documents that came before: `exact` copies, or `near` ones too.
        allow_no_validation: Accept a corpus of which nothing is held out.
    """

    tokenizer: str = "gpt2"
    val_fraction: float = 0.01
    seed: int = 0
    shard_tokens: int = 100_000_000
    documents: Documents = "auto"
    dedup: Dedup = "none"
    allow_no_validation: bool = False

    def check(self) -> None:
        """Raises a UserError where a setting makes no sense."""
        if not 0.0 <= self.val_fraction < 1.0:
            raise UserError(f"--val-fraction {self.val_fraction} is not between 0 and 1.")
        if self.shard_tokens < 1:
            raise UserError(f"--shard-tokens {self.shard_tokens} is not a number of tokens.")
        if self.val_fraction == 0.0 and not self.allow_no_validation:
            raise UserError(
                "Without a validation set nobody can tell whether the model learns or memorises.",
                fix="Choose --val-fraction 0.01, or say --no-validation if you mean it.",
            )


@dataclass(frozen=True)
class Part:
    """One of several shares of the work, for one of several processes.

    Attributes:
        index: From 0.
        count: Of all parts.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise UserError(
                f"--part {self.index}/{self.count}: parts are counted from 0 to {self.count - 1}.",
                fix="Write for example --part 0/4, and 1/4, 2/4, 3/4 elsewhere.",
            )

    @staticmethod
    def parse(text: str) -> Part:
        """A part from `i/n`.

        Raises:
            UserError: It is not one.
        """
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()):
            raise UserError(
                f'"{text}" is not a part.', fix="Write --part i/n, for example --part 0/4."
            )
        return Part(int(index), int(count))

    def slice(self, sizes: list[int]) -> slice:
        """This part's run of consecutive portions: about the same bytes for every part."""
        total = sum(sizes) or 1
        # A portion belongs to the part in which its middle lies.
        before, owners = 0, []
        for size in sizes:
            owners.append(min(self.count - 1, (2 * before + size) * self.count // (2 * total)))
            before += size
        first = sum(owner < self.index for owner in owners)
        return slice(first, first + owners.count(self.index))


def usable_cores() -> int:
    """Cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1
