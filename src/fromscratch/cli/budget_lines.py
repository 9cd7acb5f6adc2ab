"""How `plan` shows hours, money and what would fit."""

from __future__ import annotations

import shlex
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from fromscratch.cli.show import say, table
from fromscratch.report.numerals import duration, percent

if TYPE_CHECKING:
    from fromscratch.plan.budget import Budget, Proposal


def print_budget(budget: Budget, recipe: str, overrides: list[str]) -> None:
    """Prints what a run takes on a device, and what to change where that is too much.

    Args:
        budget: The answer.
        recipe: As it was typed.
        overrides: As they were typed.
    """
    many = f"{budget.gpus} x " if budget.gpus > 1 else ""
    ends = datetime.now().astimezone() + timedelta(hours=min(budget.hours, 1e6))
    rows = [
        ["tokens/s", f"{budget.tokens_per_s:,.0f}"],
        ["time", duration(budget.hours * 3600)],
        ["of that for validation", percent(budget.validation_share)],
        ["ends, if it starts now", f"{ends:%a %d %B %Y, %H:%M}"],
        ["money", _money(budget.cost) + _rate(budget)],
    ]
    table([f"on {many}{budget.device}", ""], rows)
    say(f"speed {budget.basis}")
    if budget.micro_batches:
        say()
        table(
            ["largest micro_batch that fits (estimate)", ""],
            [
                [change, "not even 1" if n is None else str(n)]
                for change, n in budget.micro_batches.items()
            ],
        )
    if budget.limit_hours is None:
        return
    say()
    limit = duration(budget.limit_hours * 3600)
    if budget.fits:
        say(f"fits: {duration(budget.hours * 3600)} of {limit}")
        return
    say(f"does not fit: {duration(budget.hours * 3600)}, and there are {limit}. What would:")
    for proposal in budget.proposals:
        say(f"  {_proposal(proposal, recipe, overrides)}")
    if not budget.proposals:
        say("  nothing that is known here; more hours, or another kind of model")


def _proposal(proposal: Proposal, recipe: str, overrides: list[str]) -> str:
    cost = "" if proposal.cost is None else f", {_money(proposal.cost)}"
    line = f"{proposal.sentence}: {duration(proposal.hours * 3600)}{cost}"
    if not proposal.overrides:
        return line
    command = ["fromscratch", "train", recipe, *overrides, *proposal.overrides]
    return f"{line}\n    {' '.join(shlex.quote(word) for word in command)}"


def _rate(budget: Budget) -> str:
    return "" if budget.price is None else f" at ${budget.price:g} an hour and device"


def _money(dollars: float | None) -> str:
    if dollars is None:
        return "?"
    return f"${dollars:,.2f}" if dollars < 100 else f"${dollars:,.0f}"
