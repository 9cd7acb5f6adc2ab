"""Products of a few rows with a large matrix, as the decoding of tokens makes them on a CPU.

Such a product does little arithmetic for each weight, so it takes as long as reading the matrix
from memory takes, where the kernel lets it. MKL's product of one row reaches a quarter of that
rate; its product of a batch of pieces of the matrix reaches nine tenths (dev/LOG.md has the
figures). From three rows on oneDNN is faster; it rearranges the matrix each time, or takes one that
`pack` has rearranged.

Shapes: N rows, K inputs, M outputs, G pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

_PACKED_FOR = 8
"""Rows that the packed order is best for; it serves any number."""

MOST_ROWS = 64
"""From here on it is a product like any other (see `linear`)."""

_PIECES = 8
"""As many as threads can share; the result does not depend on how many there are."""


@cache
def is_available(device: str) -> bool:
    """Whether this torch has what this file takes, for that type of device."""
    return (
        device == "cpu"
        and torch.backends.mkl.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def suits(x: Tensor) -> bool:
    """Whether this file is for these inputs: few rows, nobody differentiates or compiles."""
    return (
        x.numel() < MOST_ROWS * x.shape[-1]
        and not torch.is_grad_enabled()
        and x.dtype is torch.float32
        and is_available(x.device.type)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


@dataclass(frozen=True)
class Packed:
    """A copy of a matrix in oneDNN's own order.

    Attributes:
        matrix: Opaque: only `product` can read it.
        state: Of what was copied; after a change the copy is not used any more.
    """

    matrix: Tensor
    state: tuple[int, int]


def product(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, packed: Packed | None = None
) -> Tensor:
    """X W^T + b, for inputs that `suits` allows.

    Args:
        x: (..., K).
        weight: (M, K), contiguous.
        bias: (M,).
        packed: The same matrix as `pack` made it.

    Returns:
        (..., M).
    """
    n_rows = x.numel() // x.shape[-1]
    if n_rows == 1:
        return _one_row(x, weight, bias)
    if n_rows == 2:  # the second time the pieces come from the processor's cache
        rows = x.view(2, 1, -1)
        both = torch.cat([_one_row(row, weight, bias) for row in rows])
        return both.view(*x.shape[:-1], -1)
    fresh = packed is not None and packed.state == state_of(weight)
    matrix = packed.matrix if packed is not None and fresh else weight
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, matrix, bias, "none", [], "")
    return out


def pack(weight: Tensor) -> Packed:
    """A copy of (M, K) from which `product` is faster for three rows and more."""
    matrix = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _PACKED_FOR)
    return Packed(matrix, state_of(weight))


def state_of(weight: Tensor) -> tuple[int, int]:
    """Where a matrix is and how often it was changed, which torch does not count in inference."""
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version


def _one_row(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    whole = len(weight) - len(weight) % _PIECES
    if not whole:
        return F.linear(x, weight, bias)
    if whole == len(weight):
        return product_of_one_row(weight, bias)(x.contiguous())
    rest = None if bias is None else bias[whole:]
    most = _one_row(x, weight[:whole], None if bias is None else bias[:whole])
    return torch.cat((most, F.linear(x, weight[whole:], rest)), dim=-1)


def product_of_one_row(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """What `product` does for one row, with everything prepared that does not depend on the row.

    Args:
        weight: (M, K), contiguous; M is a multiple of the number of pieces.
        bias: (M,).

    Returns:
        Maps (..., K), contiguous and one row in all, to (..., M).
    """
    n_out, n_in = weight.shape
    pieces = weight.view(_PIECES, -1, n_in)  # (G, M/G, K)
    # The row as a column, the same one for each piece: (G, K, 1). For MKL to take the kernel that
    # is fast here its last stride must be K.
    size, stride = (_PIECES, n_in, 1), (0, 1, n_in)
    if bias is None:
        return lambda x: torch.bmm(pieces, x.as_strided(size, stride)).view(*x.shape[:-1], n_out)
    added = bias.view(_PIECES, -1, 1)
    return lambda x: torch.baddbmm(added, pieces, x.as_strided(size, stride)).view(
        *x.shape[:-1], n_out
    )


def can_prepare(weight: Tensor) -> bool:
    """Whether `product_of_one_row` is for this matrix."""
    return (
        len(weight) % _PIECES == 0
        and weight.dtype is torch.float32
        and weight.is_contiguous()
        and is_available(weight.device.type)
    )
