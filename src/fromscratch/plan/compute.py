"""Arithmetic: how many tokens a model deserves, and how long a device takes."""

from __future__ import annotations

from dataclasses import dataclass

from fromscratch.foundation.hardware import ACCELERATORS

TOKENS_PER_PARAMETER = 20
"""Hoffmann et al. (2022, "Chinchilla"), tables 3 and A3: about 20 at every compute budget."""

ASSUMED_MFU = 0.4
"""Share of the data sheet's peak that well-tuned training of this size reaches; an assumption."""


def chinchilla_tokens(parameters: int) -> int:
    """The number of training tokens that spends a compute budget best on this many parameters."""
    return TOKENS_PER_PARAMETER * parameters


@dataclass(frozen=True)
class DeviceTime:
    """How long a run takes on one accelerator, at `ASSUMED_MFU` of its peak."""

    name: str
    key: str
    memory_bytes: int
    hours: float


def times(total_flops: float) -> list[DeviceTime]:
    """The run's duration on each accelerator of the table."""
    return [
        DeviceTime(a.name, a.key, a.memory_bytes, total_flops / (ASSUMED_MFU * a.flops) / 3600)
        for a in ACCELERATORS
    ]
