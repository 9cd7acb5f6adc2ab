"""The `[schedule]` table of a recipe and its `[[train.phase]]`. Without torch: `plan` reads them.

What they mean is in run_settings.py; what a recipe cannot say is refused here and there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.schedules import ScheduleName


class _Table(BaseModel):
    """Unknown keys are errors, values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WeightDecayConfig(_Table):
    """`[schedule.weight_decay]`: the weight decays of [optim] over the run.

    `name` is a shape as of the learning rate, over all steps (`wsd`: the last
    schedule.decay_fraction of them); `end` is where it goes, as a share of optim.weight_decay and
    of optim.muon_weight_decay.
    """

    name: ScheduleName = "constant"
    end: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)


class MomentumConfig(_Table):
    """`[schedule.momentum]`: the momentum over the run, in a straight line at each end.

    It rises from `start` over `warmup_steps` to what [optim] says (optim.muon_momentum; without
    Muon the first of optim.betas), and falls to `end` over the last schedule.decay_fraction.
    """

    start: float | None = Field(default=None, ge=0.0, lt=1.0)
    warmup_steps: int = Field(default=0, ge=0)
    end: float | None = Field(default=None, ge=0.0, lt=1.0)

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


class ScheduleConfig(_Table):
    """The learning rate over the run; `min_lr` is the end of the decay, in the unit of optim.lr.

    Groups with another learning rate (embed_lr, muon_lr, ...) follow in proportion. `momentum` and
    `weight_decay` are tables of their own.
    """

    name: ScheduleName = "cosine"
    warmup_steps: int = Field(default=0, ge=0)
    decay_fraction: float = Field(default=0.2, gt=0.0, le=1.0)
    min_lr: float = Field(default=0.0, ge=0.0)
    weight_decay: WeightDecayConfig = WeightDecayConfig()
    momentum: MomentumConfig = MomentumConfig()


class PhaseConfig(_Table):
    """From update `from_step` on, other settings within the same run; the rest stays as it was.

    `schedule` takes over from the learning rate then in force and brings it to `min_lr` (in the
    unit of optim.lr; 0 if not given) by the end of the run, or by the next phase that has a
    `schedule`; `decay_fraction` is that of `wsd`, counted in the steps of the phase. `clip`,
    `weight_decay` and `muon_weight_decay` replace those of [optim].
    """

    from_step: int = Field(ge=1)
    schedule: ScheduleName | None = None
    min_lr: float | None = Field(default=None, ge=0.0)
    decay_fraction: float | None = Field(default=None, gt=0.0, le=1.0)
    clip: float | None = Field(default=None, ge=0.0)
    weight_decay: float | None = Field(default=None, ge=0.0)
    muon_weight_decay: float | None = Field(default=None, ge=0.0)

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
