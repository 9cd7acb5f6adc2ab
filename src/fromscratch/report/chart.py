"""A line chart as inline SVG with HTML labels around it.

The SVG holds only shapes and is stretched to whatever box it gets (strokes keep their width), while
labels are ordinary text placed in per cent. So one chart is sharp and legible from a phone to
paper, its text can be selected, and every colour is a CSS variable that dark mode changes. It is
what is seen without JavaScript and in print; with it, the page's script draws the same lines so
that one can zoom (embed.py gives it the numbers).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from fromscratch.report import numerals, series
from fromscratch.report.course import Course
from fromscratch.report.markup import Html, join, tag
from fromscratch.report.record import FloatArray
from fromscratch.report.series import IntArray

# Side of the SVG's own square coordinate system: fine enough for a wide screen, short to write.
_SIDE = 2000
# One bucket is about a pixel pair of the widest chart; up to four points are drawn in each.
_BUCKETS = 400
# More lines than this hide the curve behind them, and are drawn faintly.
_MANY_RESUMES = 12
# More markers than this on one line run into each other.
_MARKERS = 60

COLOURS = 8
"""Colours of the page's curves; further ones begin anew with another dash."""


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        name: What the legend and the tooltip call it.
        course: Where its values lie, n of them.
        y: Shape (n,); a value that is not finite is a gap.
        colour: Counted from 0; the page has `COLOURS` of them.
        style: `faint` behind a smoothed line, `plain`, `dashed`, or `marked` with a dot at each.
        smooth: Draw the running mean, with the values themselves faint behind it.
        aside: Not drawn until somebody asks for it in the legend.
    """

    name: str
    course: Course
    y: FloatArray
    colour: int = 0
    style: Literal["faint", "plain", "dashed", "marked"] = "plain"
    smooth: bool = False
    aside: bool = False

    @property
    def x(self) -> FloatArray:
        """Steps, ascending, shape (n,)."""
        return self.course.step


@dataclass(frozen=True)
class Chart:
    """What to draw.

    Attributes:
        key: The anchor on the page.
        title: The heading.
        unit: What the y axis counts.
        lines: Drawn in this order, later ones on top.
        levels: Named horizontal lines, drawn where they fall on the axis.
        resumes: Steps at which the run was resumed, drawn as vertical lines.
        log: Allow a logarithmic y axis.
        reach: How far the axis follows outliers, see `series.usual`.
        note: A sentence below.
    """

    key: str
    title: str
    unit: str
    lines: tuple[Line, ...]
    levels: tuple[tuple[str, float], ...] = ()
    resumes: tuple[int, ...] = ()
    log: bool = False
    reach: float = 1.0
    note: str = ""

    @cached_property
    def drawn(self) -> tuple[Line, ...]:
        """The curves its lines are drawn as; running means are worked out once."""
        shown = (line for line in self.lines if not line.aside)
        return tuple(one for line in shown for one in expanded(line))


def expanded(line: Line) -> tuple[Line, ...]:
    """The curves that a line is drawn as: a smooth one as its values, faint, and their mean."""
    if not line.smooth:
        return (line,)
    ok = series.drawable(line.y)
    if not ok.any():
        return ()
    counted, window = series.counted(line.y)
    if window == 1:
        return (Line(line.name, line.course, line.y, line.colour),)
    rows = np.flatnonzero(counted)
    mean = Line(
        f"{line.name}, mean of {numerals.count(window)}",
        line.course.at(rows),
        series.smoothed(line.y[rows], window),
        line.colour,
    )
    return (Line(line.name, line.course, line.y, line.colour, "faint"), mean)


def draw(chart: Chart) -> Html:
    """The chart as a `<figure>`; one that says so if nothing can be drawn."""
    scales = chart_scales(chart)
    heading = tag("h3", chart.title, " ", tag("small", chart.unit))
    if scales is None:
        said = tag("p", "Nothing was recorded.", class_="note")
        return tag("figure", tag("figcaption", heading), said, id=chart.key, class_="chart")
    lines = chart.drawn
    horizontal, vertical = scales
    shapes = [_grid(vertical), _resumes(chart, horizontal)]
    labels = [_y_labels(vertical), _x_labels(horizontal)]
    for shape, label in _levels(chart, vertical):
        shapes.append(shape)
        labels.append(label)
    notes = [chart.note] if chart.note else []
    for line in lines:
        drawn, remark = _line(line, horizontal, vertical)
        shapes.append(drawn)
        notes += [remark] if remark else []
    svg = tag(
        "svg",
        *shapes,
        viewBox=f"0 0 {_SIDE} {_SIDE}",
        preserveAspectRatio="none",
        aria_hidden="true",
        focusable="false",
    )
    plot = tag(
        "div",
        svg,
        *labels,
        class_="plot levelled" if chart.levels else "plot",
        role="img",
        aria_label=described(chart),
    )
    return tag(
        "figure",
        tag("figcaption", heading, _legend(chart)),
        plot,
        tag("div", *(tag("p", note, class_="note") for note in notes), class_="notes"),
        id=chart.key,
        class_="chart",
    )


def described(chart: Chart) -> str:
    """The chart in words, for those who do not see it."""
    parts = []
    for line in chart.drawn:
        ok = series.drawable(line.y)
        if line.style == "faint" or not ok.any():
            continue
        x, y = line.x[ok], line.y[ok]
        low = int(np.argmin(y))
        parts.append(
            f"{line.name}: {numerals.significant(y[0])} at step {numerals.count(x[0])}, "
            f"{numerals.significant(y[-1])} at step {numerals.count(x[-1])}, "
            f"lowest {numerals.significant(y[low])} at step {numerals.count(x[low])}"
        )
    return f"Line chart of {chart.title} ({chart.unit}) by step. " + "; ".join(parts) + "."


def chart_scales(chart: Chart) -> tuple[series.Scale, series.Scale] | None:
    """The horizontal and vertical axis of a chart; None if it has nothing to draw."""
    values, always = [np.empty(0)], [np.empty(0)]
    lines = chart.drawn
    smooth = any(line.style == "faint" for line in lines)
    for line in lines:
        must = line.style == "marked" or (smooth and line.style == "plain")
        (always if must else values).append(line.y[series.drawable(line.y)])
    if not any(len(y) for y in (*values, *always)):
        return None
    x = np.concatenate([line.x for line in lines])
    low, high = float(x.min()), float(x.max())
    horizontal = series.linear_scale(low, high, padding=0.012)
    # A step below zero or between two steps does not exist.
    ticks = tuple(t for t in horizontal.ticks if t >= 0 and float(t).is_integer())
    horizontal = series.Scale(horizontal.low, horizontal.high, ticks, horizontal.spacing)
    vertical = series.fitting_scale(
        np.concatenate(values), np.concatenate(always), allow_log=chart.log, reach=chart.reach
    )
    return horizontal, vertical


def _line(line: Line, horizontal: series.Scale, vertical: series.Scale) -> tuple[Html, str]:
    """The curve's shapes, and a remark on what they do not show."""
    ok = series.drawable(line.y)
    x, y = line.x[ok], line.y[ok]
    # Two points belong to one stroke if nothing undrawable was recorded between them.
    stretch = np.cumsum(~ok, dtype=np.intp)[ok]
    kept = series.thin(x, y, _BUCKETS)
    px = np.round(horizontal(x[kept]) * _SIDE).astype(int)
    position = np.clip(vertical(y[kept]), -0.05, 1.05)
    py = np.round((1.0 - position) * _SIDE).astype(int)
    shapes = [_path(px, py, stretch[kept], f"line {line.style} {_hue(line)}")]
    if line.style == "marked" and len(kept) <= _MARKERS:
        dots = "".join(f"M{a} {b}h0" for a, b in zip(px, py, strict=True))
        shapes.append(tag("path", d=dots, class_=f"dots {_hue(line)}"))
    outside = (y > vertical.high) | (y < vertical.low)
    remark = ""
    if outside.any():
        worst = int(np.argmax(np.abs(y - vertical.low)))
        extreme = f"{numerals.significant(y[worst])} at step {numerals.count(x[worst])}"
        remark = f"One value of {line.name} lies beyond the axis: {extreme}."
        if outside.sum() > 1:
            remark = (
                f"{numerals.count(outside.sum())} values of {line.name} lie beyond the axis, "
                f"the farthest {extreme}."
            )
    return join(shapes), remark


def _path(px: IntArray, py: IntArray, stretch: IntArray, classes: str) -> Html:
    """A stroke through the points, lifted where `stretch` changes."""
    if not len(px):
        return Html()
    pieces = []
    for start, end in _runs(stretch):
        pieces.append(f"M{px[start]} {py[start]}")
        if end - start == 1:
            pieces.append("h0")  # a stroke of no length, which round caps turn into a dot
        else:
            pieces.append("L")
            pieces.append(" ".join(f"{px[i]} {py[i]}" for i in range(start + 1, end)))
    return tag("path", d="".join(pieces), class_=classes)


def _runs(values: IntArray) -> list[tuple[int, int]]:
    """The [start, end) of each stretch of equal values."""
    starts = np.flatnonzero(np.diff(values, prepend=values[0] - 1))
    ends = np.append(starts[1:], len(values))
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def _grid(vertical: series.Scale) -> Html:
    rows = [round((1 - y) * _SIDE) for y in vertical(np.array(vertical.ticks))]
    return tag("path", d="".join(f"M0 {y}H{_SIDE}" for y in rows), class_="grid")


def _resumes(chart: Chart, horizontal: series.Scale) -> Html:
    inside = [s for s in chart.resumes if horizontal.low <= s <= horizontal.high]
    if not inside:
        return Html()
    columns = np.round(horizontal(np.array(sorted(set(inside)), dtype=np.float64)) * _SIDE)
    classes = "resume many" if len(columns) > _MANY_RESUMES else "resume"
    return tag("path", d="".join(f"M{int(x)} 0V{_SIDE}" for x in columns), class_=classes)


def _levels(chart: Chart, vertical: series.Scale) -> list[tuple[Html, Html]]:
    """Line and label of each level on the axis; labels of close neighbours are pushed apart."""
    found: list[tuple[Html, Html]] = []
    label = -1.0
    for name, value in sorted(chart.levels, key=lambda level: -level[1]):
        y = 1.0 - float(vertical(np.array([value]))[0])
        if not 0.0 <= y <= 1.0:
            continue
        label = max(y, label + 0.065)  # the height of a label in the lowest plot
        shape = tag("path", d=f"M0 {round(y * _SIDE)}H{_SIDE}", class_="level")
        style = f"top:{_percent(label)}"
        found.append((shape, tag("span", name, class_="level", style=style)))
    return found


def _y_labels(vertical: series.Scale) -> Html:
    return join(
        tag(
            "span",
            numerals.tick(value, value if vertical.log else vertical.spacing),
            class_="y",
            style=f"top:{_percent(1.0 - y)}",
        )
        for value, y in zip(vertical.ticks, vertical(np.array(vertical.ticks)), strict=True)
    )


def _x_labels(horizontal: series.Scale) -> Html:
    return join(
        tag("span", numerals.short(value), class_="x", style=f"left:{_percent(x)}")
        for value, x in zip(horizontal.ticks, horizontal(np.array(horizontal.ticks)), strict=True)
    )


def _legend(chart: Chart) -> Html:
    entries = [
        tag("li", tag("i", class_=f"key {line.style} {_hue(line)}"), line.name)
        for line in chart.drawn
        if len(line.y)
    ]
    if chart.resumes:
        entries.append(tag("li", tag("i", class_="key resumed"), "resumed"))
    return tag("ul", *entries, class_="legend")


def _hue(line: Line) -> str:
    return f"c{line.colour % COLOURS}"


def _percent(position: float) -> str:
    return f"{100 * position:.2f}%" if math.isfinite(position) else "0%"
