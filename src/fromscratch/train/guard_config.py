"""The `[guard]` table of a recipe. Without torch, so that `plan` can read it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class GuardConfig(BaseModel):
    """Which updates are refused, and what happens when they are refused again and again.

    An update from a loss or gradient that is not finite is never made. With `spike_z` above 0, nor
    is one whose loss, or logarithm of the gradient norm, lies more than `spike_z` robust standard
    deviations above the median of the last `spike_window` updates; from step `spike_from_step` on,
    when at least half of that window is there. 8 is a reasonable value.

    After `patience` refusals in a row the run goes back to its last checkpoint before them and goes
    on with other windows than those that led there, at most `rollbacks` times in all; then it ends
    with a message. `warn` says during the run when gradient norms rise, most are clipped, or a
    layer is dead, explodes or is moved too far.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    patience: int = Field(default=10, ge=1)
    rollbacks: int = Field(default=2, ge=0)
    spike_z: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    spike_window: int = Field(default=100, ge=10)
    spike_from_step: int = Field(default=100, ge=1)
    warn: bool = True
