"""Tokenised examples on disk: a folder that is written once and read through memory maps.

Each example is a stretch of token ids, each id marked as learned or not; it belongs to one side of
the split. The folder also holds the tokenizer and, as text, the conversations of the test side. Its
manifest is written last: without it the folder is not there. What it says is all that is believed
about the rest.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import read_json
from fromscratch.foundation.names import (
    EXAMPLES_IDS,
    EXAMPLES_LEARNED,
    EXAMPLES_MANIFEST,
    EXAMPLES_SIDES,
    EXAMPLES_STARTS,
)

Side = Literal["train", "test", "val"]
SIDES: tuple[Side, ...] = ("train", "test", "val")
FORMAT_VERSION = 1


@dataclass(frozen=True)
class SideCounts:
    """What is on one side of the split: examples, their tokens, and how many are learned."""

    examples: int
    tokens: int
    learned: int


@dataclass(frozen=True)
class ExamplesManifest:
    """Everything about a folder of examples.

    Attributes:
        source: The name of the source.
        spec: Where it lay.
        settings: How examples were made of it: template, loss, limits, split.
        tokenizer: The tokenizer's name.
        tokenizer_fingerprint: Its fingerprint.
        records: Read, whatever became of them.
        skipped: Records left out because they were bad.
        prompt_too_long: Examples dropped because of their prompt side.
        answer_too_long: Because of their answer side.
        both_too_long: Because both together do not fit into the context.
        ties: Preferences dropped because both answers are the same.
        copies: Examples whose like came before, wherever.
        copies_across: Examples of the test and validation sides whose like is trained on.
        sides: Counts by side.
        sha256: Over the files of examples.
    """

    source: str
    spec: str
    settings: dict[str, Any]
    tokenizer: str
    tokenizer_fingerprint: str
    records: int
    skipped: int
    prompt_too_long: int
    answer_too_long: int
    both_too_long: int
    ties: int
    copies: int
    copies_across: int
    sides: dict[str, SideCounts]
    sha256: str

    @property
    def dropped(self) -> int:
        """Examples that were too long."""
        return self.prompt_too_long + self.answer_too_long + self.both_too_long

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of what determines the examples, wherever their source lay."""
        content = {k: v for k, v in asdict(self).items() if k != "spec"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Examples:
    """The examples in a folder, read as they are asked for.

    Args:
        folder: One that `is_examples`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = load_examples_manifest(folder)
        self._ids = _mapped(folder / EXAMPLES_IDS)
        self._learned = _mapped(folder / EXAMPLES_LEARNED)
        self.starts: npt.NDArray[np.int64] = _mapped(folder / EXAMPLES_STARTS)
        self._sides = _mapped(folder / EXAMPLES_SIDES)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, side: Side) -> npt.NDArray[np.int64]:
        """The numbers of the examples of a side, in the source's order."""
        return np.flatnonzero(np.asarray(self._sides) == SIDES.index(side))

    def lengths(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Tokens of some examples."""
        lengths: npt.NDArray[np.int64] = self.starts[numbers + 1] - self.starts[numbers]
        return lengths

    def read(self, number: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """An example's ids, and which of them are learned."""
        begin, end = int(self.starts[number]), int(self.starts[number + 1])
        return self._ids[begin:end].astype(np.int64), self._learned[begin:end].astype(np.bool_)


def is_examples(folder: Path) -> bool:
    """Whether a folder holds examples, whole."""
    return (folder / EXAMPLES_MANIFEST).is_file()


def load_examples_manifest(folder: Path) -> ExamplesManifest:
    """Reads a folder's manifest.

    Raises:
        UserError: It has none, or one of another version.
    """
    if not is_examples(folder):
        raise UserError(
            f"{folder} holds no examples (it has no {EXAMPLES_MANIFEST}).",
            fix="Give the conversations themselves: JSON, JSON lines or Parquet.",
        )
    content: dict[str, Any] = read_json(folder / EXAMPLES_MANIFEST)
    if content.pop("format_version", None) != FORMAT_VERSION:
        raise UserError(
            f"{folder} was prepared by another version of fromscratch.",
            fix="Give data.path=SOURCE once more: it is prepared again.",
        )
    sides = {name: SideCounts(**counts) for name, counts in content.pop("sides").items()}
    return ExamplesManifest(**content, sides=sides)


def _mapped(path: Path) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}).",
            fix=f"Remove {path.parent} and give data.path=SOURCE once more.",
        ) from None
    return array
