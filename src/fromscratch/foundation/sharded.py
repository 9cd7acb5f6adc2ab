"""A tensor that lies in parts on several ranks, and the whole of it.

With `parallel.mode = "fsdp"` parameters, gradients and optimiser states are DTensors of which each
rank holds some rows. These functions do nothing to ordinary tensors, so that whoever saves, loads
or measures tensors need not know which kind it has.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def _is_dtensor(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether it is one; where nobody has imported them (half a second), none is."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; of a sharded one, gathered: then every rank must call this, in one order."""
    return tensor.full_tensor() if _is_dtensor(tensor) else tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether each rank holds a part of it only."""
    return _is_dtensor(tensor)


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor: its rows of a sharded one, else all of it."""
    return tensor.to_local() if _is_dtensor(tensor) else tensor


def part_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor in the form of another: on its device and, where that is sharded, cut alike.

    Nothing is sent: every rank has the whole and keeps its own rows.

    Args:
        tensor: All of it, on any device; the same on every rank.
        like: Of the same shape.
    """
    if not _is_dtensor(like):
        return tensor.to(like.device)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(
        tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )


def gathered(rows: Tensor, like: Tensor) -> Tensor:
    """The whole tensor of which every rank has computed the rows that it holds of `like`.

    A collective call.
    """
    assert _is_dtensor(like)
    from torch.distributed.tensor import DTensor

    placed = DTensor.from_local(
        rows, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
    )
    return placed.full_tensor()


def like_it(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor as a sharded one of its own memory, with the rows that `like` has here."""
    placed = torch.empty_like(like, dtype=tensor.dtype, requires_grad=False)
    fill(placed, tensor)
    return placed


def whole_on_host(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Copies of whole tensors in the host's memory, gathered one by one; a collective call.

    Args:
        tensors: The same names on every rank.
        keep: Whether this rank wants them; the others only take part, and hold one at a time.
    """
    kept = {}
    for name, tensor in tensors.items():
        gathered_one = whole(tensor.detach())
        if keep:
            # Not every tensor of a sharded state is sharded: the counts of steps are the live ones.
            kept[name] = gathered_one.to("cpu", copy=True)
    return kept


@torch.no_grad()
def fill(target: Tensor, tensor: Tensor) -> None:
    """Overwrites a tensor, sharded or not, with a whole one of its shape."""
    local(target).copy_(local(part_like(tensor, target)))
