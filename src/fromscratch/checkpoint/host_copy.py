"""A copy of a state in the host's memory: a checkpoint is written from it while training goes on.

The buffers are kept from one copy to the next, so that memory is taken once, and is there for every
checkpoint once it was there for the first. For a GPU they are page-locked: the copies are queued
one behind the other and waited for once.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor

from fromscratch.checkpoint.state import Snapshot
from fromscratch.foundation.hardware import synchronize


class HostCopy:
    """Holds one copy; the next overwrites it."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def missing_bytes(self, state: Snapshot) -> int:
        """Memory that `take` would have to ask the system for.

        Page-locked memory is handed out in powers of two, so that up to twice the size is counted.
        """
        total = 0
        for name, tensor in _named(state).items():
            if not self._fits(name, tensor):
                size = tensor.numel() * tensor.element_size()
                total += 2 * size if tensor.is_cuda else size
        return total

    def take(self, state: Snapshot) -> Snapshot:
        """Copies a state; when this returns, the original may change.

        Raises:
            RuntimeError: The memory could not be had; none is held then.
        """
        tensors = _named(state)
        try:
            fresh = {
                name: self._buffers[name] if self._fits(name, tensor) else _buffer_for(tensor)
                for name, tensor in tensors.items()
            }
        except RuntimeError:
            self._buffers = {}
            raise
        self._buffers = fresh
        for name, tensor in tensors.items():
            fresh[name].copy_(tensor, non_blocking=tensor.is_cuda)
        for device in {tensor.device for tensor in tensors.values()}:
            synchronize(device)
        return replace(
            state,
            weights={name: fresh["w." + name] for name in state.weights},
            optimizer={name: fresh["o." + name] for name in state.optimizer},
            progress=deepcopy(state.progress),
        )

    def _fits(self, name: str, tensor: Tensor) -> bool:
        held = self._buffers.get(name)
        return held is not None and held.shape == tensor.shape and held.dtype == tensor.dtype


def _named(state: Snapshot) -> Mapping[str, Tensor]:
    """All tensors of a state under names that cannot collide."""
    weights = {"w." + name: tensor for name, tensor in state.weights.items()}
    return weights | {"o." + name: tensor for name, tensor in state.optimizer.items()}


def _buffer_for(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
