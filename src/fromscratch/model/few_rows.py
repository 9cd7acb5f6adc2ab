"""Products of a few rows with a large matrix, as the decoding of tokens makes them on a CPU.

Such a product does little arithmetic for each weight, so it takes as long as reading the matrix
from memory takes, where the kernel lets it. MKL's product of one row reaches a quarter of that
rate; its product of a batch of pieces of the matrix reaches nine tenths (dev/LOG.md has the
figures). From three rows on oneDNN is faster; it rearranges the matrix each time, which `Packed`
does once.

Shapes: N rows, K inputs, M outputs, G pieces.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_ROWS = 64
"""From here on it is a product like any other (see `linear`)."""

_PIECES = 8
"""As many as threads can share; the result does not depend on how many there are."""


def suits(x: Tensor) -> bool:
    """Whether this file is for these inputs: few rows, nobody differentiates or compiles."""
    return (
        not torch.is_grad_enabled()
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and x.numel() < MOST_ROWS * x.shape[-1]
        and torch.backends.mkl.is_available()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """X W^T + b, for inputs that `suits` allows.

    Args:
        x: (..., K).
        weight: (M, K), contiguous.
        bias: (M,).

    Returns:
        (..., M).
    """
    n_rows = x.numel() // x.shape[-1]
    if n_rows > 2:
        return _onednn(x, weight, bias)
    whole = len(weight) - len(weight) % _PIECES
    if not whole:
        return F.linear(x, weight, bias)
    if whole < len(weight):
        rest = None if bias is None else bias[whole:]
        most = product(x, weight[:whole], None if bias is None else bias[:whole])
        return torch.cat((most, F.linear(x, weight[whole:], rest)), dim=-1)
    pieces = weight.view(_PIECES, -1, weight.shape[1])  # (G, M/G, K)
    columns = x.view(n_rows, -1).t().expand(_PIECES, -1, -1)  # (G, K, N)
    if bias is None:
        out = torch.bmm(pieces, columns)  # (G, M/G, N)
    else:
        out = torch.baddbmm(bias.view(_PIECES, -1, 1), pieces, columns)
    return out.view(-1, n_rows).t().reshape(*x.shape[:-1], -1)


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out
