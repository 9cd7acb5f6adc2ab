"""What a recipe's schedules come to, in words and numbers, and what of them is probably a mistake.

In: a recipe, the run's length, and how often its sources are gone through. Out: a `SchedulePlan`
for `plan`, and the sentences that `plan` and the start of a run warn with (R30). No torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fromscratch.foundation.advice import Advice
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
# Adam's default (Kingma and Ba 2015); Brown et al. (2020), appendix B, trained with 0.95.
_BOOK_BETA = 0.999


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
        warnings=[str(advice) for advice in schedule_warnings(recipe, steps, epochs)],
        refusals=[],
    )


def schedule_warnings(
    recipe: Recipe, steps: int | None, epochs: Mapping[str, float] | None = None
) -> list[Advice]:
    """What of a recipe's optimiser and schedules is probably not meant (R30).

    Args:
        recipe: Whose settings can be put in force.
        steps: Of the run; None where that is not known.
        epochs: How often each source is gone through; None where that is not known.
    """
    given = _Given(recipe, recipe.settings(steps or _LONG), epochs)
    return [advice for look in _RULES for advice in look(given)]


@dataclass(frozen=True)
class _Given:
    """What the rules look at."""

    recipe: Recipe
    settings: RunSettings
    epochs: Mapping[str, float] | None


def _never_decays(given: _Given) -> Iterator[Advice]:
    end = given.settings.lr.at(given.settings.steps + 1)
    if end > _DECAYED:
        yield _advice(
            f"the learning rate never decays (it ends at {given.recipe.optim.lr * end:.3g}), and "
            "much of what a run learns comes with the decay",
            "write schedule.name=wsd"
            if given.recipe.schedule.name == "constant"
            else f"write a smaller schedule.min_lr, such as {given.recipe.optim.lr / 10:.2g}",
        )


def _not_clipped(given: _Given) -> Iterator[Advice]:
    recipe = given.recipe
    if recipe.optim.clip == 0 and not any(phase.clip for phase in recipe.train.phase):
        yield _advice(
            "gradients are not clipped (optim.clip = 0): one bad batch can undo hours of training",
            "write optim.clip=1",
        )
    for phase in recipe.train.phase:
        if phase.clip == 0:
            yield _advice(
                f"from step {phase.from_step:,} on gradients are not clipped (its clip = 0): one "
                "bad batch can undo hours of training",
                "leave clip out of that [[train.phase]]",
            )


def _dropout_in_one_epoch(given: _Given) -> Iterator[Advice]:
    dropout, epochs = given.recipe.model.dropout, given.epochs
    if dropout and epochs and max(epochs.values()) <= 1.0:
        yield _advice(
            f"model.dropout = {dropout:g} in a run that reads no text twice "
            f"({max(epochs.values()):.2f} epochs): there is nothing to memorise, so it only costs",
            "write model.dropout=0",
        )


def _betas_of_the_book(given: _Given) -> Iterator[Advice]:
    """The second moment's memory of 1,000 steps is torch's default, and nobody's for GPTs."""
    recipe = given.recipe
    finetunes = recipe.train.objective != "pretrain" or recipe.base.model
    if recipe.optim.betas[1] >= _BOOK_BETA and not finetunes:
        yield _advice(
            f"optim.betas = [{recipe.optim.betas[0]:g}, {recipe.optim.betas[1]:g}] are a library's "
            "defaults: GPT-3 and what came after train with 0.95 for the second, which forgets a "
            "spike of the gradient in 20 steps and not in 1,000",
            "write optim.betas=[0.9,0.95]",
        )


def _useless_min_lr(given: _Given) -> Iterator[Advice]:
    schedule = given.recipe.schedule
    if schedule.name == "constant" and schedule.min_lr:
        yield _advice(
            f"schedule.min_lr = {schedule.min_lr:g} has no effect: schedule.name = "
            '"constant" goes nowhere',
            "write schedule.name=wsd",
        )


def _useless_decay_schedule(given: _Given) -> Iterator[Advice]:
    if given.recipe.schedule.weight_decay.name != "constant" and not _decays(given.recipe):
        yield _advice(
            "schedule.weight_decay has no effect: there is no weight decay to schedule",
            "write optim.weight_decay=0.1, or leave it out",
        )


def _momentum_still_rising(given: _Given) -> Iterator[Advice]:
    warmup, steps = given.recipe.schedule.momentum.warmup_steps, given.settings.steps
    if warmup >= steps:
        yield _advice(
            f"the momentum is still rising when the run ends: schedule.momentum.warmup_steps = "
            f"{warmup:,}, and there are {steps:,} steps",
            f"write schedule.momentum.warmup_steps={steps // 10} or so",
        )


def _phases(given: _Given) -> Iterator[Advice]:
    recipe, settings = given.recipe, given.settings
    warmup = recipe.schedule.warmup_steps
    for phase in recipe.train.phase:
        where = f"the [[train.phase]] from step {phase.from_step:,} on"
        if phase.from_step > settings.steps:
            yield _advice(
                f"{where} never begins: the run ends at step {settings.steps:,}",
                "train longer, or write train.phase=[]",
            )
        elif phase.schedule is not None and phase.from_step <= warmup:
            lr = recipe.optim.lr * settings.lr.at(phase.from_step)
            yield _advice(
                f"{where} takes over before the warmup of {warmup:,} steps has ended, so the "
                f"learning rate never gets above {lr:.3g}",
                "begin it later",
            )
    for number, takeover in enumerate(settings.lr.takeovers):
        if settings.lr.before(number) < _NOTHING:
            yield _advice(
                f"the [[train.phase]] from step {takeover.first:,} on begins with a learning rate "
                "of 0, so nothing is learned in it",
                "give the phase before it a min_lr",
            )


_RULES = (
    _never_decays,
    _not_clipped,
    _dropout_in_one_epoch,
    _betas_of_the_book,
    _useless_min_lr,
    _useless_decay_schedule,
    _momentum_still_rising,
    _phases,
)


def _advice(what: str, fix: str) -> Advice:
    return Advice("R30", what, fix)


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
