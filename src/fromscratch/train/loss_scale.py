"""Dynamic loss scaling, without which fp16 does not train (R22).

fp16 has no number between 0 and 6e-8: most gradients of a language model would be rounded to zero.
So the loss is multiplied by a scale before the backward pass, and the gradients, which are fp32 by
then, are divided by it before anything looks at them (Micikevicius et al. 2018, section 3.2). The
scale is as large as it can be: it is halved whenever a gradient overflows, and doubled after
`growth_interval` updates without that.

Always true: the scale is a power of two, so that scaling and unscaling round nothing; it and the
count of updates since it changed are all the state there is, and both are exact in JSON. No torch
until it is used: recipes hold a `LossScaleConfig`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.settings import Steps, Table

if TYPE_CHECKING:
    import torch

LOWEST, HIGHEST = 1.0, 2.0**24
"""Below 1 a gradient overflows fp16 unscaled, which no scale mends; 2**24 is Apex's bound."""


class LossScaleConfig(Table):
    """The `[train.loss_scale]` table: only `precision = "fp16"` has a use for it."""

    initial: int = Field(default=65_536, ge=int(LOWEST), le=int(HIGHEST))
    """The scale of the first step, a power of two."""
    growth_interval: Steps = Field(default=2_000, ge=1)
    """Updates in a row without an overflow after which it is doubled."""

    @model_validator(mode="after")
    def _check(self) -> LossScaleConfig:
        if self.initial.bit_count() != 1:
            below = 1 << (self.initial.bit_length() - 1)
            raise UserError(
                f"train.loss_scale.initial = {self.initial:,} is not a power of two: scaling by "
                "it would round.",
                fix=f"Nearest: {below} or {2 * below}.",
            )
        return self


class LossScaler:
    """The loss scale of one run, at one step.

    Args:
        config: How it begins and grows.
        state: What `state` gave at the step before; None in a run that begins.

    Attributes:
        scale: What the loss is multiplied by.
        good_steps: Updates since the scale last changed.
    """

    def __init__(self, config: LossScaleConfig, state: Mapping[str, float] | None = None) -> None:
        self._growth_interval = config.growth_interval
        self.scale = float(config.initial) if state is None else float(state["scale"])
        self.good_steps = 0 if state is None else int(state["good_steps"])

    def state(self) -> dict[str, float]:
        """All that a resumed run needs to go on with the same scales."""
        return {"scale": self.scale, "good_steps": self.good_steps}

    def unscale(self, parameters: Iterable[torch.nn.Parameter], *, times: int = 1) -> None:
        """Divides the gradients by the scale, in place; exact but for the smallest fp32 numbers.

        Args:
            parameters: Whose gradients.
            times: What they are multiplied by in the same pass.
        """
        import torch

        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_mul_(gradients, times / self.scale)

    def see(self, *, loss: float, grad_norm: float) -> bool:
        """Takes note of a step and sets the scale of the next.

        Args:
            loss: The step's mean loss, unscaled.
            grad_norm: The global norm of its unscaled gradients.

        Returns:
            Whether the gradients overflowed under a scale that could be, and was, lowered. A loss
            that is not finite is no overflow: it was so before it was scaled, and the scale stays.
        """
        if not math.isfinite(loss):
            return False
        if math.isfinite(grad_norm):
            self.good_steps += 1
            if self.good_steps >= self._growth_interval:
                self.scale, self.good_steps = min(2.0 * self.scale, HIGHEST), 0
            return False
        overflowed = self.scale > LOWEST
        self.scale, self.good_steps = max(self.scale / 2.0, LOWEST), 0
        return overflowed
