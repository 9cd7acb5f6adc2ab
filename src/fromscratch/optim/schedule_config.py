"""The `[schedule]` table of a recipe and its `[[train.phase]]`. Without torch: `plan` reads them.

What they mean is in run_settings.py; what a recipe cannot say is refused here and there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from pydantic import Field, model_validator

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.schedules import ScheduleName
from fromscratch.foundation.settings import Share, Steps, Table


class WeightDecayConfig(Table):
    """`[schedule.weight_decay]`: the weight decays of [optim] over the run."""

    name: ScheduleName = "constant"
    """A shape as of the learning rate, over all steps (`wsd`: the last decay_fraction of them)."""
    end: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    """Where it goes, as a share of optim.weight_decay and of optim.muon_weight_decay."""


class MomentumConfig(Table):
    """`[schedule.momentum]`: the momentum over the run, in a straight line at each end.

    In between it is what [optim] says: optim.muon_momentum; without Muon the first of optim.betas.
    """

    start: float | None = Field(default=None, ge=0.0, lt=1.0)
    """What it rises from, over `warmup_steps`; left out: it is constant at the start."""
    warmup_steps: Steps = Field(default=0, ge=0)
    """How long it rises; given together with `start`."""
    end: float | None = Field(default=None, ge=0.0, lt=1.0)
    """What it falls to, over the last schedule.decay_fraction; left out: it is constant there."""

    @model_validator(mode="after")
    def _check(self) -> MomentumConfig:
        if (self.start is None) != (self.warmup_steps == 0):
            raise UserError(
                "schedule.momentum.start and schedule.momentum.warmup_steps go together: the "
                "momentum rises from the one over the other.",
                fix="Usual with Muon: schedule.momentum.start=0.85 "
                "schedule.momentum.warmup_steps=300.",
            )
        return self


class ScheduleConfig(Table):
    """The learning rate over the run; those of all groups (embed_lr, muon_lr) in proportion."""

    name: ScheduleName = "cosine"
    """Its shape after the warmup; `wsd` is constant, then falls."""
    warmup_steps: Steps = Field(default=0, ge=0)
    """How long it rises from zero in a straight line."""
    decay_fraction: Share = Field(default=0.2, gt=0.0, le=1.0)
    """Of the run's steps, the last ones, in which `wsd` falls."""
    min_lr: float = Field(default=0.0, ge=0.0)
    """The end of the decay, in the unit of optim.lr."""
    weight_decay: WeightDecayConfig = WeightDecayConfig()
    """A table of its own."""
    momentum: MomentumConfig = MomentumConfig()
    """A table of its own."""


class PhaseConfig(Table):
    """`[[train.phase]]`: other settings from a step on, within the same run.

    What is left out stays as it was.
    """

    from_step: Steps = Field(ge=1)
    """The first update in which it is in force."""
    schedule: ScheduleName | None = None
    """Takes over from the learning rate then in force, up to the next phase that has one."""
    min_lr: float | None = Field(default=None, ge=0.0)
    """Where `schedule` brings it, in the unit of optim.lr; left out: 0."""
    decay_fraction: Share | None = Field(default=None, gt=0.0, le=1.0)
    """That of `wsd`, counted in the steps of the phase."""
    clip: float | None = Field(default=None, ge=0.0)
    """Replaces optim.clip."""
    weight_decay: float | None = Field(default=None, ge=0.0)
    """Replaces optim.weight_decay."""
    muon_weight_decay: float | None = Field(default=None, ge=0.0)
    """Replaces optim.muon_weight_decay."""

    @model_validator(mode="after")
    def _check(self) -> PhaseConfig:
        where = f"The [[train.phase]] from step {self.from_step:,} on"
        if self.from_step == 1:
            raise UserError(
                f"{where} is in force from the start, so what it replaces never is.",
                fix="Say it in [schedule] and [optim], or begin the phase later.",
            )
        if not self.model_dump(exclude={"from_step"}, exclude_none=True):
            raise UserError(
                f"{where} changes nothing.",
                fix="Give it a schedule, a clip or a weight_decay, or leave it out.",
            )
        if self.schedule in (None, "constant") and self.min_lr is not None:
            raise UserError(
                f"{where} has min_lr = {self.min_lr:g}, and no schedule that would go there.",
                fix='Add schedule = "linear" (or "cosine", "wsd") to it, or leave min_lr out.',
            )
        if self.schedule != "wsd" and self.decay_fraction is not None:
            raise UserError(
                f"{where} has a decay_fraction, which only the schedule wsd has.",
                fix='Write schedule = "wsd", or leave decay_fraction out.',
            )
        return self


def check_order(phases: Sequence[PhaseConfig]) -> None:
    """Phases stand in the order in which they begin.

    Raises:
        UserError: They do not.
    """
    for phase, following in pairwise(phases):
        if following.from_step <= phase.from_step:
            raise UserError(
                f"A [[train.phase]] from step {following.from_step:,} on stands after one from "
                f"step {phase.from_step:,} on.",
                fix="Write phases in the order in which they begin, each later than the last.",
            )
