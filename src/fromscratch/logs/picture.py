"""Four panels on one picture: loss, learning rate, throughput, memory.

In: the training rows of a run, in any number. Out: a PNG. Of a long log several rows are drawn as
one point, so that memory does not grow; a loss keeps its lowest and highest value in each.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# More than there are pixels in a panel.
_POINTS = 4000
_COLOURS = {"loss": "#2166c9", "lr": "#cf4f0a", "tokens_per_s": "#0d8074", "memory_gb": "#8a3fc0"}
_SOFT = "#5a6270"
_EDGE = "#e2e4e8"
_MARK = "#c2296b"
_PANELS = (
    ("loss", "Training loss", "nats per token"),
    ("lr", "Learning rate", ""),
    ("tokens_per_s", "Throughput", "tokens/s"),
    ("memory_gb", "GPU memory", "GB"),
)


@dataclass
class _Point:
    """Some consecutive rows."""

    first: int
    rows: int = 0
    low: float = math.inf
    high: float = -math.inf
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    checkpoint: bool = False

    def add(self, values: Mapping[str, float], checkpoint: bool) -> None:
        self.rows += 1
        self.checkpoint |= checkpoint
        for name, value in values.items():
            if math.isfinite(value):
                self.sums[name] = self.sums.get(name, 0.0) + value
                self.counts[name] = self.counts.get(name, 0) + 1
        loss = values.get("loss", math.nan)
        if math.isfinite(loss):
            self.low, self.high = min(self.low, loss), max(self.high, loss)

    def mean(self, name: str) -> float:
        return self.sums[name] / self.counts[name] if self.counts.get(name) else math.nan


def picture(rows: Iterable[tuple[int, Mapping[str, Any], bool]], n_rows: int, title: str) -> bytes:
    """The four panels as a PNG, 1600 x 1000 pixels.

    Args:
        rows: Of each logged step, ascending: its number, its values by the names of metrics.jsonl,
            and whether a checkpoint was saved after it.
        n_rows: How many there are.
        title: Stands above.
    """
    from matplotlib.figure import Figure

    points = list(_points(rows, max(1, math.ceil(n_rows / _POINTS))))
    figure = Figure(figsize=(16, 10), dpi=100, facecolor="white", layout="constrained")
    figure.suptitle(_plain(title), x=0.01, ha="left", fontsize=14)
    grid = figure.subplots(2, 2)
    steps = np.array([point.first for point in points], dtype=np.float64)
    for axes, (name, heading, unit) in zip(grid.flat, _PANELS, strict=True):
        _dress(axes, heading + (f" ({unit})" if unit else ""))
        values = np.array([point.mean(name) for point in points], dtype=np.float64)
        if not np.isfinite(values).any():
            axes.text(
                0.5, 0.5, "not in the log", ha="center", color=_SOFT, transform=axes.transAxes
            )
            axes.set_yticks([])
        elif name == "loss":
            _loss(axes, steps, values, points)
        else:
            _line(axes, name, steps, values)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()


def smoothed(values: FloatArray, window: int) -> FloatArray:
    """The mean of the finite values in a window around each.

    At the start the window shrinks on both sides alike, or what follows would drag a steep start
    down; at the end only what is beyond the end is missing.

    Args:
        values: Shape (n,); what is not finite is passed over.
        window: Its full width, at least 1.

    Returns:
        Shape (n,); NaN where a window holds nothing finite.
    """
    n = len(values)
    means = np.full(n, np.nan)
    for i in range(n):
        half = min(i, window // 2)
        near = values[i - half : i + half + 1]
        near = near[np.isfinite(near)]
        if len(near):
            means[i] = near.mean()
    return means


def _points(rows: Iterable[tuple[int, Mapping[str, Any], bool]], together: int) -> Iterator[_Point]:
    point: _Point | None = None
    for step, values, checkpoint in rows:
        if point is None or point.rows == together:
            if point is not None:
                yield point
            point = _Point(step)
        numbers = {
            name: float(values[name]) for name, _, _ in _PANELS if values.get(name) is not None
        }
        point.add(numbers, checkpoint)
    if point is not None:
        yield point


def _loss(axes: Any, steps: FloatArray, values: FloatArray, points: list[_Point]) -> None:
    low = np.array([point.low for point in points])
    high = np.array([point.high for point in points])
    if (high > low).any():
        axes.fill_between(
            steps, low, high, color=_COLOURS["loss"], alpha=0.25, linewidth=0, label="logged"
        )
    else:
        axes.plot(steps, values, color=_COLOURS["loss"], alpha=0.35, linewidth=0.8, label="logged")
    window = max(1, len(values) // 50) | 1
    axes.plot(
        steps,
        smoothed(values, window),
        color=_COLOURS["loss"],
        linewidth=2,
        label=f"mean of {window * points[0].rows:,} rows around",
    )
    # Along the bottom, where hundreds of them hide nothing.
    saved = np.array([point.checkpoint for point in points], dtype=bool)
    if saved.any():
        axes.plot(
            steps[saved],
            np.full(int(saved.sum()), 0.012),
            color=_MARK,
            marker="^",
            markersize=4,
            linestyle="",
            transform=axes.get_xaxis_transform(),
            label=f"checkpoint ({int(saved.sum()):,})",
        )
    broken = ~np.isfinite(values)
    if broken.any():
        axes.plot(
            steps[broken],
            np.zeros(int(broken.sum())),
            color="#b00020",
            marker="x",
            linestyle="",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            label=f"nan or inf ({int(broken.sum()):,})",
        )
    axes.legend(frameon=False, labelcolor=_SOFT, loc="upper right")
    _limit(axes, values)


def _limit(axes: Any, values: FloatArray) -> None:
    """Keeps one row of 1e6 from flattening the curve."""
    finite = values[np.isfinite(values)]
    low, high = (float(v) for v in np.quantile(finite, (0.005, 0.995)))
    top = high + 4 * (high - low)
    if len(finite) >= 50 and high > low and float(finite.max()) > top:
        axes.set_ylim(min(float(finite.min()), low) - 0.05 * (high - low), top)


def _line(axes: Any, name: str, steps: FloatArray, values: FloatArray) -> None:
    axes.plot(steps, values, color=_COLOURS[name], linewidth=1.2)
    if name == "tokens_per_s":
        middle = float(np.nanmedian(values))
        axes.axhline(
            middle, color=_SOFT, linestyle="--", linewidth=1, label=f"median {middle:,.0f}"
        )
        axes.legend(frameon=False, labelcolor=_SOFT, loc="upper right")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if name == "memory_gb":
        axes.set_ylim(0, float(np.nanmax(values)) * 1.1 or 1.0)
    if name == "lr":
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.1e}")


def _dress(axes: Any, heading: str) -> None:
    axes.set_title(heading, loc="left", fontsize=11, color=_SOFT)
    axes.set_xlabel("step", color=_SOFT)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_SOFT)
    axes.tick_params(colors=_SOFT, length=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(axis="y", color=_EDGE, linewidth=0.8)
    axes.set_axisbelow(True)


def _plain(text: str) -> str:
    """Text for matplotlib, which takes what stands between dollar signs for a formula."""
    return text.replace("$", r"\$")
