"""Learning-rate schedules as pure functions of the step.

Steps are numbered as they are logged: step 1 is the first update, step `steps` the last. The value
for step n is what is in force during update n, the first one included: nothing has to be "set after
the step" (R23). A schedule is expressed as a fraction of the peak, so that several parameter groups
with different peaks follow one shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

ScheduleName = Literal["cosine", "wsd", "linear", "constant"]


@dataclass(frozen=True)
class Schedule:
    """Linear warmup, then a shape.

    Attributes:
        name: `cosine`: half a cosine from the peak to `floor` over the steps after the warmup.
            `linear`: a straight line over the same. `wsd` (warmup, stable, decay): the peak, then a
            straight line to `floor` over the last `decay_fraction` of all steps. `constant`: the
            peak.
        steps: Number of updates in the run.
        warmup_steps: Number of updates over which the value rises; update n has n / warmup_steps.
        decay_fraction: Share of `steps` that `wsd` spends decaying.
        floor: Fraction of the peak at the end of the decay, in [0, 1].
    """

    name: ScheduleName
    steps: int
    warmup_steps: int = 0
    decay_fraction: float = 0.2
    floor: float = 0.0

    def at(self, step: int) -> float:
        """The fraction of the peak that is in force during update `step` (1-based)."""
        assert step >= 1, "updates are numbered from 1"
        if step <= self.warmup_steps:
            return step / self.warmup_steps
        if self.name == "constant":
            return 1.0
        if self.name == "wsd":
            decay_steps = max(1, round(self.decay_fraction * self.steps))
            remaining = (self.steps - step + 1) / decay_steps
            return self.floor + (1.0 - self.floor) * min(1.0, max(0.0, remaining))
        # As nanoGPT counts: the first update after the warmup has the peak itself.
        progress = (step - 1 - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        progress = min(1.0, progress)
        if self.name == "linear":
            return self.floor + (1.0 - self.floor) * (1.0 - progress)
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * progress))
