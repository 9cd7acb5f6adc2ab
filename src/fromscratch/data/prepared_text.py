"""The documents of prepared data as text again, in pieces, with bounded memory.

In: a data folder's shards and its tokenizer. Out: blocks of a few hundred thousand tokens, each
with its ids and with the text of the documents in it; a document longer than a block comes in
several pieces. Of very large data a part can be read, spread evenly over all shards.

Always true: the pieces of a document, joined, are its text; no piece has text of two documents; no
file stays mapped, so that resident memory does not grow with what was read.

Shapes: n tokens of a block, (n,) ids.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fromscratch.data.documents import Split
from fromscratch.data.shards import Shard, TokenArray, open_shard
from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.tokenizer import Tokenizer

BLOCK_TOKENS = 1 << 18


@dataclass(frozen=True)
class Place:
    """Where a document stands in prepared data.

    Attributes:
        split: `train` or `val`.
        source: The source it came from.
        file: The shard.
        number: Of the document in the shard, from 0.
    """

    split: Split
    source: str
    file: str
    number: int

    def __str__(self) -> str:
        return f"{self.file} document {self.number}"


@dataclass(frozen=True)
class Piece:
    """Consecutive text of one document.

    Attributes:
        place: Of the document.
        text: The text; half a character at the document's end is U+FFFD.
        begins: Whether the document begins here.
        ends: Whether it ends here.
    """

    place: Place
    text: str
    begins: bool
    ends: bool


@dataclass(frozen=True)
class Block:
    """Consecutive tokens of one shard.

    Attributes:
        ids: (n,) the tokens, end-of-text ids included.
        pieces: The text of the documents in them, in order.
    """

    ids: TokenArray
    pieces: list[Piece]


def document_offsets(folder: Path, shard: Shard) -> npt.NDArray[np.int64]:
    """Memory-maps the (documents + 1,) positions at which a shard's documents begin, and its end.

    Raises:
        UserError: The file is missing or is not what the manifest says.
    """
    path = folder / shard.documents_file
    try:
        offsets: npt.NDArray[np.int64] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}).", fix="Prepare the data again."
        ) from None
    whole = offsets.shape == (shard.documents + 1,) and offsets.dtype == np.int64
    if not whole or offsets[0] != 0 or offsets[-1] != shard.tokens:
        raise UserError(
            f"{path} does not hold the bounds of {shard.documents} documents in {shard.tokens} "
            "tokens, as the manifest says.",
            fix="Prepare the data again.",
        )
    return offsets


def read_blocks(
    folder: Path,
    tokenizer: Tokenizer,
    shards: Iterable[Shard],
    *,
    share: float = 1.0,
    block_tokens: int = BLOCK_TOKENS,
) -> Iterator[Block]:
    """Yields the shards' documents block by block.

    Args:
        folder: The data folder.
        tokenizer: The one that the data was prepared with.
        shards: In the order in which they are read.
        share: How much of them to read: documents are chosen in runs of about `block_tokens`
            tokens, spread evenly.
        block_tokens: The most tokens of a block.

    Raises:
        UserError: A file is not as the manifest says, or has an id that the tokenizer lacks.
    """
    decoder = _BlockDecoder(tokenizer)
    seen = 1.0 - share  # so that the first stretch is always among them
    for shard in shards:
        # A stretch is the documents that begin within `block_tokens` positions.
        for start in range(0, shard.tokens, block_tokens):
            before, seen = int(seen + 1e-9), seen + share
            if int(seen + 1e-9) == before:
                continue
            offsets = document_offsets(folder, shard)
            first, last = np.searchsorted(offsets[:-1], [start, start + block_tokens])
            yield from _read_stretch(folder, shard, decoder, int(first), int(last), block_tokens)


def _read_stretch(
    folder: Path, shard: Shard, decoder: _BlockDecoder, first: int, last: int, block_tokens: int
) -> Iterator[Block]:
    """Documents number `first` to `last` - 1 of a shard."""
    if first == last:
        return
    bounds = np.array(document_offsets(folder, shard)[first : last + 1])
    utf8 = _new_utf8()
    for start in range(int(bounds[0]), int(bounds[-1]), block_tokens):
        end = min(start + block_tokens, int(bounds[-1]))
        # Copied, so that the map goes away with its pages before the next one is opened.
        ids: TokenArray = open_shard(folder, shard)[start:end].copy()
        # The documents that have a token in [start, end).
        low = int(np.searchsorted(bounds, start, side="right")) - 1
        high = int(np.searchsorted(bounds, end, side="left"))
        cuts = np.clip(bounds[low : high + 1], start, end) - start
        text, ends = decoder.decode(ids, f"{folder / shard.file}")
        byte_cuts = np.concatenate(([0], ends))[cuts].tolist()
        pieces = []
        for number, (a, b) in zip(range(low, high), pairwise(byte_cuts), strict=True):
            begins, finishes = bool(bounds[number] >= start), bool(bounds[number + 1] <= end)
            place = Place(shard.split, shard.source, shard.file, first + number)
            if begins and finishes:
                piece = text[a:b].decode("utf-8", "replace")
            else:  # a character may have bytes on both sides of the cut
                piece = utf8.decode(text[a:b], final=finishes)
                utf8 = _new_utf8() if finishes else utf8
            pieces.append(Piece(place, piece, begins, finishes))
        yield Block(ids, pieces)


def whole_documents(blocks: Iterable[Block], most_characters: int) -> Iterator[tuple[Place, str]]:
    """Joins pieces to documents; of one longer than `most_characters`, yields so much of it."""
    held: list[str] = []
    size = 0
    for block in blocks:
        for piece in block.pieces:
            if piece.begins:
                held, size = [], 0
            held.append(piece.text[: most_characters - size])
            size += len(held[-1])
            if piece.ends:
                yield piece.place, "".join(held)


def read_beginning(folder: Path, tokenizer: Tokenizer, shard: Shard, number: int, n: int) -> str:
    """The text of the first `n` tokens of a document."""
    offsets = document_offsets(folder, shard)
    start, end = int(offsets[number]), int(offsets[number + 1])
    ids = open_shard(folder, shard)[start : min(end, start + n)].tolist()
    # Half a character at the cut is left out, not shown as damage.
    return _new_utf8("ignore").decode(tokenizer.decode_bytes(ids))


def _new_utf8(errors: str = "replace") -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")(errors)


class _BlockDecoder:
    """Ids to bytes, whole blocks at a time: some three times as fast as joining them one by one."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.lengths = tokenizer.bytes_per_id
        self.table = np.frombuffer(
            tokenizer.decode_bytes(range(tokenizer.vocab_size)), dtype=np.uint8
        )
        self.starts = np.cumsum(self.lengths) - self.lengths

    def decode(self, ids: TokenArray, where: str) -> tuple[bytes, npt.NDArray[np.int64]]:
        """The bytes of (n,) ids, and (n,) the position in them at which each id's bytes end."""
        if len(ids) and int(ids.max()) >= len(self.lengths):
            position = int(np.argmax(ids >= len(self.lengths)))
            raise UserError(
                f"{where} holds the id {ids[position]}; the tokenizer beside it has "
                f"{len(self.lengths):,} ids.",
                fix="Prepare the data again with the tokenizer that made these ids.",
            )
        lengths = self.lengths[ids]
        ends = np.cumsum(lengths)
        gather = np.arange(ends[-1] if len(ends) else 0)
        gather += np.repeat(self.starts[ids] - (ends - lengths), lengths)
        return self.table[gather].tobytes(), ends
