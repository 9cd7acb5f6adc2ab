"""A shuffled order that can be asked for any position, without being stored.

A Feistel network over the smallest even number of bits that holds the domain is a bijection of
those bits whatever its round function is (Luby and Rackoff 1988); walking the cycle until the value
falls below `size` makes it a bijection of 0..size-1 (the cycle-walking cipher of Black and Rogaway,
"Ciphers with arbitrary finite domains", 2002). Memory is constant; a look-up takes fewer than four
walks on average, because the bits hold at most four times `size` values. It is a shuffle, not
cryptography.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fromscratch.foundation.seeds import derive_seed

_ROUNDS = 6
Indices = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Permutation:
    """A bijection of 0..size-1, chosen by `seed`.

    Attributes:
        size: Number of elements, at least 1.
        seed: Which of the permutations.
    """

    size: int
    seed: int

    def __call__(self, positions: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The elements at the given positions; positions lie in 0..size-1."""
        values = np.atleast_1d(np.asarray(positions)).astype(np.uint64)
        assert (values < self.size).all(), "a position is outside the domain"
        values = self._encrypt(values)
        outside = values >= self.size
        while outside.any():
            values[outside] = self._encrypt(values[outside])
            outside = values >= self.size
        return values.astype(np.int64)

    @cached_property
    def _half_bits(self) -> int:
        return max(1, ((self.size - 1).bit_length() + 1) // 2)

    @cached_property
    def _keys(self) -> list[np.uint64]:
        return [np.uint64(derive_seed(self.seed, "feistel", r)) for r in range(_ROUNDS)]

    def _encrypt(self, values: Indices) -> Indices:
        half = np.uint64(self._half_bits)
        mask = np.uint64((1 << self._half_bits) - 1)
        left, right = values >> half, values & mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right + key) & mask)
        return (left << half) | right


def _mix(x: Indices) -> Indices:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014); arithmetic modulo 2**64."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
