"""The numbers of the charts as the page's script reads them.

In: charts. Out: one JSON value. An array stands in it once, however many curves share it: evenly
spaced numbers as two numbers, others as base64 of little-endian float32, so that the 100,000 rows
of a long run stay within some megabytes. What always holds: up to `_VALUES` numbers, every recorded
point is there; of more, so many that no extreme of any of `_BUCKETS` stretches is lost.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from fromscratch.report import series
from fromscratch.report.chart import COLOURS, Chart, Line, chart_scales
from fromscratch.report.course import Course
from fromscratch.report.numerals import count
from fromscratch.report.record import FloatArray
from fromscratch.report.series import IntArray
from fromscratch.report.shown import Shown

# 1.2 million numbers are about six megabytes.
_VALUES = 1_200_000
# A curve that nobody smooths is thinned beyond this many stretches, four points in each.
_BUCKETS = 2000
_LARGEST = float(np.finfo(np.float32).max)
# Events that a chart has a mark for, and the most of them.
_MARKED = {
    "resumed": "resumed",
    "rolled_back": "rolled back",
    "skipped_step": "step left out",
    "phase": "phase",
    "failed": "failed",
}
_MARKS = 400


def chart_data(charts: Sequence[Chart], runs: Sequence[Shown]) -> dict[str, Any]:
    """What the page's script needs to draw the charts.

    Returns:
        `arrays`, `charts` (lines name their arrays by index), `marks` (events by step), `courses`
        (the axes of each run's training rows), `thinned` (a sentence; empty if nothing is missing).
    """
    store = _Store()
    shown = [chart for chart in charts if chart_scales(chart) is not None]
    lines = [line for chart in shown for line in chart.lines if line.smooth]
    budget = max(4000, _VALUES // max(1, len(lines) + 3 * len(runs)))
    kept = {id(run.clock.training): _rows(run.clock.training, lines, budget) for run in runs}
    missing = [
        f"{run.record.name}: {count(len(rows))} of {count(len(run.clock.training))} logged steps"
        for run in runs
        if (rows := kept[id(run.clock.training)]) is not None
    ]
    return {
        "charts": [_chart(chart, store, kept) for chart in shown],
        "courses": [_axes(run.clock.training, store, _coarse(run.clock.training)) for run in runs],
        "marks": _marks(runs),
        "thinned": "; ".join(missing),
        "arrays": store.encoded,
    }


class _Store:
    """Arrays by identity, each encoded once."""

    def __init__(self) -> None:
        self.encoded: list[dict[str, Any]] = []
        # The array is kept beside its index: an identity is free again once its owner is gone.
        self._known: dict[tuple[int, int], tuple[int, object, object]] = {}

    def put(self, values: FloatArray, rows: IntArray | None) -> int:
        key = (id(values), id(rows))
        if key not in self._known:
            self._known[key] = (len(self.encoded), values, rows)
            self.encoded.append(encoded(values if rows is None else values[rows]))
        return self._known[key][0]


def encoded(values: FloatArray) -> dict[str, Any]:
    """An array as JSON.

    `{n, a, d}` for a, a + d, ...; `{f}` for float32, `{F}` for float64 (whole numbers beyond
    2**24), `{v}` for a short one.
    """
    n = len(values)
    if n and np.isfinite(values).all():
        step = float(values[1] - values[0]) if n > 1 else 0.0
        if np.array_equal(values, values[0] + step * np.arange(n)):
            return {"n": n, "a": float(values[0]), "d": step}
    finite = np.where(series.drawable(values), values, np.nan)
    whole = finite == np.round(finite)
    fits = np.abs(finite) <= np.where(whole, 2**24, _LARGEST)
    if n < 64:
        return {"v": [None if np.isnan(v) else float(f"{v:.12g}") for v in finite]}
    small = bool(np.all(fits | np.isnan(finite)))
    data = finite.astype("<f4" if small else "<f8").tobytes()
    return {"f" if small else "F": base64.b64encode(data).decode("ascii")}


def _chart(chart: Chart, store: _Store, kept: dict[int, IntArray | None]) -> dict[str, Any]:
    scales = chart_scales(chart)
    return {
        "key": chart.key,
        "log": bool(scales and scales[1].log),
        "reach": chart.reach,
        "levels": [[name, value] for name, value in chart.levels if np.isfinite(value)],
        "lines": [_line(line, store, kept) for line in chart.lines],
    }


def _line(line: Line, store: _Store, kept: dict[int, IntArray | None]) -> dict[str, Any]:
    rows = kept.get(id(line.course))
    if not line.smooth and len(line.y) > 4 * _BUCKETS:
        rows = _thinned(line)
    colour = f"c{line.colour % COLOURS}"
    return {
        "name": line.name,
        "style": "dashed" if line.colour >= COLOURS and line.style == "plain" else line.style,
        "colour": colour,
        "smooth": line.smooth,
        "aside": line.aside,
        "y": store.put(line.y, rows),
        **_axes(line.course, store, rows),
    }


def _axes(course: Course, store: _Store, rows: IntArray | None) -> dict[str, int | None]:
    axes = {"step": course.step, "tokens": course.tokens, "hours": course.hours}
    return {k: None if values is None else store.put(values, rows) for k, values in axes.items()}


def _rows(course: Course, lines: Sequence[Line], budget: int) -> IntArray | None:
    """Which rows of a course to show for all its smoothed lines together; None for all."""
    if len(course) <= budget:
        return None
    mine = [line.y for line in lines if line.course is course]
    buckets = budget // 4
    while True:
        rows = np.unique(
            np.concatenate(
                [np.array([0, len(course) - 1]), *(_extremes(course, y, buckets) for y in mine)]
            )
        )
        if len(rows) <= budget or buckets <= 100:
            return rows
        buckets //= 2


def _extremes(course: Course, y: FloatArray, buckets: int) -> IntArray:
    ok = np.flatnonzero(series.drawable(y))
    return np.asarray(ok[series.thin(course.step[ok], y[ok], buckets)]) if len(ok) else ok


def _thinned(line: Line) -> IntArray:
    return _extremes(line.course, line.y, _BUCKETS)


def _coarse(course: Course) -> IntArray | None:
    """Enough rows to find the place of an event on another axis."""
    if len(course) <= _BUCKETS:
        return None
    return np.unique(np.linspace(0, len(course) - 1, _BUCKETS).astype(np.intp))


def _marks(runs: Sequence[Shown]) -> list[dict[str, Any]]:
    """What happened to a run, for vertical lines; of several runs nobody could tell whose."""
    if len(runs) != 1:
        return []
    events = [e for e in runs[0].record.events if e.kind in _MARKED and e.step is not None]
    return [
        {"step": event.step, "kind": event.kind, "name": _MARKED[event.kind]}
        for event in events[:_MARKS]
    ]
