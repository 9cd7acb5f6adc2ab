"""The histogram of document lengths as a PNG, drawn by matplotlib."""

from __future__ import annotations

import io
import math

from matplotlib.figure import Figure

from fromscratch.data.lengths import BIN_STARTS, LengthBin, Lengths
from fromscratch.report.numerals import count, percent, short

_DPI = 100
_SIZE = (10.0, 5.0)  # inches, so 1000 x 500 pixels
_BAR, _MEAN, _MEDIAN = "#2166c9", "#cf4f0a", "#0d8074"
_SOFT = "#5a6270"
_EDGE = "#e2e4e8"


def length_picture(lengths: Lengths, title: str) -> bytes:
    """Draws documents by length, with the mean and the median, 1000 x 500 pixels."""
    figure = Figure(figsize=_SIZE, dpi=_DPI, facecolor="white", layout="constrained")
    figure.suptitle(title.replace("$", r"\$"), x=0.01, ha="left", fontsize=13)
    axes = figure.add_subplot()
    axes.set_title(
        f"documents by length in tokens; {percent(_share_longer(lengths))} are longer than a "
        f"context of {count(lengths.context)}",
        loc="left",
        fontsize=9.5,
        color=_SOFT,
    )
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_SOFT)
    axes.tick_params(colors=_SOFT, labelsize=8.5, length=0)
    places = range(len(lengths.bins))
    bars = axes.bar(
        [p + 0.5 for p in places], [b.documents for b in lengths.bins], width=0.94, color=_BAR
    )
    axes.bar_label(
        bars,
        [short(b.documents) if b.documents else "" for b in lengths.bins],
        padding=2,
        fontsize=8.5,
        color=_SOFT,
    )
    axes.set_xticks([p + 0.5 for p in places], [bin_name(b) for b in lengths.bins])
    axes.set_xlim(0, len(lengths.bins))
    axes.margins(y=0.12)
    axes.yaxis.set_major_formatter(lambda value, _: short(value))
    axes.grid(axis="y", color=_EDGE, linewidth=0.8)
    axes.set_axisbelow(True)
    for name, value, colour in (
        ("median", float(lengths.median), _MEDIAN),
        ("mean", lengths.mean, _MEAN),
    ):
        axes.axvline(
            _position(value),
            color=colour,
            linewidth=1.7,
            linestyle="--",
            label=f"{name} {count(value)}",
        )
    axes.legend(frameon=False, fontsize=9.5, labelcolor=_SOFT, loc="upper left")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_DPI)
    return drawn.getvalue()


def bin_name(part: LengthBin) -> str:
    """`16-31`, `below 16`, `2,048 up`."""
    if part.high is None:
        return f"{part.low:,} up"
    return f"{part.low:,}-{part.high - 1:,}" if part.low else f"below {part.high}"


def _share_longer(lengths: Lengths) -> float:
    return lengths.longer_than_context / lengths.documents if lengths.documents else 0.0


def _position(length: float) -> float:
    """Where a length lies on the axis of bins, each one unit wide.

    The first goes from 0 to 16 tokens evenly, and each that follows to twice its start, by the
    logarithm; the last has no end, and half of it is twice its start.
    """
    first, last = BIN_STARTS[1], BIN_STARTS[-1]
    if length < first:
        return length / first
    if length < last:
        return 1.0 + math.log2(length / first)
    return len(BIN_STARTS) - last / length
