"""What to train in the hours that there are: the size and the text of the lowest predicted loss.

In: a ladder's plan and law, a device, hours. Out: an `Answer`. Every size of the recipe's family is
asked what it would reach in the time: the arithmetic of its own shape, at the device's speed. For a
device that was measured, the answer is measured too before it is given. Without torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fromscratch.foundation.accelerators import accelerator_named, accelerator_of
from fromscratch.foundation.errors import UserError
from fromscratch.plan.budget import Speed, Work, assumed_speed
from fromscratch.plan.compute import ASSUMED_MFU
from fromscratch.plan.ladder import Size, sizes_of
from fromscratch.plan.memory import largest_micro_batch
from fromscratch.plan.scaling_law import LEVEL, LawFit, Prediction
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.scale_plan import MOST_EPOCHS, LadderPlan, Measure, speed_at
from fromscratch.runs.scale_result import ScaleResult
from fromscratch.runs.scale_rules import settings_for
from fromscratch.runs.spending import HERE, Question, check_question

FURTHEST = 100.0
"""Times the arithmetic of the largest run: ladders were shown to predict that far (Bhagia et al.
2024, arXiv:2412.04403, with one per cent of the target's arithmetic), not further."""

WIDEST = 0.05
"""Half an interval, as a share of the loss, beyond which it says little: ten times the arithmetic
lowers a loss by about as much."""


_NOISIEST = 0.02
"""Standard deviation of what the law leaves over: more than seeds explain."""

_LEAST_EXPONENT, _GREATEST_EXPONENT = 0.02, 2.0
"""Published ones lie between 0.05 and 0.8."""


@dataclass(frozen=True)
class Candidate:
    """One size, trained for all of the time."""

    size: Size
    tokens: int
    tokens_per_s: float
    loss: float


@dataclass(frozen=True)
class Answer:
    """What to train.

    Attributes:
        device: What people call it.
        gpus: How many.
        hours: There are.
        basis: Where the speed comes from.
        limited: Whether the text that there is was taken as all that there will be.
        parameters: Of the model.
        parameters_between: Nine of ten laws of the bootstrap have their best size here.
        tokens: To train on.
        steps: Updates.
        tokens_per_s: Of all devices.
        takes_hours: Validation included; less than `hours` where the text ends before.
        loss: Nats per token expected.
        loss_between: The interval for one run.
        bits_per_byte: Likewise.
        bits_per_byte_between: Likewise.
        reach: Its arithmetic over that of the ladder's largest run.
        epochs: Passes over the training text that there is.
        supported: Whether the ladder reaches that far.
        doubts: What speaks against it.
        overrides: Of the recipe, that train it.
        candidates: Every size with what it would reach: parameters, tokens, loss.
    """

    device: str
    gpus: int
    hours: float
    basis: str
    limited: bool
    parameters: int
    parameters_between: tuple[int, int]
    tokens: int
    steps: int
    tokens_per_s: float
    takes_hours: float
    loss: float
    loss_between: tuple[float, float]
    bits_per_byte: float
    bits_per_byte_between: tuple[float, float]
    reach: float
    epochs: float
    supported: bool
    doubts: list[str]
    overrides: list[str]
    candidates: list[tuple[int, int, float]]

    def to_json(self) -> dict[str, Any]:
        """As `scale --json` prints it."""
        return asdict(self)


def answer(
    plan: LadderPlan,
    result: ScaleResult,
    question: Question,
    *,
    measure: Callable[[Size], Measure] | None,
) -> list[Answer]:
    """Answers a question: with all text that it takes and, where that is too little, with what is.

    Args:
        plan: The ladder's.
        result: Its law.
        question: The device, and hours.
        measure: Measures a size on this device; None where it must not.

    Raises:
        UserError: The question has no answer.
    """
    check_question(question)
    assert question.hours is not None
    recipe = plan.base
    found = [_best(plan, result, recipe, question, measure, None)]
    if found[0].epochs > MOST_EPOCHS:
        most = MOST_EPOCHS * plan.text_tokens
        found.append(_best(plan, result, recipe, question, measure, most))
    return found


def _best(
    plan: LadderPlan,
    result: ScaleResult,
    recipe: Recipe,
    question: Question,
    measure: Callable[[Size], Measure] | None,
    most_tokens: int | None,
) -> Answer:
    """The size of the lowest loss; on this device measured, and chosen again if that changes it."""
    here = _is_here(plan, question)
    measures = list(plan.measures)
    sizes = sizes_of(recipe.model)
    refused: set[int] = set()
    while True:
        speeds = {
            size.heads: speed
            for size in sizes
            if size.heads not in refused
            and (speed := _speed(plan, recipe, question, size, measures, here=here)) is not None
        }
        candidates = _candidates(plan, result.fit, recipe, question, sizes, speeds, most_tokens)
        best = min(candidates, key=lambda c: c.loss)
        known = any(m.parameters == best.size.parameters for m in measures)
        if not here or known or measure is None:
            break
        try:
            measures.append(measure(best.size))
        except UserError:  # it does not fit into memory: the next best
            refused.add(best.size.heads)
        measures.sort(key=lambda m: m.parameters)
    return _told(plan, result, recipe, question, candidates, best, speeds[best.size.heads], here)


def _is_here(plan: LadderPlan, question: Question) -> bool:
    """Whether the question is about the device on which the ladder was trained."""
    if question.gpu in (None, HERE):
        return True
    card = accelerator_of(plan.device)
    assert question.gpu is not None
    return (
        card is not None
        and question.mfu is None
        and accelerator_named(question.gpu).key == card.key
    )


def _speed(
    plan: LadderPlan,
    recipe: Recipe,
    question: Question,
    size: Size,
    measures: Sequence[Measure],
    *,
    here: bool,
) -> Speed | None:
    """Of one device on a size; None where a step does not fit into its memory."""
    if here:
        was = [m.parameters for m in measures]
        said = "measured" if size.parameters in was else "between and beyond measured sizes"
        rate = speed_at(measures, size)
        return Speed(plan.device, rate, f"{said}, in {plan.precision}", question.price)
    assert question.gpu is not None
    speed = assumed_speed(
        accelerator_named(question.gpu),
        size.model,
        precision=recipe.train.precision,
        mfu=ASSUMED_MFU if question.mfu is None else question.mfu,
        price=question.price,
    )
    assert speed.memory_bytes is not None
    fits = largest_micro_batch(
        size.model, recipe.optim, [1], memory_bytes=speed.memory_bytes, half=speed.half
    )
    return speed if fits else None


def _candidates(
    plan: LadderPlan,
    fit: LawFit,
    recipe: Recipe,
    question: Question,
    sizes: Sequence[Size],
    speeds: dict[int, Speed],
    most_tokens: int | None,
) -> list[Candidate]:
    """Every size that fits into memory, with the tokens that the hours allow."""
    assert question.hours is not None
    found = []
    for size in sizes:
        if size.heads not in speeds:
            continue
        rate = question.gpus * speeds[size.heads].tokens_per_s
        tokens = _affordable(plan, recipe, size, 3600 * question.hours * rate)
        if most_tokens is not None:
            tokens = min(tokens, most_tokens)
        found.append(Candidate(size, tokens, rate, fit.law.loss(size.parameters, max(tokens, 1))))
    return found


def _affordable(plan: LadderPlan, recipe: Recipe, size: Size, capacity: float) -> int:
    """Tokens that can be trained on where validation takes its part of the capacity."""
    tokens = capacity
    for _ in range(4):
        spent = _work(plan, recipe, size, int(max(tokens, 1))).trained_equivalent
        tokens *= min(1.0, capacity / spent)
    return int(tokens)


def _work(plan: LadderPlan, recipe: Recipe, size: Size, tokens: int) -> Work:
    settings = settings_for(recipe, size, tokens, reference=plan.reference)
    held_out = int(plan.data["val_tokens"])
    return Work(
        model=size.model,
        steps=int(settings["train.steps"]),
        tokens_per_step=int(settings["train.tokens_per_step"]),
        eval_every=recipe.eval.every,
        eval_tokens=min(recipe.eval.tokens or held_out, held_out),
    )


def _told(
    plan: LadderPlan,
    result: ScaleResult,
    recipe: Recipe,
    question: Question,
    candidates: list[Candidate],
    best: Candidate,
    speed: Speed,
    here: bool,
) -> Answer:
    fit, ratio = result.fit, result.bits_per_nat
    expected = fit.predict(best.size.parameters, best.tokens)
    work = _work(plan, recipe, best.size, best.tokens)
    reach = best.size.flops_per_token * best.tokens / max(run.flops for run in fit.runs)
    epochs = best.tokens / plan.text_tokens
    settings = settings_for(recipe, best.size, best.tokens, reference=plan.reference)
    if not here:
        settings["train.micro_batch"] = "auto"
    doubts = _doubts(fit, expected, reach)
    assert question.hours is not None
    hours = work.trained_equivalent / best.tokens_per_s / 3600
    return Answer(
        device=speed.device,
        gpus=question.gpus,
        hours=question.hours,
        basis=speed.basis,
        limited=hours < 0.9 * question.hours,
        parameters=best.size.parameters,
        parameters_between=_between(fit, candidates),
        tokens=best.tokens,
        steps=work.steps,
        tokens_per_s=best.tokens_per_s,
        takes_hours=hours,
        loss=expected.loss,
        loss_between=(expected.low, expected.high),
        bits_per_byte=expected.loss * ratio,
        bits_per_byte_between=(expected.low * ratio, expected.high * ratio),
        reach=reach,
        epochs=epochs,
        supported=not doubts,
        doubts=doubts + _edges(best, candidates),
        overrides=[*plan.overrides, *_changed(plan, recipe, settings)],
        candidates=[(c.size.parameters, c.tokens, c.loss) for c in candidates],
    )


def _doubts(fit: LawFit, expected: Prediction, reach: float) -> list[str]:
    """Why the ladder cannot support the answer; empty where it can."""
    doubts = []
    if fit.noise > _NOISIEST:
        doubts.append(
            f"The runs lie {fit.noise:.1%} off the law, so it is not theirs: they are too short, "
            "or the learning rate suits some of them only."
        )
    for name, of in (("alpha", "size"), ("beta", "text")):
        low, high = fit.interval(name)
        if low < _LEAST_EXPONENT or high > _GREATEST_EXPONENT:
            doubts.append(
                f"The runs do not tell what {of} is worth ({name} is between {low:.2g} and "
                f"{high:.2g}). A ladder with a larger --budget may."
            )
    if reach > FURTHEST:
        doubts.append(
            f"It has {reach:,.0f} times the arithmetic of the ladder's largest run; beyond "
            f"{FURTHEST:g} times no ladder has been shown to hold."
        )
    if expected.spread > WIDEST:
        doubts.append(
            f"The interval is {expected.spread:.0%} of the loss to either side: too wide to choose "
            "by. A ladder with a larger --budget narrows it."
        )
    return doubts


def _edges(best: Candidate, candidates: Sequence[Candidate]) -> list[str]:
    """Where the best size is the last one that was looked at."""
    if best is candidates[-1]:
        return ["It is the largest size that was considered, or that fits into memory."]
    if best is candidates[0]:
        return ["It is the smallest size of this recipe's family: its heads cannot be fewer."]
    return []


def _between(fit: LawFit, candidates: Sequence[Candidate]) -> tuple[int, int]:
    """The sizes between which nine of ten drawn laws have their best."""
    best = sorted(
        min(candidates, key=lambda c: law.loss(c.size.parameters, max(c.tokens, 1))).size.parameters
        for law in fit.draws
    )
    last = len(best) - 1
    low, high = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    return best[math.floor(low * last)], best[math.ceil(high * last)]


def _changed(plan: LadderPlan, recipe: Recipe, settings: dict[str, str]) -> list[str]:
    """Overrides that say something new; without the warmup where that is the recipe's own."""
    model = recipe.model
    same = {f"model.{name}": str(getattr(model, name)) for name in ("n_layer", "n_head", "d_ff")}
    same |= {"model.d_model": str(model.d_model), "model.n_kv_head": str(model.n_kv_head)}
    same["schedule.warmup_steps"] = str(recipe.schedule.warmup_steps)
    if settings["model.n_kv_head"] == settings["model.n_head"] and model.n_kv_head == model.n_head:
        same["model.n_kv_head"] = settings["model.n_kv_head"]  # it follows
    return [f"{key}={value}" for key, value in settings.items() if same.get(key) != value]
