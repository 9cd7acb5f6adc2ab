"""Prepared data on disk: a manifest, and token shards that are read through memory maps.

A split's documents, each followed by the end-of-text id, form one stream of tokens that is cut into
shards. `TokenStream` reads that stream by position, across shards, as a circle: what comes before
its first token is its last one, an end-of-text. So every token of the stream has a token before it
to be predicted from, and the first of a document is predicted from "a document begins".
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fromscratch.data.documents import Split
from fromscratch.foundation.errors import UserError, did_you_mean_path
from fromscratch.foundation.files import dump_json, read_json, write_atomically
from fromscratch.foundation.names import DATA_INCOMPLETE, DATA_MANIFEST, DATA_PART

FORMAT_VERSION = 2
# Each holds a file open, of which a process may have 1,024 (macOS: 256), and a mixture has a stream
# for each source. Opening one takes a tenth of a millisecond.
_OPEN_SHARDS = 64
_OUR_COMMANDS = (b"fromscratch prepare ", b"fromscratch data merge ")
TokenArray = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


def stored_as(vocab_size: int) -> type[np.uint16] | type[np.uint32]:
    """The type in which the ids of a vocabulary are stored."""
    return np.uint16 if vocab_size <= 2**16 else np.uint32


@dataclass(frozen=True)
class Shard:
    """One file of tokens.

    Attributes:
        file: Its name in the data folder.
        documents_file: The file with the offset of each document's first token, and the end.
        split: `train` or `val`.
        source: The source that its documents came from.
        tokens: Number of tokens, end-of-text ids included.
        documents: Number of documents.
        bytes: UTF-8 bytes of their text.
        sha256: Of the file.
    """

    file: str
    documents_file: str
    split: Split
    source: str
    tokens: int
    documents: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class SourceSummary:
    """What a source gave.

    Attributes:
        name: How it is called.
        spec: Where it lay.
        documents: Documents read, duplicates included.
        bytes: UTF-8 bytes of their text.
        files_skipped: Files, or records, that gave no document.
        duplicates: Documents left out because they, or near copies, came before.
        sha256: Over the content and the order of the documents read.
    """

    name: str
    spec: str
    documents: int
    bytes: int
    files_skipped: int
    duplicates: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything about a prepared data folder; the only place its counts are taken from (R11).

    Attributes:
        tokenizer: The tokenizer's name.
        tokenizer_fingerprint: sha256 of what it does.
        vocab_size: Its ids, special ones included.
        eot_id: The end-of-text id after each document.
        val_fraction: The share of documents that was to be held out.
        seed: What chooses them, with their content.
        dedup: Which documents were left out: `none`, `exact` or `near` copies.
        sources: What each source gave.
        shards: The files of tokens, in the order of the stream.
    """

    tokenizer: str
    tokenizer_fingerprint: str
    vocab_size: int
    eot_id: int
    val_fraction: float
    seed: int
    dedup: str
    sources: list[SourceSummary]
    shards: list[Shard]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of what determines the tokens; equal for equal data, wherever it lies."""
        content = asdict(self)
        for source in content["sources"]:
            del source["spec"]  # where the text lay is not what it says
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def total(self, quantity: str, split: Split, source: str | None = None) -> int:
        """Sum of `tokens`, `documents` or `bytes` over the shards of a split (and a source)."""
        return sum(int(getattr(s, quantity)) for s in self.select(split, source))

    def select(self, split: Split, source: str | None = None) -> list[Shard]:
        """The shards of a split, in order; of one source only, where it is named."""
        return [s for s in self.shards if s.split == split and source in (None, s.source)]

    def save(self, folder: Path) -> None:
        """Writes manifest.json, which makes the folder complete."""
        write_atomically(folder / DATA_MANIFEST, dump_json(self._content(), indent=1) + "\n")

    def save_part(self, folder: Path, facts: dict[str, Any]) -> None:
        """Writes part.json instead, with what joining the parts needs to know besides."""
        content = self._content() | {"joining": facts}
        write_atomically(folder / DATA_PART, dump_json(content, indent=1) + "\n")

    def _content(self) -> dict[str, Any]:
        return {"format_version": FORMAT_VERSION, "fingerprint": self.fingerprint} | asdict(self)


def is_prepared(folder: Path) -> bool:
    """Whether the folder is prepared data of ours, finished or not.

    Other programs write a `manifest.json` too: the content decides, not the name.
    """
    marker = folder / DATA_INCOMPLETE
    for manifest in (folder / DATA_MANIFEST, folder / DATA_PART):
        if manifest.is_file():
            return b'"tokenizer_fingerprint"' in manifest.read_bytes()
    return marker.is_file() and marker.read_bytes().startswith(_OUR_COMMANDS)


def load_manifest(folder: Path) -> Manifest:
    """Reads and checks a data folder's manifest.

    Raises:
        UserError: The folder is missing, unfinished, not ours, of another format version, or its
            shards are not as long as the manifest says.
    """
    if not (folder / DATA_MANIFEST).is_file():
        if (folder / DATA_PART).is_file():
            raise UserError(
                f"{folder} is one part of a preparation.",
                fix="Join all its parts: fromscratch data merge PART ... --out DATA",
            )
        if is_prepared(folder):
            command = os.fsdecode((folder / DATA_INCOMPLETE).read_bytes()).strip()
            raise UserError(
                f"Preparing {folder} was interrupted before it finished.",
                fix=f"Run it again: {command}",
                regret="R10",
            )
        raise UserError(
            f"{folder} is not prepared data (it has no {DATA_MANIFEST})."
            f"{did_you_mean_path(folder)}",
            fix=f"Prepare text into it: fromscratch prepare SOURCE --out {folder}",
        )
    return _read_manifest(folder, read_json(folder / DATA_MANIFEST))


def load_part(folder: Path) -> tuple[Manifest, dict[str, Any]]:
    """Reads a part's manifest, and what `Manifest.save_part` was told besides.

    Raises:
        UserError: The folder is not a finished part, or is damaged.
    """
    if not (folder / DATA_PART).is_file():
        if (folder / DATA_INCOMPLETE).is_file():
            load_manifest(folder)  # says how to finish it
        raise UserError(
            f"{folder} is not a part of a preparation (it has no {DATA_PART}).",
            fix="Make the parts: fromscratch prepare SOURCE --part 0/2 --out PART-0, and so on.",
        )
    content = read_json(folder / DATA_PART)
    facts: dict[str, Any] = content.pop("joining", {}) if isinstance(content, dict) else {}
    return _read_manifest(folder, content), facts


def _read_manifest(folder: Path, content: Any) -> Manifest:
    if not isinstance(content, dict):
        raise _edited(folder)
    version = content.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise UserError(
            f"{folder} has data format {version}; this release reads {FORMAT_VERSION}.",
            fix="Prepare the data again with this release.",
        )
    try:
        recorded = content.pop("fingerprint")
        content["sources"] = [SourceSummary(**s) for s in content["sources"]]
        content["shards"] = [Shard(**s) for s in content["shards"]]
        manifest = Manifest(**content)
    except (KeyError, TypeError):  # a field too many or too few
        raise _edited(folder) from None
    if manifest.fingerprint != recorded:
        raise _edited(folder)
    for shard in manifest.shards:  # now, and not in the middle of a run
        check_shard(folder, shard)
    return manifest


def _edited(folder: Path) -> UserError:
    return UserError(
        f"{folder / DATA_MANIFEST} was edited: its fingerprint does not match its content.",
        fix="Prepare the data again.",
    )


def check_shard(folder: Path, shard: Shard) -> tuple[np.dtype[Any], int]:
    """Looks whether a shard's file is there and as long as the manifest says; reads no tokens.

    Returns:
        The kind of its tokens, and the byte at which they begin.

    Raises:
        UserError: It is not.
    """
    path = folder / shard.file
    try:
        with open(path, "rb") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            begin = file.tell()
            size = begin + dtype.itemsize * shard.tokens
            actual = file.seek(0, os.SEEK_END)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}).", fix="Prepare the data again.", regret="R11"
        ) from None
    if shape != (shard.tokens,) or dtype not in (np.uint16, np.uint32) or size != actual:
        raise UserError(
            f"{path} holds {dtype} {shape} in {actual:,} bytes; the manifest says "
            f"{shard.tokens:,} tokens.",
            fix="Prepare the data again.",
            regret="R11",
        )
    return dtype, begin


def open_shard(folder: Path, shard: Shard) -> TokenArray:
    """Memory-maps a shard's tokens.

    Raises:
        UserError: The file is missing or not what the manifest says.
    """
    dtype, begin = check_shard(folder, shard)
    tokens: TokenArray = np.memmap(folder / shard.file, dtype, "r", begin, (shard.tokens,))
    return tokens


class TokenStream:
    """A split's tokens, readable from any position, as a circle.

    Args:
        folder: The data folder.
        shards: The shards, in order.
    """

    def __init__(self, folder: Path, shards: list[Shard]) -> None:
        self.folder = folder
        self.shards = shards
        self._starts = np.cumsum([0, *(s.tokens for s in shards)])
        self._open: dict[int, TokenArray] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, start: int, length: int) -> npt.NDArray[np.int64]:
        """`length` tokens from position `start` on; positions count modulo the stream's length."""
        out = np.empty(length, dtype=np.int64)
        filled = 0
        position = start % len(self)
        while filled < length:
            index = int(np.searchsorted(self._starts, position, side="right")) - 1
            offset = position - int(self._starts[index])
            piece = self._shard(index)[offset : offset + length - filled]
            out[filled : filled + len(piece)] = piece
            filled += len(piece)
            position = (position + len(piece)) % len(self)
        return out

    def read_rows(self, starts: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
        """`read` from several positions at once: (rows, length)."""
        out = np.empty((len(starts), length), dtype=np.int64)
        begins = starts % len(self)
        shards = np.searchsorted(self._starts, begins, side="right") - 1
        inside = begins + length <= self._starts[shards + 1]
        along = np.arange(length)
        for shard in np.unique(shards[inside]):
            rows = np.flatnonzero(inside & (shards == shard))
            # Indexing a memory map keeps asking whether the result is one; a view of it does not.
            tokens = np.asarray(self._shard(int(shard)))
            out[rows] = tokens[(begins[rows] - self._starts[shard])[:, None] + along]
        for row in np.flatnonzero(~inside):  # into the next shard, or around the end
            out[row] = self.read(int(begins[row]), length)
        return out

    def _shard(self, index: int) -> TokenArray:
        tokens = self._open.pop(index, None)
        if tokens is None:
            if len(self._open) >= _OPEN_SHARDS:
                del self._open[next(iter(self._open))]
            tokens = open_shard(self.folder, self.shards[index])
        self._open[index] = tokens  # the last one is the one used last
        return tokens
