"""Text that somebody else has tokenised, taken as it is.

In: nanoGPT's raw uint16 `.bin`, llm.c's and modded-nanogpt's `.bin` with a header, one-dimensional
`.npy`, safetensors with a tensor `tokens`. Out: documents that carry their ids, cut at the
tokenizer's end-of-text id, which other programs put before or after each document; empty ones are
dropped. The files are memory-mapped and read a block at a time.

A file without any end-of-text id is cut every 2,048 tokens, and the report says so. The number of
tokens is that of the file's content, never of its size (R11).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from fromscratch.data.documents import Document
from fromscratch.data.reading import BadInput, Input, SourceReport, bad_input
from fromscratch.tokenizer.tokenizer import Tokenizer

SHARD_SUFFIXES = (".bin", ".npy", ".safetensors")

_BLOCK_TOKENS = 1 << 20
_WITHOUT_END_OF_TEXT = 2_048

# llm.c's header: 256 int32, the first three being magic, version and number of tokens.
_HEADER = struct.Struct("<256i")
_FORMATS: dict[int, tuple[int, type[np.uint16] | type[np.uint32]]] = {
    20240520: (1, np.uint16),
    20240801: (7, np.uint32),
}
_TENSOR = "tokens"
_INTEGERS = ("uint16", "uint32", "int32", "int64")


class _Tokens(Protocol):
    """Ids in a file, of which a slice is read."""

    def __getitem__(self, part: slice, /) -> npt.NDArray[Any]: ...


def read_shard(item: Input, report: SourceReport, tokenizer: Tokenizer) -> Iterator[Document]:
    """Yields the documents of a file of ids.

    Args:
        item: The file.
        report: Told what is left out, and of files without end-of-text.
        tokenizer: What the ids are of: its end-of-text id cuts, its vocabulary bounds.

    Raises:
        BadInput: The file is not of a known format, or not whole.
        UserError: An id is beyond the vocabulary, and the reading says to stop.
        OSError: It cannot be read.
    """
    tokens, size = _opened(item.path, Path(item.label).suffix.lower())
    if size == 0:
        report.skip(item.label, "empty")
        return
    longest = max(_WITHOUT_END_OF_TEXT, item.reading.max_document_bytes // 4)
    if not _has(tokens, size, tokenizer.eot_id):
        longest = _WITHOUT_END_OF_TEXT
        report.note(
            item.label,
            f"has no end-of-text id ({tokenizer.eot_id}): every {longest:,} tokens are a document",
        )
    start = 0
    report.share = lambda: start / size
    for start, ids in _cut(tokens, size, tokenizer.eot_id, longest):
        wrong = (ids < 0) | (ids >= tokenizer.vocab_size)
        if wrong.any():
            first = int(wrong.argmax())
            what = f"the id {int(ids[first])} is beyond the vocabulary of {tokenizer.vocab_size:,}"
            fix = "Name the tokenizer that the file was made with: --tokenizer."
            bad_input(item, report, BadInput(f"token {start + first:,}", what, fix))
            continue
        # A plain array: what is made of a memory map would keep the whole file's map alive.
        yield Document(
            "", f"{item.label}@{start}", item.name, np.array(ids, np.uint32, subok=False)
        )
    report.files += 1


def _cut(
    tokens: _Tokens, size: int, eot_id: int, longest: int
) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Offset and ids of each document, none of them empty or longer than `longest`."""
    held = np.empty(0, np.uint16)  # the document's ids so far
    start = 0
    for begin in range(0, size, _BLOCK_TOKENS):
        block = np.asarray(tokens[begin : min(size, begin + _BLOCK_TOKENS)])
        at = 0
        for edge in [*np.flatnonzero(block == eot_id).tolist(), len(block)]:
            held = np.concatenate((held, block[at:edge])) if len(held) else block[at:edge]
            at = edge + 1
            while len(held) > longest:
                yield start, held[:longest]
                held, start = held[longest:], start + longest
            if edge < len(block):
                if len(held):
                    yield start, held
                held, start = held[:0], begin + at
    if len(held):
        yield start, held


def _has(tokens: _Tokens, size: int, token: int) -> bool:
    return any(
        bool((tokens[begin : min(size, begin + _BLOCK_TOKENS)] == token).any())
        for begin in range(0, size, _BLOCK_TOKENS)
    )


def _opened(path: Path, suffix: str) -> tuple[_Tokens, int]:
    """The ids of a file, and how many there are."""
    if path.stat().st_size == 0:
        return np.empty(0, np.uint16), 0
    if suffix == ".npy":
        return _npy(path)
    return _safetensors(path) if suffix == ".safetensors" else _bin(path)


def _bin(path: Path) -> tuple[_Tokens, int]:
    size = path.stat().st_size
    with open(path, "rb") as file:
        beginning = file.read(_HEADER.size)
    known = len(beginning) >= 4 and struct.unpack_from("<i", beginning)[0] in _FORMATS
    # A raw file does not begin with 250 times the same id 0; a header does, and always.
    if not known and not (len(beginning) == _HEADER.size and not any(beginning[12:])):
        if size % 2:
            raise BadInput("", f"no file of token ids: it has {size:,} bytes, and an id takes two")
        return np.memmap(path, np.dtype("<u2"), mode="r"), size // 2
    if len(beginning) < _HEADER.size:
        raise BadInput(f"byte {size}", "ends inside its header of 1,024 bytes")
    magic, version, count = _HEADER.unpack(beginning)[:3]
    if magic not in _FORMATS:
        raise BadInput(
            "byte 0",
            f"has a header with the magic number {magic}; known are "
            + " and ".join(str(m) for m in _FORMATS),
        )
    expected, id_type = _FORMATS[magic]
    if version != expected:
        raise BadInput("byte 4", f"has version {version}; known is {expected}")
    width = np.dtype(id_type).itemsize
    if count < 0 or size != _HEADER.size + count * width:
        raise BadInput(
            "byte 8",
            f"the header says {count:,} tokens, and the file holds "
            f"{(size - _HEADER.size) / width:,.10g}",
            "It is cut off or was changed: download or make it again.",
        )
    if count == 0:
        return np.empty(0, np.uint16), 0
    order = np.dtype(id_type).newbyteorder("<")
    return np.memmap(path, order, mode="r", offset=_HEADER.size), count


def _npy(path: Path) -> tuple[_Tokens, int]:
    try:
        tokens = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BadInput("", f"not an array that can be read ({error})") from None
    _check(str(tokens.dtype), tokens.shape, "the array")
    return tokens, len(tokens)


def _safetensors(path: Path) -> tuple[_Tokens, int]:
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            if _TENSOR not in names:
                has = ", ".join(names[:10]) or "none"
                raise BadInput("", f'has no tensor "{_TENSOR}"; it has {has}')
            tokens = file.get_slice(_TENSOR)
            kind = {"U16": "uint16", "U32": "uint32", "I32": "int32", "I64": "int64"}
            dtype = tokens.get_dtype()
            shape = tuple(tokens.get_shape())
    except SafetensorError as error:
        raise BadInput("", f"not a safetensors file that can be read ({error})") from None
    _check(kind.get(dtype, dtype), shape, f'the tensor "{_TENSOR}"')
    return tokens, shape[0]


def _check(dtype: str, shape: tuple[int, ...], name: str) -> None:
    if dtype not in _INTEGERS or len(shape) != 1:
        raise BadInput(
            "",
            f"{name} holds {dtype} in the shape {list(shape)}; ids are a single row of "
            + ", ".join(_INTEGERS),
        )
