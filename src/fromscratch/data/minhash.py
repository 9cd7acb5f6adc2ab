"""MinHash signatures of texts, and the band keys by which near-duplicates find each other.

In: texts. Out: 112 minima per text (n, 112), and 14 keys per text (n, 14); two texts are taken for
near-duplicates when any of their keys is equal. Always: a key is a function of the text alone, the
same on every machine, in every batch; 0 stands for "no key".

The similarity is Jaccard's, of the sets of five consecutive words. Bands of 8 minima, 14 of them,
find a pair of similarity s with probability 1 - (1 - s^8)^14: 77% at 0.75, 92% at 0.8, 99.95% at
0.9, 0.1% at 0.3. These are FineWeb's numbers (Penedo et al. 2024, arXiv:2406.17557, section 3.4);
the method is Broder 1997 and Indyk and Motwani 1998.

A word is a run of letters and digits, without regard to the case of A to Z; a Chinese character or
a Japanese kana is a word by itself; ASCII punctuation, U+0080-00BF and U+2000-2FFF (dashes, quotes,
symbols) separate words. A text of fewer than five words has no key: it has exact copies only.
Words are hashed by numpy, since splitting and joining strings costs ten times what the minima do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fromscratch.data.splitmix import GOLDEN, U64, mix
from fromscratch.foundation.errors import UserError

N_BANDS = 14
ROWS_PER_BAND = 8
SIGNATURE = N_BANDS * ROWS_PER_BAND
SHINGLE_WORDS = 5

# Text is worked on in blocks of this many bytes: small enough for a core's cache, and all the
# memory that a text of any length takes.
_BLOCK = 1 << 17
_SEED = 1


def near_bands(texts: Sequence[str]) -> U64:
    """The keys by which near-duplicates find each other.

    Args:
        texts: Whole documents.

    Returns:
        (n, 14) keys. Texts whose keys are equal in any column are near-duplicates, except that 0,
        in all columns of a text of fewer than five words, equals nothing.

    Raises:
        UserError: The package that computes the minima is not installed.
    """
    minima, comparable = signatures(texts)
    return bands_of(minima, comparable)


def signatures(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_]]:
    """The minima of texts.

    Args:
        texts: Whole documents.

    Returns:
        (n, 112) minima, whose share of equal columns estimates the Jaccard similarity of two texts
        with a standard error of sqrt(s (1 - s) / 112); and (n,) whether a text has five words.

    Raises:
        UserError: The package that computes the minima is not installed.
    """
    minima = np.full((len(texts), SIGNATURE), np.iinfo(np.uint32).max, dtype=np.uint32)
    comparable = np.zeros(len(texts), dtype=np.bool_)
    for first, words, offsets in _blocks(texts):
        shingles, rows = _shingles(words, offsets)
        n = len(offsets) - 1
        if len(shingles):
            found = np.asarray(_digests(shingles, rows), dtype=np.uint32)
            np.minimum(minima[first : first + n], found, out=minima[first : first + n])
        comparable[first : first + n] |= np.diff(rows) > 0
    return minima, comparable


def bands_of(minima: npt.NDArray[np.uint32], comparable: npt.NDArray[np.bool_]) -> U64:
    """The keys (n, 14) of signatures (n, 112); zeros where a text is not comparable."""
    rows = minima.reshape(-1, N_BANDS, ROWS_PER_BAND).astype(np.uint64)
    keys = np.broadcast_to(_spread(N_BANDS), rows.shape[:2]).copy()
    for row in range(ROWS_PER_BAND):
        keys = mix((keys ^ rows[:, :, row]) * np.uint64(GOLDEN))
    keys[keys == 0] = 1
    keys[~comparable] = 0
    return keys


def _digests(shingles: U64, rows: U64) -> list[list[int]]:
    """The minima, 112 for each row of `shingles` that `rows` marks off."""
    try:
        import rensa  # an extra, and a compiled one
    except ImportError:
        raise UserError(
            "Near-duplicates are found with the package rensa, which is not installed.",
            fix="pip install 'fromscratch[dedup]'",
        ) from None
    minhash: Any = rensa.RMinHash
    matrix = minhash.digest_matrix_from_flat_token_hashes(shingles, rows, SIGNATURE, _SEED)
    digests: list[list[int]] = matrix.to_rows()
    return digests


def _blocks(texts: Sequence[str]) -> Iterator[tuple[int, U64, npt.NDArray[np.int64]]]:
    """Yields texts as hashed words.

    Yields:
        The number of the first text; the words of it and of those after it; where each text's
        words begin in them, and the end. A long text comes alone, in several blocks, each
        beginning with the last four words of the one before.
    """
    group: list[bytes] = []
    size = first = 0
    for number, text in enumerate(texts):
        raw = text.encode("utf-8", "replace")
        if group and size + len(raw) >= _BLOCK:
            yield first, *_words_of_group(group)
            group, size = [], 0
        if not group:
            first = number
        if len(raw) < _BLOCK:
            group.append(raw)
            size += len(raw) + 1
        else:
            for words in _words_of_long(raw):
                yield number, words, np.array([0, len(words)], dtype=np.int64)
    if group:
        yield first, *_words_of_group(group)


def _words_of_group(group: list[bytes]) -> tuple[U64, npt.NDArray[np.int64]]:
    words, starts = _words(b"\n".join(group))
    begins = np.cumsum([0] + [len(raw) + 1 for raw in group])
    return words, np.searchsorted(starts, begins).astype(np.int64)


def _words_of_long(raw: bytes) -> Iterator[U64]:
    carried = np.zeros(0, dtype=np.uint64)
    at = 0
    while at < len(raw):
        end = at + _BLOCK
        if end < len(raw):
            # A word longer than a block is cut, always in the same place.
            end = max(raw.rfind(b" ", at + 1, end), raw.rfind(b"\n", at + 1, end)) + 1 or end
        words = np.concatenate([carried, _words(raw[at:end])[0]])
        yield words
        carried, at = words[-(SHINGLE_WORDS - 1) :], end


def _words(raw: bytes) -> tuple[U64, npt.NDArray[np.int64]]:
    """A block's words as hashes, and where in the block each begins.

    The hash of a word is a polynomial in its bytes modulo 2^64. It is summed over the block as if
    all words were one number, and then divided by the power at the word's begin, for the whole
    block at once.
    """
    value, power, inverse = _tables()
    data = np.frombuffer(raw, dtype=np.uint8)
    in_word = _in_word(data)
    begins = in_word.copy()
    begins[1:] &= ~in_word[:-1]
    ideographs = np.flatnonzero((data >= 0xE3) & (data <= 0xE9))
    begins[ideographs] = True
    after = ideographs[ideographs + 3 < len(data)] + 3
    begins[after] |= in_word[after]
    starts = np.flatnonzero(begins)
    if not len(starts):
        return np.zeros(0, dtype=np.uint64), starts
    terms = value[data]
    terms *= power[: len(data)]
    terms *= in_word
    return mix(np.add.reduceat(terms, starts) * inverse[starts]), starts


def _in_word(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which bytes of UTF-8 belong to a word."""
    ascii_word = np.zeros(256, dtype=np.bool_)
    ascii_word[[ord(c) for c in "0123456789"]] = True
    ascii_word[ord("A") : ord("Z") + 1] = ascii_word[ord("a") : ord("z") + 1] = True
    ascii_word[0x80:] = True
    ascii_word[[0xC2, 0xE2]] = False
    within = ascii_word[data]
    for lead, length in ((0xC2, 2), (0xE2, 3)):
        places = np.flatnonzero(data == lead)
        for step in range(1, length):
            within[places[places + step < len(data)] + step] = False
    return within


def _shingles(words: U64, offsets: npt.NDArray[np.int64]) -> tuple[U64, U64]:
    """Hashes of the runs of five words inside each text; where each text's begin, and the end."""
    runs = max(0, len(words) - SHINGLE_WORDS + 1)
    hashes = words[:runs].copy()
    for step in range(1, SHINGLE_WORDS):
        hashes *= np.uint64(GOLDEN)
        hashes += words[step : step + runs]
    counts = np.maximum(np.diff(offsets) - (SHINGLE_WORDS - 1), 0)
    rows = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)
    text_of = np.repeat(np.arange(len(counts)), np.diff(offsets))
    inside = text_of[:runs] == text_of[SHINGLE_WORDS - 1 :][:runs]
    return mix(hashes[inside]), rows


@cache
def _tables() -> tuple[U64, U64, U64]:
    """A number for each byte, the same for "a" and "A"; powers of an odd number; their inverses."""
    value = _spread(256)
    value[ord("A") : ord("Z") + 1] = value[ord("a") : ord("z") + 1]
    base = 2 * GOLDEN + 1
    power, inverse = (
        np.cumprod(np.full(_BLOCK, number % 2**64, dtype=np.uint64), dtype=np.uint64)
        for number in (base, pow(base, -1, 2**64))
    )
    return value, power, inverse


def _spread(n: int) -> U64:
    """`n` numbers without structure, the same everywhere: SplitMix64's first ones."""
    return mix(np.arange(1, n + 1, dtype=np.uint64) * np.uint64(GOLDEN))
