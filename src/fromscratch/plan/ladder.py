"""Which small models to train, and how long each, so that a law can be fitted within a budget.

In: a recipe's model, how fast each size trains, seconds. Out: a ladder: sizes, each with several
lengths, cheapest first. Always true: by the speeds given, it takes no more than these seconds.

A ladder is a grid: every size at the same multiples of its own parameters. Each run has a schedule
of its own, of its own length: a loss read in the midst of a longer schedule is too high, and bends
the law (Hoffmann et al. 2022, figure A1). Branching the decays off one run at a constant rate would
spare a third of the arithmetic (Haegele et al. 2024, arXiv:2405.18392), of the schedule wsd only;
whole runs serve any schedule, and each is one that `resume` and `report` take.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fromscratch.model.config import ModelConfig
from fromscratch.model.count import count_parameters, flops_per_token
from fromscratch.plan.budget import scaled
from fromscratch.plan.scaling_law import FEWEST_RUNS

RATIOS = (5.0, 10.0, 20.0, 40.0)
"""Tokens for each parameter; all are multiplied by one factor to fill the budget. They lie about
Chinchilla's 20, since what is asked for lies near it."""
_LONGEST, _SHORTEST = 2.0, 0.004
"""Of the factor."""
_SIZES = 5
_SPAN = 30.0
"""The largest model of a ladder is at most so many times the smallest."""
_FEWEST_SIZES, _FEWEST_LENGTHS = 3, 3


@dataclass(frozen=True)
class Size:
    """A model of the recipe's family: all in the recipe's proportions but for `heads`."""

    heads: int
    model: ModelConfig
    parameters: int
    flops_per_token: int


@dataclass(frozen=True)
class Rung:
    """One run of a ladder, and how long it should take."""

    size: Size
    tokens: int
    seconds: float


Speed = Callable[[Size], float]
"""Trained tokens a second."""


@functools.cache
def sizes_of(model: ModelConfig) -> tuple[Size, ...]:
    """The models of a recipe's family, ascending: heads from one to four times the recipe's.

    Width, depth and MLP follow the heads, so the ratio of width to depth stays, on which the loss
    depends weakly (Kaplan et al. 2020, figure 5).
    """
    found: list[Size] = []
    for heads in range(1, max(16, 4 * model.n_head) + 1):
        shape = model if heads == model.n_head else scaled(model, heads)
        if shape is None:
            continue
        parameters = count_parameters(shape).total
        if not found or parameters > found[-1].parameters:
            found.append(Size(heads, shape, parameters, flops_per_token(shape)))
    return tuple(found)


def choose_ladder(
    sizes: Sequence[Size],
    speed: Speed,
    seconds: float,
    *,
    each: float,
    least_tokens: int,
    most_tokens: float,
) -> list[Rung]:
    """The ladder with the largest models that the seconds allow at full lengths; else shorter.

    Args:
        sizes: Of the family, ascending.
        speed: Of each.
        seconds: For all runs together.
        each: Seconds that a run takes besides training: starting, validating, saving.
        least_tokens: Of a run.
        most_tokens: Likewise: what there is of text bounds the sizes, too.

    Returns:
        The runs, cheapest first; empty where not even the least ladder fits.
    """

    def rungs(chosen: Sequence[Size], factor: float) -> list[Rung]:
        made = {}
        for size in chosen:
            for ratio in RATIOS:
                wanted = max(least_tokens, factor * ratio * size.parameters)
                tokens = int(min(wanted, most_tokens))
                made[size.heads, tokens] = Rung(size, tokens, each + tokens / speed(size))
        return sorted(made.values(), key=lambda rung: (rung.seconds, rung.tokens))

    def total(chosen: Sequence[Size], factor: float) -> float:
        return sum(rung.seconds for rung in rungs(chosen, factor))

    for largest in range(len(sizes), _FEWEST_SIZES - 1, -1):
        chosen = _spread(sizes[:largest])
        if len(chosen) < _FEWEST_SIZES:
            continue
        # Only the smallest sizes are trained on less than they should be, rather than not at all.
        low = 1.0 if largest > _FEWEST_SIZES else _SHORTEST
        high = min(_LONGEST, most_tokens / (RATIOS[-1] * chosen[-1].parameters))
        if high < low or total(chosen, low) > seconds:
            continue
        if total(chosen, high) <= seconds:
            low = high
        for _ in range(20 if low < high else 0):
            middle = (low * high) ** 0.5
            low, high = (middle, high) if total(chosen, middle) <= seconds else (low, middle)
        found = rungs(chosen, low)
        if len(found) >= FEWEST_RUNS and len({rung.tokens for rung in found}) >= _FEWEST_LENGTHS:
            return found
    return []


def _spread(sizes: Sequence[Size]) -> list[Size]:
    """At most five, the last among them, in about equal ratios, and no further apart in all."""
    last = sizes[-1].parameters
    near = [size for size in sizes if size.parameters * _SPAN >= last]
    if len(near) <= _SIZES:
        return near
    first = near[0].parameters
    chosen = []
    for number in range(_SIZES):
        wanted = first * (last / first) ** (number / (_SIZES - 1))
        best = min(near, key=lambda s: abs(s.parameters / wanted - 1))
        if best not in chosen:
            chosen.append(best)
    return chosen
