"""What the guards remember of the last updates, and robust statistics of it.

The memory is a dict of lists inside the run's progress, changed in place: so it is in every
checkpoint, and a resumed run judges as one that was never interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

_MAD_OF_NORMAL = 1.4826
"""Standard deviation over median absolute deviation, of a normal distribution (Hampel 1974)."""


class Recent:
    """Losses, gradient norms and clippings of the last updates that were made, oldest first.

    Args:
        memory: Where they are kept; empty at the start of a run.
        length: How many.
    """

    def __init__(self, memory: dict[str, Any], length: int) -> None:
        self.losses: list[float] = memory.setdefault("losses", [])
        self.grad_norms: list[float] = memory.setdefault("grad_norms", [])
        self.clipped: list[bool] = memory.setdefault("clipped", [])
        self._length = length

    def add(self, loss: float, grad_norm: float, *, clipped: bool) -> None:
        """Takes note of an update."""
        self.losses.append(loss)
        self.grad_norms.append(grad_norm)
        self.clipped.append(clipped)
        for values in (self.losses, self.grad_norms, self.clipped):
            del values[: -self._length]

    def forget(self) -> None:
        """Begins anew: what comes does not compare with what was."""
        for values in (self.losses, self.grad_norms, self.clipped):
            values.clear()


def robust_z(value: float, sample: Sequence[float], *, least_scale: float) -> float:
    """How many robust standard deviations a value lies above the median of a sample.

    The scale is 1.4826 times the median absolute deviation (Hampel 1974; Iglewicz and Hoaglin
    1993), which half of the sample may spoil without moving it far.

    Args:
        value: What is judged.
        sample: What it is compared with; not empty.
        least_scale: Lower bound of the standard deviation, where the sample hardly varies.
    """
    centre = median(sample)
    scale = _MAD_OF_NORMAL * median(abs(x - centre) for x in sample)
    return (value - centre) / max(scale, least_scale)
