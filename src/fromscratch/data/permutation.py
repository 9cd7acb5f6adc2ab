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

from fromscratch.data.splitmix import mix
from fromscratch.foundation.seeds import derive_seed

_ROUNDS = 6
_STRETCH = 4096
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
            left, right = right, left ^ (mix(right + key) & mask)
        return (left << half) | right


class StretchedPermutation:
    """A permutation that is asked for places in a row: worked out and kept a stretch at a time.

    A look-up costs some 60 numpy calls whether it is for one place or for thousands; training asks
    for a few at a time, each time the next ones. Only speed depends on the stretches.

    Args:
        permutation: Which.
    """

    def __init__(self, permutation: Permutation) -> None:
        self.permutation = permutation
        self._stretches: dict[int, npt.NDArray[np.int64]] = {}

    def __call__(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The elements at the given positions; positions lie in 0..size-1."""
        numbers, within = np.divmod(positions, _STRETCH)
        elements = np.empty_like(positions)
        for number in set(numbers.tolist()):
            mine = numbers == number
            elements[mine] = self._stretch(number)[within[mine]]
        return elements

    def _stretch(self, number: int) -> npt.NDArray[np.int64]:
        if number not in self._stretches:
            if len(self._stretches) >= 2:  # the next batch may still begin in the one before
                del self._stretches[next(iter(self._stretches))]
            begin = number * _STRETCH
            end = min(begin + _STRETCH, self.permutation.size)
            self._stretches[number] = self.permutation(np.arange(begin, end))
        return self._stretches[number]
