"""What is in force in each update of a run: a function of its number and the recipe alone.

In: the tables `[optim]`, `[schedule]` and `[[train.phase]]`, and the run's length. Out:
`RunSettings`, whose `at(step)` gives the `StepSettings` of any update. Nothing of it is state, so a
resume cannot get it wrong, on whatever side of a phase's border it falls. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.schedules import (
    MomentumSchedule,
    PhasedSchedule,
    Schedule,
    StepSettings,
    Takeover,
)
from fromscratch.optim.config import OptimConfig
from fromscratch.optim.schedule_config import PhaseConfig, ScheduleConfig


@dataclass(frozen=True)
class RunSettings:
    """All that is scheduled in a run.

    Attributes:
        steps: Updates in the run.
        optim: The peaks.
        lr: Fraction of the peak learning rates.
        weight_decay: Fraction of the weight decays.
        momentum: Of Muon, else AdamW's first beta.
        phases: Those that begin within the run, in order.
    """

    steps: int
    optim: OptimConfig
    lr: PhasedSchedule
    weight_decay: Schedule
    momentum: MomentumSchedule
    phases: tuple[PhaseConfig, ...] = ()

    def at(self, step: int) -> StepSettings:
        """What is in force during update `step` (1-based)."""
        optim = self.optim
        clip, decay, muon_decay = optim.clip, optim.weight_decay, optim.muon_weight_decay
        for phase in self.phases:
            if phase.from_step <= step:
                clip = clip if phase.clip is None else phase.clip
                decay = decay if phase.weight_decay is None else phase.weight_decay
                if phase.muon_weight_decay is not None:
                    muon_decay = phase.muon_weight_decay
        fraction = self.weight_decay.at(step)
        return StepSettings(
            lr=self.lr.at(step),
            clip=clip,
            weight_decay=decay * fraction,
            muon_weight_decay=muon_decay * fraction,
            momentum=self.momentum.at(step),
        )

    def phase_of(self, step: int) -> int:
        """The number of the phase that an update is in: 1 before the first `[[train.phase]]`."""
        return 1 + sum(phase.from_step <= step for phase in self.phases)

    def begins(self, step: int) -> bool:
        """Whether a phase begins with this update."""
        return any(phase.from_step == step for phase in self.phases)

    def describe_phase(self, number: int) -> str:
        """What phase `number` (from 2) changes, as a clause without a verb."""
        phase = self.phases[number - 2]
        parts = []
        if phase.schedule is not None:
            takeover = next(t for t in self.lr.takeovers if t.first == phase.from_step)
            begin, end = (self.optim.lr * x for x in (self.lr.at(takeover.first), takeover.floor))
            if phase.schedule == "constant":
                parts.append(f"learning rate constant at {begin:.4g}")
            else:
                last = takeover.last
                when = "the end of the run" if last == self.steps else f"step {last:,}"
                parts.append(
                    f"learning rate {phase.schedule} from {begin:.4g} to {end:.4g} by {when}"
                )
        if phase.clip is not None:
            parts.append(f"clip {phase.clip:g}" if phase.clip else "no clipping")
        for key, value in (
            ("weight decay", phase.weight_decay),
            ("Muon's weight decay", phase.muon_weight_decay),
        ):
            if value is not None:
                parts.append(f"{key} {value:g}")
        return ", ".join(parts)


def run_settings(
    optim: OptimConfig, schedule: ScheduleConfig, phases: Sequence[PhaseConfig], steps: int
) -> RunSettings:
    """The settings of a run of `steps` updates. Phases that it does not reach are left out.

    Raises:
        UserError: The warmup is longer than the run, or a phase would raise the learning rate.
    """
    if schedule.warmup_steps >= steps > 1:
        raise UserError(
            f"schedule.warmup_steps = {schedule.warmup_steps:,} leaves nothing of a run of "
            f"{steps:,} steps.",
            fix="Shorten the warmup or train longer.",
        )
    base = Schedule(
        name=schedule.name,
        steps=steps,
        warmup_steps=schedule.warmup_steps if steps > 1 else 0,
        decay_fraction=schedule.decay_fraction,
        floor=schedule.min_lr / optim.lr,
    )
    reached = tuple(phase for phase in phases if phase.from_step <= steps)
    lr = PhasedSchedule(base, _takeovers(optim, schedule, reached, steps))
    _refuse_rising(optim, lr)
    momentum = schedule.momentum
    return RunSettings(
        steps=steps,
        optim=optim,
        lr=lr,
        weight_decay=Schedule(
            name=schedule.weight_decay.name,
            steps=steps,
            decay_fraction=schedule.decay_fraction,
            floor=schedule.weight_decay.end,
        ),
        momentum=MomentumSchedule(
            peak=optim.muon_momentum if optim.name == "muon" else optim.betas[0],
            steps=steps,
            start=momentum.start or 0.0,
            warmup_steps=momentum.warmup_steps,
            end=momentum.end,
            decay_fraction=schedule.decay_fraction,
        ),
        phases=reached,
    )


def _takeovers(
    optim: OptimConfig, schedule: ScheduleConfig, phases: Sequence[PhaseConfig], steps: int
) -> tuple[Takeover, ...]:
    """The phases that have a schedule, each up to the next one that has."""
    scheduled = [phase for phase in phases if phase.schedule is not None]
    lasts = [*(phase.from_step - 1 for phase in scheduled[1:]), steps][: len(scheduled)]
    return tuple(
        Takeover(
            name=phase.schedule or "constant",
            first=phase.from_step,
            last=last,
            floor=(phase.min_lr or 0.0) / optim.lr,
            decay_fraction=phase.decay_fraction or schedule.decay_fraction,
        )
        for phase, last in zip(scheduled, lasts, strict=True)
    )


def _refuse_rising(optim: OptimConfig, lr: PhasedSchedule) -> None:
    for number, takeover in enumerate(lr.takeovers):
        value = lr.before(number)
        if takeover.name != "constant" and takeover.floor > value * (1 + 1e-9):
            raise UserError(
                f"The [[train.phase]] from step {takeover.first:,} on would raise the learning "
                f"rate: it is {optim.lr * value:.3g} there, and its min_lr is "
                f"{optim.lr * takeover.floor:.3g}.",
                fix="Lower its min_lr, or let what comes before it decay less.",
            )
