"""What the results of a sweep say: values as numbers, and where the best lies at an edge."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fromscratch.runs.sweep_plan import Choices, SweepPlan
from fromscratch.runs.sweep_study import TrialRow


def as_number(text: str) -> float | None:
    """A value as a number; None for a word."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def edges(plan: SweepPlan, done: Sequence[TrialRow]) -> list[tuple[str, str, str]]:
    """Settings of which the best trial has the least or the greatest value that was tried.

    Args:
        plan: The sweep's.
        done: Trials with a result, the best first.

    Returns:
        Key, value, and `smallest` or `largest`, for lists of at least three numbers, all tried.
    """
    found = []
    for key, axis in plan.axes.items():
        if not isinstance(axis, Choices) or len(axis.values) < 3:
            continue
        numbers = [as_number(value) for value in axis.values]
        tried = {row.values[key] for row in done}
        if None in numbers or not tried.issuperset(axis.values):
            continue
        ordered = sorted(axis.values, key=float)
        best = done[0].values[key]
        if best in (ordered[0], ordered[-1]):
            found.append((key, best, "smallest" if best == ordered[0] else "largest"))
    return found
