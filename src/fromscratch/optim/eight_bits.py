"""Which state is kept in 8 bits, and how many bytes that takes. Without torch, so that `plan` can.

A moment in 8 bits is one byte for each number, one fp32 scale for each block of 256 of them, and
the table of the 256 numbers that a byte stands for (Dettmers et al. 2022, arXiv 2110.02861).
"""

from __future__ import annotations

BLOCK = 256
"""Numbers that share a scale; both engines' choice."""
SMALLEST = 4096
"""Smaller tensors stay in fp32, as in both engines: biases and norms, where it saves nothing."""
CODES = 256
"""Numbers that a byte can stand for."""

_FP32 = 4


def fits_eight_bits(size: int) -> bool:
    """Whether the moments of a tensor of so many numbers are kept in 8 bits; else in fp32."""
    return size >= SMALLEST and size % BLOCK == 0


def moment_bytes(size: int) -> int:
    """Bytes of one moment of a tensor of `size` numbers under `adamw8bit`."""
    if not fits_eight_bits(size):
        return _FP32 * size
    return size + _FP32 * (size // BLOCK) + _FP32 * CODES
