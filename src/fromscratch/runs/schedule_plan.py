"""What a recipe's schedules come to, in words and numbers, and what of them is probably a mistake.

In: a recipe, the run's length, and how often its sources are gone through. Out: a `SchedulePlan`
for `plan`, and the sentences that `plan` and the start of a run warn with (R30). No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fromscratch.foundation.errors import UserError
from fromscratch.optim.config import OptimConfig
from fromscratch.optim.run_settings import RunSettings
from fromscratch.runs.recipe import Recipe

# Points of the curve: as many as a line of a terminal shows.
_POINTS = 48
# Stands in for the length of a run that only its data tells: longer than any phase begins.
_LONG = 10**9
# A run whose learning rate ends above this share of its peak has not decayed it.
_DECAYED = 0.5
# A share of the peak that moves no weight.
_NOTHING = 1e-9


@dataclass(frozen=True)
class CurvePoint:
    """What is in force during one update; `lr` is AdamW's (optim.lr's share)."""

    step: int
    lr: float
    weight_decay: float
    muon_weight_decay: float
    momentum: float
    clip: float


@dataclass(frozen=True)
class SchedulePlan:
    """The schedules of a run.

    Attributes:
        words: What is scheduled, and how it goes, by name.
        curve: Values along the run, evenly spaced; empty where its length is not known.
        warnings: What will run, and is probably not meant.
        refusals: What will not run.
    """

    words: dict[str, str]
    curve: list[CurvePoint]
    warnings: list[str]
    refusals: list[str]


def plan_schedule(
    recipe: Recipe, steps: int | None, epochs: Mapping[str, float] | None = None
) -> SchedulePlan:
    """What `plan` says of a recipe's schedules.

    Args:
        recipe: Its optimiser, schedule and phases.
        steps: Of the run; None where only its data tells.
        epochs: How often each source is gone through; None where that is not known.
    """
    try:
        settings = recipe.settings(steps or _LONG)
    except UserError as error:
        return SchedulePlan({}, [], [], [str(error)])
    words = {
        "learning rate": _learning_rate(recipe, settings, steps),
        "weight decay": _weight_decay(recipe),
        "momentum": _momentum(recipe, settings),
        "clip": f"{recipe.optim.clip:g}" if recipe.optim.clip else "none",
    }
    for number, phase in enumerate(settings.phases, start=2):
        words[f"from step {phase.from_step:,}"] = settings.describe_phase(number)
    return SchedulePlan(
        words=words,
        curve=[] if steps is None else _curve(settings),
        warnings=schedule_warnings(recipe, steps, epochs),
        refusals=[],
    )


def schedule_warnings(
    recipe: Recipe, steps: int | None, epochs: Mapping[str, float] | None = None
) -> list[str]:
    """What of a recipe's optimiser and schedules is probably not meant, a sentence each (R30).

    Args:
        recipe: Whose settings can be put in force.
        steps: Of the run; None where that is not known.
        epochs: How often each source is gone through; None where that is not known.
    """
    optim, schedule = recipe.optim, recipe.schedule
    settings = recipe.settings(steps or _LONG)
    end = settings.lr.at(settings.steps + 1)
    found = []
    if end > _DECAYED:
        found.append(
            f"the learning rate never decays (it ends at {optim.lr * end:.3g}), and much of what a "
            "run learns comes with the decay; write schedule.name=wsd"
        )
    if optim.clip == 0 and not any(phase.clip for phase in settings.phases):
        found.append(
            "gradients are not clipped (optim.clip = 0): one bad batch can undo hours of training; "
            "write optim.clip=1"
        )
    if recipe.model.dropout and epochs and max(epochs.values()) <= 1.0:
        found.append(
            f"model.dropout = {recipe.model.dropout:g} in a run that reads no text twice "
            f"({max(epochs.values()):.2f} epochs): there is nothing to memorise, so it only costs; "
            "write model.dropout=0"
        )
    if schedule.name == "constant" and schedule.min_lr:
        found.append(
            f"schedule.min_lr = {schedule.min_lr:g} has no effect: schedule.name = "
            '"constant" goes nowhere; write schedule.name=wsd'
        )
    if schedule.weight_decay.name != "constant" and not _decays(recipe):
        found.append(
            "schedule.weight_decay has no effect: there is no weight decay to schedule; write "
            "optim.weight_decay=0.1, or leave it out"
        )
    if schedule.momentum.warmup_steps >= settings.steps:
        found.append(
            f"the momentum is still rising when the run ends: schedule.momentum.warmup_steps = "
            f"{schedule.momentum.warmup_steps:,}, and there are {settings.steps:,} steps"
        )
    return [*found, *_phase_warnings(recipe, settings)]


def _phase_warnings(recipe: Recipe, settings: RunSettings) -> list[str]:
    warmup = recipe.schedule.warmup_steps
    found = []
    for phase in recipe.train.phase:
        where = f"the [[train.phase]] from step {phase.from_step:,} on"
        if phase.from_step > settings.steps:
            found.append(
                f"{where} never begins: the run ends at step {settings.steps:,}; train longer, or "
                "write train.phase=[]"
            )
        elif phase.schedule is not None and phase.from_step <= warmup:
            lr = recipe.optim.lr * settings.lr.at(phase.from_step)
            found.append(
                f"{where} takes over before the warmup of {warmup:,} steps has ended, so the "
                f"learning rate never gets above {lr:.3g}; begin it later"
            )
    for number, takeover in enumerate(settings.lr.takeovers):
        if settings.lr.before(number) < _NOTHING:
            found.append(
                f"the [[train.phase]] from step {takeover.first:,} on begins with a learning rate "
                "of 0, so nothing is learned in it; give the phase before it a min_lr"
            )
    return found


def _decays(recipe: Recipe) -> bool:
    optim, phases = recipe.optim, recipe.train.phase
    given = [optim.weight_decay, *(phase.weight_decay for phase in phases)]
    if optim.name == "muon":
        given += [optim.muon_weight_decay, *(phase.muon_weight_decay for phase in phases)]
    return any(given)


def _learning_rate(recipe: Recipe, settings: RunSettings, steps: int | None) -> str:
    optim, schedule, base = recipe.optim, recipe.schedule, settings.lr.base
    parts = []
    if base.warmup_steps:
        parts.append(f"warmup over {base.warmup_steps:,} steps")
    peaks = _peaks(optim)
    if schedule.name == "constant":
        parts.append(f"constant at {peaks}")
    elif schedule.name == "wsd":
        length = f"{schedule.decay_fraction:.0%} of the steps"
        if steps is not None:
            length = f"{max(1, round(schedule.decay_fraction * steps)):,} of {steps:,} steps"
        parts += [f"constant at {peaks}", f"linear to {schedule.min_lr:g} over the last {length}"]
    else:
        length = "the run" if steps is None else f"{steps - base.warmup_steps:,} steps"
        parts.append(f"{schedule.name} from {peaks} to {schedule.min_lr:g} over {length}")
    return ", ".join(parts)


def _peaks(optim: OptimConfig) -> str:
    """The peak, and those of groups that have another."""
    others = {"embed": optim.embed_lr, "head": optim.head_lr, "plain": optim.plain_lr}
    named = [f"{name} {lr:g}" for name, lr in others.items() if lr not in (None, optim.lr)]
    if optim.name == "muon":
        named.insert(0, f"muon {optim.muon_lr:g}")
    return f"{optim.lr:g}" + (f" ({', '.join(named)})" if named else "")


def _weight_decay(recipe: Recipe) -> str:
    optim, schedule = recipe.optim, recipe.schedule.weight_decay
    values = f"{optim.weight_decay:g}"
    if optim.name == "muon":
        values += f" (muon {optim.muon_weight_decay:g})"
    if schedule.name == "constant" or not _decays(recipe):
        return values
    return f"{values}, {schedule.name} to {schedule.end:.0%} of it"


def _momentum(recipe: Recipe, settings: RunSettings) -> str:
    given, peak = recipe.schedule.momentum, settings.momentum.peak
    parts = [f"{peak:g}"]
    if given.start is not None:
        parts = [f"{given.start:g} to {peak:g} over {given.warmup_steps:,} steps"]
    if given.end is not None:
        last = f"the last {recipe.schedule.decay_fraction:.0%} of the run"
        parts.append(f"to {given.end:g} over {last}")
    return ", ".join(parts)


def _curve(settings: RunSettings) -> list[CurvePoint]:
    count = min(_POINTS, settings.steps)
    chosen = [1 + (settings.steps - 1) * i // max(1, count - 1) for i in range(count)]
    points = []
    for step in chosen:
        now = settings.at(step)
        assert now.weight_decay is not None
        assert now.muon_weight_decay is not None
        assert now.momentum is not None
        points.append(
            CurvePoint(
                step=step,
                lr=settings.optim.lr * now.lr,
                weight_decay=now.weight_decay,
                muon_weight_decay=now.muon_weight_decay,
                momentum=now.momentum,
                clip=now.clip,
            )
        )
    return points
