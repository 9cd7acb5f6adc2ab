"""A ladder as a PNG: its runs and the law over arithmetic, and what each size would reach."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from fromscratch.plan.scaling_law import FittedRun, LawFit, Prediction, ScalingLaw
from fromscratch.report.numerals import duration, short, significant
from fromscratch.runs.scale_answer import Answer
from fromscratch.runs.scale_prediction import RunPrediction

_COLOURS = ("#2166c9", "#0d8074", "#a3730a", "#8a3fc0", "#c2296b", "#7fb236", "#5a6270")
_SOFT, _ANSWER = "#5a6270", "#cf4f0a"


def scale_picture(name: str, fit: LawFit, answers: Sequence[Answer]) -> bytes:
    """Draws a ladder.

    Args:
        name: Of the recipe.
        fit: The law and its runs.
        answers: To the question that was asked; may be empty.

    Returns:
        A PNG of two panels, or of one without an answer.
    """
    panels = 2 if answers else 1
    figure = Figure(figsize=(6.0 * panels, 4.6), dpi=100, facecolor="white", layout="constrained")
    title = f"{name}: {len(fit.runs)} runs, and what they predict".replace("$", r"\$")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    grid = figure.add_gridspec(1, panels)
    _over_flops(figure.add_subplot(grid[0, 0]), fit, answers)
    if answers:
        _over_sizes(figure.add_subplot(grid[0, 1]), fit, answers[-1])
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()


def prediction_picture(prediction: RunPrediction, achieved: float | None) -> bytes:
    """Draws what was expected of a run among the small runs, and where it ended.

    Args:
        prediction: The run's.
        achieved: Its loss at its end, nats per token; None before that.

    Returns:
        A PNG.
    """
    figure = Figure(figsize=(7.6, 4.4), dpi=100, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    _ladder(axes, prediction.law, prediction.runs)
    _expected(axes, prediction.flops, prediction.expected, "predicted")
    if achieved is not None:
        axes.plot(
            [prediction.flops], [achieved], marker="x", ms=10, mew=2, ls="none", color="black",
            label="achieved",
        )  # fmt: skip
    _finish(axes)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()


def _over_flops(axes: Axes, fit: LawFit, answers: Sequence[Answer]) -> None:
    """Runs and the law of each size; the answer with its interval, far to the right."""
    _ladder(axes, fit.law, fit.runs)
    for answer in answers[-1:]:
        expected = Prediction(answer.loss, *answer.loss_between)
        flops = answer.reach * max(run.flops for run in fit.runs)
        _expected(axes, flops, expected, f"{short(_three(answer.parameters))}, the answer")
    _finish(axes)


def _ladder(axes: Axes, law: ScalingLaw, every: Sequence[FittedRun]) -> None:
    """The runs of each size in a colour, and the law through them."""
    sizes = sorted({run.parameters for run in every})
    for number, size in enumerate(sizes):
        colour = _COLOURS[number % len(_COLOURS)]
        runs = sorted((r for r in every if r.parameters == size), key=lambda r: r.tokens)
        a_token = runs[0].flops / runs[0].tokens
        tokens = np.geomspace(runs[0].tokens / 1.5, runs[-1].tokens * 3, 40)
        axes.plot(a_token * tokens, [law.loss(size, d) for d in tokens], color=colour, lw=1)
        axes.plot(
            [r.flops for r in runs],
            [r.loss for r in runs],
            marker="o",
            ms=4.5,
            ls="none",
            color=colour,
            label=short(_three(size)),
        )
    axes.axvline(max(run.flops for run in every), color=_SOFT, lw=0.8, ls=":")


def _expected(axes: Axes, flops: float, expected: Prediction, label: str) -> None:
    """A prediction with its interval."""
    below, above = expected.loss - expected.low, expected.high - expected.loss
    axes.errorbar(
        [flops],
        [expected.loss],
        [[below], [above]],
        marker="*",
        ms=12,
        capsize=3,
        ls="none",
        color=_ANSWER,
        label=label,
    )


def _finish(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.legend(title="parameters", frameon=False, fontsize=8, title_fontsize=8)
    axes.set_xlabel("FLOPs of training (dotted: the largest small run)", color=_SOFT)
    axes.set_ylabel("held-out loss, nats per token", color=_SOFT)
    _plain(axes)


def _over_sizes(axes: Axes, fit: LawFit, answer: Answer) -> None:
    """What every size would reach in the hours, by the law and by its bootstrap."""
    near = [c for c in answer.candidates if c[2] <= 1.15 * answer.loss]
    sizes = [c[0] for c in near]
    drawn = [sorted(law.loss(n, max(d, 1)) for law in fit.draws) for n, d, _ in near]
    last = len(fit.draws) - 1
    low, high = round(0.05 * last), round(0.95 * last)
    axes.fill_between(
        sizes, [d[low] for d in drawn], [d[high] for d in drawn], color="#2166c9", alpha=0.15, lw=0
    )
    axes.plot(sizes, [c[2] for c in near], color="#2166c9", marker=".", ms=4)
    axes.plot([answer.parameters], [answer.loss], marker="*", ms=12, color=_ANSWER, ls="none")
    axes.annotate(
        f"{short(_three(answer.parameters))} parameters\n"
        f"{short(_three(answer.tokens))} tokens\nloss {significant(answer.loss)}",
        (answer.parameters, answer.loss),
        xytext=(0, 28),
        textcoords="offset points",
        ha="center",
        fontsize=9,
        color=_ANSWER,
    )
    axes.set_xscale("log")
    axes.set_xlabel(
        f"parameters, each trained for {duration(answer.hours * 3600)} on {answer.device}"[:80],
        color=_SOFT,
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("predicted loss, nats per token", color=_SOFT)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e2e4e8", linewidth=0.8)


def _three(value: float) -> float:
    """Three digits are enough for a label."""
    return float(f"{value:.3g}")
