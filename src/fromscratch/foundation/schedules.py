"""What is scheduled over a run, as pure functions of the step.

Steps are numbered as they are logged: step 1 is the first update, step `steps` the last. The value
for step n is what is in force during update n, the first one included: nothing has to be "set after
the step" (R23). Learning rates and weight decays are fractions of a peak, so that several parameter
groups with different peaks follow one shape.

A decay arrives at its floor one step after the last update: of d updates that decay, the k-th has
gone (k - 1) / d of the way. So the first still has the full value, and none is made with a learning
rate of zero, which would cost a step and change nothing. build-nanogpt, nanochat and Hugging Face's
schedules count in the same way; nanoGPT makes one update more than it is asked for, at the floor.
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
        decay_fraction: Share of `steps` that `wsd` spends decaying, as far as the warmup leaves it.
        floor: Fraction of the peak at the end of the decay.
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
            wanted = round(self.decay_fraction * self.steps)
            decay_steps = max(1, min(wanted, self.steps - self.warmup_steps))
            remaining = (self.steps - step + 1) / decay_steps
            return self.floor + (1.0 - self.floor) * min(1.0, max(0.0, remaining))
        # As nanoGPT counts: the first update after the warmup has the peak itself.
        progress = (step - 1 - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        progress = min(1.0, progress)
        if self.name == "linear":
            return self.floor + (1.0 - self.floor) * (1.0 - progress)
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Takeover:
    """A shape that goes on from the value in force.

    Attributes:
        name: As of a `Schedule`; `constant` stays where it is.
        first: The first update that it is for.
        last: The one after which `floor` is reached.
        floor: Where it goes, as a fraction of the peak.
        decay_fraction: Share of its updates that `wsd` spends decaying.
    """

    name: ScheduleName
    first: int
    last: int
    floor: float = 0.0
    decay_fraction: float = 0.2

    def at(self, step: int, begin: float) -> float:
        """The value during update `step`, where it was `begin` at the first."""
        shape = Schedule(self.name, self.last - self.first + 1, decay_fraction=self.decay_fraction)
        left = shape.at(step - self.first + 1)
        return begin * left + self.floor * (1.0 - left)


@dataclass(frozen=True)
class PhasedSchedule:
    """A schedule, and others that take over from it one after the other.

    There is no jump: the first update of each has the value that the one before would have had.
    Without takeovers it is its base, to the last bit.

    Attributes:
        base: Over the whole run, as if nothing came after it: what is appended to a run never
            changes its past.
        takeovers: By ascending first update.
    """

    base: Schedule
    takeovers: tuple[Takeover, ...] = ()

    def at(self, step: int) -> float:
        """The fraction of the peak that is in force during update `step` (1-based)."""
        return self._at(step, sum(t.first <= step for t in self.takeovers))

    def before(self, number: int) -> float:
        """The value that takeover `number` (from 0) goes on from."""
        return self._at(self.takeovers[number].first, number)

    def _at(self, step: int, begun: int) -> float:
        if begun == 0:
            return self.base.at(step)
        return self.takeovers[begun - 1].at(step, self.before(begun - 1))


@dataclass(frozen=True)
class MomentumSchedule:
    """Momentum that rises at the start of a run and may fall at its end, along straight lines.

    A young run's gradients change fast, so that a long memory of them misleads (nanochat: 0.85 to
    0.97 over 400 updates, then 0.90 at the end).

    Attributes:
        peak: Between the two.
        steps: Number of updates in the run.
        start: Of the first update.
        warmup_steps: Number of updates before the first one at the peak.
        end: Where it goes over the last `decay_fraction` of the run; None to stay at the peak.
        decay_fraction: Share of `steps`.
    """

    peak: float
    steps: int
    start: float = 0.0
    warmup_steps: int = 0
    end: float | None = None
    decay_fraction: float = 0.2

    def at(self, step: int) -> float:
        """The momentum during update `step` (1-based)."""
        assert step >= 1, "updates are numbered from 1"
        value = self.peak
        if step <= self.warmup_steps:
            value = self.start + (self.peak - self.start) * (step - 1) / self.warmup_steps
        if self.end is None:
            return value
        left = Schedule("wsd", self.steps, decay_fraction=self.decay_fraction).at(step)
        return self.end + (value - self.end) * left


@dataclass(frozen=True)
class StepSettings:
    """What is in force during one update. What is None is as the optimiser was built.

    Attributes:
        lr: Fraction of the peak learning rate of every group.
        clip: Largest global gradient norm; 0 for none.
        weight_decay: Of the groups under AdamW that decay.
        muon_weight_decay: Of Muon's.
        momentum: Muon's; where there is no Muon, the first of AdamW's betas.
    """

    lr: float = 1.0
    clip: float = 0.0
    weight_decay: float | None = None
    muon_weight_decay: float | None = None
    momentum: float | None = None
