"""What a model's bits per byte should be held against, on the same held-out text.

Uniform and unigram say what knowing nothing and knowing only frequencies costs; gzip and xz are
compressors everyone knows, which see the held-out text alone. All are bits per byte of that text.
"""

from __future__ import annotations

import lzma
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fromscratch.data.shards import TokenStream
from fromscratch.tokenizer.tokenizer import Tokenizer

_PIECE = 1_000_000
_GZIP_WRAPPER = 16  # zlib's flag for a gzip header and trailer


@dataclass(frozen=True)
class Yardstick:
    """A name and its bits per byte."""

    name: str
    bpb: float


def yardsticks(train: TokenStream, held_out: TokenStream, tokenizer: Tokenizer) -> list[Yardstick]:
    """Uniform, unigram, gzip -9 and xz -9, from worst to best by what they know.

    Args:
        train: Whose token frequencies the unigram model has (add-one smoothed).
        held_out: What all of them encode; end-of-text ids count for uniform and unigram, as they do
            for a language model, and are not there for the compressors.
        tokenizer: Of both.
    """
    seen = _counts(train, tokenizer.vocab_size)
    here = _counts(held_out, tokenizer.vocab_size)
    n_bytes = int((here * tokenizer.bytes_per_id).sum())
    log2_probability = np.log2((seen + 1) / (seen.sum() + tokenizer.vocab_size))
    gzip = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | _GZIP_WRAPPER)
    xz = lzma.LZMACompressor(preset=9)
    gzip_bytes = xz_bytes = 0
    for piece in _pieces(held_out):
        text = tokenizer.decode_bytes(piece.tolist())
        gzip_bytes += len(gzip.compress(text))
        xz_bytes += len(xz.compress(text))
    gzip_bytes += len(gzip.flush())
    xz_bytes += len(xz.flush())
    return [
        Yardstick("uniform over tokens", int(here.sum()) * math.log2(len(seen)) / n_bytes),
        Yardstick("unigram (token frequencies)", float(-(here * log2_probability).sum()) / n_bytes),
        Yardstick("gzip -9", 8 * gzip_bytes / n_bytes),
        Yardstick("xz -9", 8 * xz_bytes / n_bytes),
    ]


def _pieces(stream: TokenStream) -> Iterator[np.ndarray]:
    for start in range(0, len(stream), _PIECE):
        yield stream.read(start, min(_PIECE, len(stream) - start))


def _counts(stream: TokenStream, vocab_size: int) -> np.ndarray:
    counts = np.zeros(vocab_size, dtype=np.int64)
    for piece in _pieces(stream):
        counts += np.bincount(piece, minlength=vocab_size)
    return counts
