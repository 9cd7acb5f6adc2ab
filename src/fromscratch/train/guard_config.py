"""The `[guard]` table of a recipe. Without torch, so that `plan` can read it."""

from __future__ import annotations

from pydantic import Field

from fromscratch.foundation.settings import Steps, Table


class GuardConfig(Table):
    """Which updates are refused, and what happens when they are refused again and again.

    An update from a loss or gradient that is not finite is never made.
    """

    patience: Steps = Field(default=10, ge=1)
    """Refusals in a row after which the run goes back to its last checkpoint before them."""
    rollbacks: int = Field(default=2, ge=0)
    """How often it does, going on with other windows than those that led there; then it ends."""
    spike_z: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    """Robust standard deviations above the median from which a loss, or the logarithm of a gradient
    norm, refuses its update; 0: off, 8 is reasonable."""
    spike_window: Steps = Field(default=100, ge=10)
    """The updates that the median is over; at least half of them must be there."""
    spike_from_step: Steps = Field(default=100, ge=1)
    """The first update that `spike_z` looks at."""
    warn: bool = True
    """Whether the run says when gradient norms rise, most are clipped, or a layer is dead, explodes
    or is moved too far."""
