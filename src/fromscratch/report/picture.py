"""The main charts as one PNG for a README or a chat, drawn by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from fromscratch.report import charts, series
from fromscratch.report.chart import COLOURS, Chart, chart_scales, expanded
from fromscratch.report.markup import plain
from fromscratch.report.numerals import count, duration, percent, short, significant, tick
from fromscratch.report.preference import preference_charts
from fromscratch.report.shown import Shown

_DPI = 100
_SIZE = (12.0, 7.0)  # inches, so 1200 x 700 pixels
# The page's colours on white.
_COLOURS = (
    "#2166c9", "#cf4f0a", "#0d8074", "#8a3fc0", "#a3730a", "#c2296b", "#4d7a12", "#5f6570",
)  # fmt: skip
_SOFT = "#5a6270"
_EDGE = "#e2e4e8"


def picture(runs: Sequence[Shown]) -> bytes:
    """Loss, bits per byte, learning rates, gradient norm and speed as a PNG, 1200 x 700 pixels.

    Of preferences their accuracy in the place of bits per byte.
    """
    figure = Figure(figsize=_SIZE, dpi=_DPI, facecolor="white", layout="constrained")
    figure.suptitle(_title(runs), x=0.01, ha="left", fontsize=13)
    grid = figure.add_gridspec(2, 6, height_ratios=(3, 2))
    _panel(figure.add_subplot(grid[0, :4]), charts.loss_chart(runs))
    accuracy, *_ = preference_charts(runs)
    beside = accuracy if accuracy.lines else charts.bits_chart(runs)
    _panel(figure.add_subplot(grid[0, 4:]), beside)
    _panel(figure.add_subplot(grid[1, :2]), charts.rate_chart(runs))
    _panel(figure.add_subplot(grid[1, 2:4]), charts.gradient_chart(runs))
    _panel(figure.add_subplot(grid[1, 4:]), charts.speed_chart(runs))
    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_DPI)
    # A chart has few colours: a palette costs nothing visible and saves two thirds of the bytes.
    pixels = Image.open(drawn).convert("RGB").quantize(96, dither=Image.Dither.NONE)
    pixels.save(packed, "PNG", optimize=True)
    return packed.getvalue()


def _title(runs: Sequence[Shown]) -> str:
    if len(runs) > 1:
        return _text("  \u00b7  ".join(run.label for run in runs), 110)
    facts = runs[0].facts
    parts = [_text(runs[0].record.name, 60)]
    if facts.accuracy is not None:
        parts.append(f"{percent(facts.accuracy)} of preferences told apart")
    elif facts.last is not None and facts.last.bpb is not None:
        parts.append(f"{significant(facts.last.bpb)} bits per byte")
    if facts.parameters is not None:
        parts.append(f"{count(facts.parameters)} parameters")
    if facts.tokens is not None:
        parts.append(f"{short(facts.tokens)} tokens")
    if facts.seconds is not None:
        parts.append(duration(facts.seconds))
    return "  \u00b7  ".join(parts)


def _text(value: str, length: int) -> str:
    """`value` for matplotlib, which would take what stands between dollar signs for a formula."""
    return plain(value)[:length].replace("$", r"\$")


def _panel(axes: Axes, chart: Chart) -> None:
    axes.set_title(f"{chart.title} ({chart.unit})", loc="left", fontsize=9.5, color=_SOFT)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_SOFT)
    axes.tick_params(colors=_SOFT, labelsize=8.5, length=0)
    scales = chart_scales(chart)
    if scales is None:
        axes.text(0.5, 0.5, "nothing recorded", ha="center", color=_SOFT)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    _axes(axes, *scales)
    for line in (one for whole in chart.lines for one in expanded(whole)):
        ok = series.drawable(line.y)
        kept = series.thin(line.x[ok], line.y[ok], 600)
        faint = line.style == "faint"
        axes.plot(
            line.x[ok][kept],
            line.y[ok][kept],
            color=_COLOURS[line.colour % COLOURS],
            linestyle="--" if line.style == "dashed" else "-",
            alpha=0.3 if faint else 1.0,
            linewidth=0.8 if faint else 1.7,
            marker="o" if line.style == "marked" and len(kept) <= 60 else "",
            markersize=4,
            label="" if faint and len(chart.lines) > 2 else _text(line.name, 40),
        )
    for name, value in chart.levels:
        if scales[1].low <= value <= scales[1].high:
            axes.axhline(value, color=_SOFT, linewidth=0.9, linestyle="--")
            axes.annotate(
                _text(name, 30),
                (1.0, value),
                xycoords=("axes fraction", "data"),
                xytext=(0, 2),
                textcoords="offset points",
                ha="right",
                fontsize=8,
                color=_SOFT,
            )
    # Which of several learning rates is which, too.
    if chart.key == "loss" or len(chart.lines) > 1:
        size = 8.5 if chart.key == "loss" else 7
        axes.legend(frameon=False, fontsize=size, labelcolor=_SOFT, loc="best")


def _axes(axes: Axes, horizontal: series.Scale, vertical: series.Scale) -> None:
    """The scales and labels of the page's chart, not matplotlib's own."""
    if vertical.log:
        axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_xlim(horizontal.low, horizontal.high)
    axes.set_ylim(vertical.low, vertical.high)
    axes.set_xticks(horizontal.ticks, [short(t) for t in horizontal.ticks])
    labels = [tick(t, t if vertical.log else vertical.spacing) for t in vertical.ticks]
    axes.set_yticks(vertical.ticks, labels)
    axes.grid(axis="y", color=_EDGE, linewidth=0.8)
    axes.set_axisbelow(True)
