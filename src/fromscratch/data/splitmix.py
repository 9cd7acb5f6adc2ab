"""Numbers that look random, as a function of numbers: SplitMix64 (Steele, Lea and Flood 2014)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]

GOLDEN = 0x9E3779B97F4A7C15
"""2^64 divided by the golden ratio: an odd number without structure, and SplitMix64's step."""

_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def mix(values: U64) -> U64:
    """The finaliser, of (n,) numbers: a permutation of the 64-bit numbers that keeps 0 in place."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))
