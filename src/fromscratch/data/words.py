"""The words of a text for n-gram overlap, and hashes of them, a million characters at a time.

Normalisation is that of the overlap analysis of GPT-3 (Brown et al. 2020, appendix C): lower case,
punctuation ignored, words delimited by white space. Here a word is a run of letters and digits of
any script, in lower case; every other character separates. Each character is mapped by itself, so a
text that is cut between two words has the same words in its parts.

Shapes: c characters, w words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

_SPACE = 0x20
# Odd numbers have an inverse modulo 2**64; these two have no pattern in their bits (fractions of pi
# and of the golden ratio).
_BASE = 0x243F6A8885A308D3
_GRAM_BASE = 0x9E3779B97F4A7C15
_MIX = 0xBF58476D1CE4E5B9
UInt64Array = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Words:
    """The words of a text.

    Attributes:
        codes: (c,) code points in lower case; a space where there is no letter or digit.
        starts: (w,) position of each word's first character.
        ends: (w,) position after its last one.
    """

    codes: npt.NDArray[np.uint32]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    def spelled(self, first: int, n: int) -> str:
        """`n` words from number `first` on, with one space between two."""
        codes = self.codes[self.starts[first] : self.ends[first + n - 1]]
        return " ".join(codes.tobytes().decode("utf-32-le").split())


def find_words(text: str) -> Words:
    """Finds the words of a text; lone surrogates separate."""
    raw = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    codes = _lower_or_space()[raw]
    inside = np.zeros(len(codes) + 2, dtype=np.int8)
    inside[1:-1] = codes != _SPACE
    edges = np.flatnonzero(np.diff(inside))
    return Words(codes, edges[0::2], edges[1::2])


class WordHasher:
    """64-bit hashes of words and of n consecutive words: polynomials modulo 2**64.

    A hash may collide, so a match has to be confirmed by the words themselves.
    """

    def __init__(self) -> None:
        self._powers: UInt64Array = np.ones(1, dtype=np.uint64)
        self._inverses: UInt64Array = np.ones(1, dtype=np.uint64)

    def words(self, words: Words) -> UInt64Array:
        """(w,) the hash of each word."""
        self._provide(len(words.codes))
        terms = words.codes * self._powers[: len(words.codes)]
        # The sum up to each character; a word is a difference of two, moved to the origin.
        sums = np.zeros(len(terms) + 1, dtype=np.uint64)
        np.cumsum(terms, out=sums[1:])
        hashes: UInt64Array = (sums[words.ends] - sums[words.starts]) * self._inverses[words.starts]
        return (hashes ^ (hashes >> np.uint64(29))) * np.uint64(_MIX)

    def grams(self, hashes: UInt64Array, lengths: list[int]) -> dict[int, UInt64Array]:
        """For each n of `lengths`: (w - n + 1,) the hash of the n words from each word on."""
        grams = {}
        total = np.zeros(len(hashes), dtype=np.uint64)
        factor = 1
        for j in range(max(lengths)):
            total[: len(hashes) - j] += hashes[j:] * np.uint64(factor)
            factor = factor * _GRAM_BASE % 2**64
            if j + 1 in lengths:
                n = j + 1
                grams[n] = total[: max(0, len(hashes) - n + 1)] * np.uint64(_MIX)
            if j + 1 >= len(hashes):
                break
        return {n: grams.get(n, np.empty(0, dtype=np.uint64)) for n in lengths}

    def _provide(self, n: int) -> None:
        """Makes powers of the base and of its inverse up to the n-th."""
        if len(self._powers) < n + 1:
            n = max(n, 1 << 21)
            inverse = pow(_BASE, -1, 2**64)
            for name, base in (("_powers", _BASE), ("_inverses", inverse)):
                factors = np.full(n + 1, base, dtype=np.uint64)
                factors[0] = 1
                setattr(self, name, np.cumprod(factors))


@cache
def _lower_or_space() -> npt.NDArray[np.uint32]:
    """For each code point: a letter's or digit's in lower case, and a space for all others."""
    table = np.full(0x110000, _SPACE, dtype=np.uint32)
    every = "".join(map(chr, range(0x110000)))
    for run in re.finditer(r"[^\W_]+", every):
        # One character each, or positions would shift: two become their first.
        table[run.start() : run.end()] = [ord(c.lower()[0]) for c in run.group()]
    return table
