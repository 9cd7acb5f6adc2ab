"""How well a model that learns preferences tells chosen answers from rejected ones, over the run.

In: runs. Out: charts of what rows of such runs have beside the loss; without lines for others.
"""

from __future__ import annotations

from collections.abc import Sequence

from fromscratch.report import series
from fromscratch.report.chart import Chart, Line
from fromscratch.report.shown import Shown

_COIN = ("a coin", 0.5)


def preference_charts(runs: Sequence[Shown]) -> tuple[Chart, ...]:
    """Accuracy, margin, and the rewards that it is the difference of."""
    return (
        Chart(
            key="accuracy",
            title="Preference accuracy",
            unit="share of pairs told apart",
            lines=_lines(runs, "accuracy", "training"),
            levels=(_COIN,),
        ),
        Chart(
            key="margin",
            title="Reward margin",
            unit="chosen minus rejected, mean over pairs",
            lines=_lines(runs, "margin", "training"),
        ),
        Chart(
            key="rewards",
            title="Rewards",
            unit="mean over pairs",
            lines=(
                *_lines(runs, "reward_chosen", "chosen"),
                *_lines(runs, "reward_rejected", "rejected", first_colour=2),
            ),
            note="Both may fall: what counts is how far apart they are. Where the chosen answers' "
            "falls far, the model also forgets how to write them.",
        ),
    )


def has_pairs(run: Shown) -> bool:
    """Whether a run learns preferences."""
    return run.facts.accuracy is not None


def _lines(
    runs: Sequence[Shown], column: str, name: str, *, first_colour: int = 0
) -> tuple[Line, ...]:
    """The column of the training rows, and of the held-out pairs."""
    found = []
    for i, run in enumerate(runs):
        values = run.record.training.column(column)
        colour = i if run.label else first_colour
        if series.drawable(values).any():
            label = run.called(name)
            found.append(Line(label, run.clock.training, values, colour, smooth=True))
        table = run.record.validation.get(run.facts.validation_set or "")
        if table is None:
            continue
        values = table.column(f"val_{column}")
        if series.drawable(values).any():
            label = run.called("held-out" if name == "training" else f"held-out: {name}")
            colour = i if run.label else first_colour + 1
            found.append(Line(label, run.clock.course(table), values, colour, "marked"))
    return tuple(found)
