"""A recipe's hours and money on the device that a person asks about. Without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fromscratch.foundation.accelerators import Accelerator, accelerator_named
from fromscratch.foundation.errors import UserError
from fromscratch.plan.budget import Budget, Limits, Speed, Work, assumed_speed, make_budget
from fromscratch.plan.compute import ASSUMED_MFU
from fromscratch.plan.memory import divisors
from fromscratch.runs.measured import Measured, measured
from fromscratch.runs.recipe import Recipe

HERE = "here"
"""What `--gpu` calls the device that `bench` measured on this machine."""


@dataclass(frozen=True)
class Question:
    """What a person wants to know of a run.

    Attributes:
        gpu: The device's key in the table, or `here`.
        gpus: How many of them.
        hours: There are.
        dollars: There are.
        price: Dollars for an hour of one; None for the table's.
        mfu: Share of the peak to assume; None for what was measured, else `ASSUMED_MFU`.
    """

    gpu: str | None = None
    gpus: int = 1
    hours: float | None = None
    dollars: float | None = None
    price: float | None = None
    mfu: float | None = None

    @property
    def asked(self) -> bool:
        """Whether it is about a device."""
        about = (self.gpu, self.hours, self.dollars, self.price)
        return self.gpus != 1 or any(value is not None for value in about)


def budget_for(recipe: Recipe, steps: int | None, question: Question) -> Budget:
    """Answers the question.

    Args:
        recipe: What to train.
        steps: Updates; None where prepared data alone can tell.
        question: Which device, and what there is to spend.

    Raises:
        UserError: A number that cannot be, a device that nobody knows, or an unknown length.
    """
    check_question(question)
    if steps is None:
        raise UserError(
            "How long this run takes depends on the length of its data (train.epochs).",
            fix="Prepare the data first, or say train.tokens or train.steps.",
        )
    speed = _speed(recipe, question)
    if question.dollars is not None and speed.price is None:
        raise UserError(
            f"No price of an hour on {speed.device} is known.", fix="Say it, e.g. --price 0.35."
        )
    return make_budget(
        Work(
            recipe.model,
            steps,
            recipe.train.tokens_per_step,
            recipe.eval.every,
            recipe.eval.tokens,
        ),
        speed,
        Limits(question.hours, question.dollars),
        gpus=question.gpus,
        optim=recipe.optim,
        candidates=divisors(recipe.samples_per_step),
        mfu=ASSUMED_MFU if question.mfu is None else question.mfu,
        precision=recipe.train.precision,
    )


def check_question(question: Question) -> None:
    """Refuses numbers that cannot be.

    Raises:
        UserError: Says which.
    """
    for option, value in (
        ("--hours", question.hours),
        ("--dollars", question.dollars),
        ("--gpus", question.gpus),
        ("--mfu", question.mfu),
    ):
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"{option} {value:g} leaves nothing to plan with.")
    if question.mfu is not None and question.mfu > 1:
        raise UserError(
            f"--mfu {question.mfu:g} is more than a device can do.",
            fix="It is a share of the peak, e.g. 0.4.",
        )
    if question.price is not None and not 0 <= question.price < math.inf:
        raise UserError(f"--price {question.price:g} is no price of an hour.")


def _speed(recipe: Recipe, question: Question) -> Speed:
    """Of one device: measured where it was and nothing else is asked for, else assumed."""
    seen = measured(recipe)
    if question.gpu in (None, HERE):
        if not seen:
            ask = "Say which GPU, e.g. --gpu rtx3090, or " if question.gpu is None else ""
            raise UserError(
                "Nothing was measured of this recipe on this machine.",
                fix=f"{ask}run `fromscratch bench {recipe.name}` here first.",
            )
        return _measured_speed(seen[-1], None, question)
    assert question.gpu is not None
    card = accelerator_named(question.gpu)
    here = [entry for entry in seen if entry.card == card.key]
    if here and question.mfu is None:
        return _measured_speed(here[-1], card, question)
    return assumed_speed(
        card,
        recipe.model,
        precision=recipe.train.precision,
        mfu=ASSUMED_MFU if question.mfu is None else question.mfu,
        price=question.price,
    )


def _measured_speed(entry: Measured, card: Accelerator | None, question: Question) -> Speed:
    if card is None and entry.card is not None:
        card = accelerator_named(entry.card)
    price = None if card is None else card.price
    peak = "a measured peak" if entry.peak_measured else "the data sheet's peak"
    return Speed(
        device=entry.device if card is None else card.name,
        tokens_per_s=entry.tokens_per_s,
        basis=f"measured on {entry.when} with {entry.precision}, micro-batch {entry.micro_batch}: "
        f"{entry.mfu:.0%} of {peak}",
        price=price if question.price is None else question.price,
        memory_bytes=None if card is None else card.memory_bytes,
        half=entry.precision in ("bf16", "fp16"),
    )
