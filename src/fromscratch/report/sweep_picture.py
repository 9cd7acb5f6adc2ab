"""A sweep's results as a PNG: the ranks' measure against each swept setting, and a map of two."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fromscratch.runs.sweep_plan import MEASURES, SweepPlan
from fromscratch.runs.sweep_results import as_number
from fromscratch.runs.sweep_study import TrialRow

_COLOURS = ("#2166c9", "#cf4f0a", "#0d8074", "#8a3fc0", "#a3730a", "#c2296b", "#5a6270", "#7fb236")
_SOFT = "#5a6270"


@dataclass(frozen=True)
class _Ticks:
    """Where each value of a setting lies on an axis: by size; words side by side."""

    labels: list[str]
    places: dict[str, float]
    log: bool


def sweep_picture(plan: SweepPlan, done: Sequence[TrialRow]) -> bytes:
    """Draws a sweep.

    Args:
        plan: The sweep's.
        done: Trials with a result.

    Returns:
        A PNG with one panel for each setting and, for two, a map of both.
    """
    keys = list(plan.axes)
    panels = len(keys) + (len(keys) == 2)
    figure = Figure(figsize=(4.6 * panels, 4.0), dpi=100, facecolor="white", layout="constrained")
    figure.suptitle(
        _plain(f"{plan.name}: {MEASURES[plan.measure]}"), x=0.01, ha="left", fontsize=12
    )
    grid = figure.add_gridspec(1, panels)
    for number, key in enumerate(keys):
        other = next((k for k in keys if k != key), None) if len(keys) == 2 else None
        _against(figure.add_subplot(grid[0, number]), key, other, done)
    if len(keys) == 2:
        _map(figure.add_subplot(grid[0, 2]), keys[0], keys[1], done)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()


def _against(axes: Axes, key: str, other: str | None, done: Sequence[TrialRow]) -> None:
    """Every trial over its value of one setting; lines join those that share the other's."""
    ticks = _ticks([row.values[key] for row in done])
    names = list(dict.fromkeys(row.values[other] for row in done)) if other else [""]
    names = _ticks(names).labels if other and len(names) <= len(_COLOURS) else [""]
    for number, name in enumerate(names):
        chosen = [row for row in done if not name or row.values[other or key] == name]
        points = sorted((ticks.places[row.values[key]], _value(row)) for row in chosen)
        joined = "-" if name or (other is None and len(ticks.labels) == len(points)) else ""
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            marker="o",
            markersize=4.5,
            linestyle=joined or "none",
            color=_COLOURS[number],
            label=_plain(name) or None,
        )
    if len(names) > 1:
        axes.legend(title=_plain(other or ""), frameon=False, fontsize=8, title_fontsize=8)
    if ticks.log:
        axes.set_xscale("log")
    axes.minorticks_off()
    if len(ticks.labels) <= 8:
        places = [ticks.places[label] for label in ticks.labels]
        axes.set_xticks(places, [_plain(label) for label in ticks.labels], fontsize=8)
    axes.set_xlabel(_plain(key), color=_SOFT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e2e4e8", linewidth=0.8)


def _map(axes: Axes, across: str, up: str, done: Sequence[TrialRow]) -> None:
    """The best result of each pair of values, as a coloured square with its number."""
    columns = _ticks([row.values[across] for row in done]).labels
    lines = _ticks([row.values[up] for row in done]).labels
    best: dict[tuple[int, int], float] = {}
    for row in done:
        cell = lines.index(row.values[up]), columns.index(row.values[across])
        best[cell] = min(best.get(cell, float("inf")), _value(row))
    values = [
        [best.get((i, j), float("nan")) for j in range(len(columns))] for i in range(len(lines))
    ]
    axes.imshow(values, cmap="viridis_r", origin="lower", aspect="auto")
    middle = (min(best.values()) + max(best.values())) / 2
    if len(best) <= 64:
        for (i, j), value in best.items():
            ink = "black" if value < middle else "white"  # what is low is yellow
            axes.text(j, i, f"{value:.3f}", ha="center", va="center", fontsize=8, color=ink)
    axes.set_xticks(range(len(columns)), [_plain(label) for label in columns], fontsize=8)
    axes.set_yticks(range(len(lines)), [_plain(label) for label in lines], fontsize=8)
    axes.set_xlabel(_plain(across), color=_SOFT)
    axes.set_ylabel(_plain(up), color=_SOFT)


def _ticks(values: Sequence[str]) -> _Ticks:
    labels = list(dict.fromkeys(values))
    numbers = {label: number for label in labels if (number := as_number(label)) is not None}
    if len(numbers) < len(labels):
        return _Ticks(labels, {label: float(i) for i, label in enumerate(labels)}, log=False)
    labels = sorted(labels, key=lambda label: numbers[label])
    low, high = numbers[labels[0]], numbers[labels[-1]]
    return _Ticks(labels, numbers, log=low > 0 and high / low >= 4)


def _value(row: TrialRow) -> float:
    assert row.result is not None
    return row.result.value


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # not a formula
