"""Which source the training text came from: realised shares against the wanted ones, and epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from fromscratch.report import series
from fromscratch.report.chart import Chart, Line
from fromscratch.report.markup import Html, tag
from fromscratch.report.numerals import count, short
from fromscratch.report.record import FloatArray, RunRecord, number
from fromscratch.report.shown import Shown

# So long a stretch of a run that its share is no longer the noise of a few windows.
_STRETCHES = 60
_SOURCES = 40


def mixture_chart(runs: Sequence[Shown]) -> Chart:
    """The share of each source in the windows drawn, stretch by stretch, and what was wanted."""
    lines: list[Line] = []
    if len(runs) == 1:
        run = runs[0]
        table = run.record.training
        drawn, wanted = table.under("drawn"), table.under("wanted")
        if drawn and len(table) > 1:
            edges = np.unique(np.linspace(0, len(table) - 1, _STRETCHES + 1).astype(np.intp))
            course = run.clock.training.at(edges[1:])
            shares, asked = _shares(drawn, edges), _shares(wanted, edges)
            for i, (name, share) in enumerate(shares.items()):
                lines.append(Line(name, course, share, i))
                if name in asked:
                    lines.append(Line(f"{name}, wanted", course, asked[name], i, "dashed"))
    return Chart(
        key="mixture",
        title="Data mix",
        unit="share of the windows drawn; dashed: wanted",
        lines=tuple(lines),
    )


def epochs_chart(runs: Sequence[Shown]) -> Chart:
    """How often each source has been gone through."""
    lines: list[Line] = []
    for i, run in enumerate(runs):
        for name, values in run.record.training.under("epochs").items():
            if series.drawable(values).any():
                colour = i if run.label else len(lines)
                lines.append(Line(run.called(name), run.clock.training, values, colour))
    return Chart(
        key="epochs",
        title="Epochs",
        unit="times each source was gone through",
        lines=tuple(lines),
    )


def stages(run: Shown) -> Html:
    """Each stage of the data with what was drawn of each source, and what was wanted."""
    table = run.record.training
    drawn, wanted = table.under("drawn"), table.under("wanted")
    tokens = run.clock.training.tokens
    if not drawn or tokens is None or not len(table):
        return Html()
    names = list(drawn)[:_SOURCES]
    borders = [0.0, *(b for b in _borders(run.record) if 0 < b < tokens[-1]), float(tokens[-1])]
    head = tag("tr", *(tag("th", h, scope="col") for h in ("From token", "to", *names)))
    body = []
    for first, last in pairwise(borders):
        took = [_between(drawn[n], tokens, first, last) for n in names]
        asked = [_between(wanted[n], tokens, first, last) if n in wanted else 0.0 for n in names]
        cells = []
        for share, want in zip(_normed(took), _normed(asked), strict=True):
            small = tag("small", f" ({_share(want)})") if np.isfinite(want) else Html()
            cells.append(tag("td", _share(share), small))
        body.append(tag("tr", tag("th", short(first), scope="row"), tag("td", short(last)), *cells))
    epochs = {n: v for n, v in table.under("epochs").items() if np.isfinite(v).any()}
    if epochs:
        cells = [
            tag("td", f"{np.nanmax(epochs[n]):.2f}" if n in epochs else "\u2013") for n in names
        ]
        body.append(tag("tr", tag("th", "Epochs", scope="row"), tag("td"), *cells))
    grid = tag("table", tag("thead", head), tag("tbody", *body))
    rest = len(drawn) - len(names)
    return tag(
        "section",
        tag("h2", "Data by stage"),
        tag(
            "p", "Share of the windows drawn from each source (in brackets: wanted).", class_="note"
        ),
        tag("div", grid, class_="scroll numbers"),
        tag("p", f"{count(rest)} more sources.", class_="note") if rest else Html(),
        id="stages",
        data_part="stages",
    )


def _shares(columns: Mapping[str, FloatArray], edges: series.IntArray) -> dict[str, FloatArray]:
    """Of each source its share of what was drawn between each edge and the next."""
    gained = {}
    for name, values in list(columns.items())[:_SOURCES]:
        known = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        gained[name] = np.maximum(np.diff(np.maximum.accumulate(known)[edges]), 0.0)
    total = np.sum(list(gained.values()), axis=0) if gained else np.empty(0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return {name: values / total for name, values in gained.items()}


def _borders(record: RunRecord) -> list[float]:
    """Tokens at which the recipe's stages begin."""
    data = record.recipe.get("data")
    found = data.get("stage") if isinstance(data, Mapping) else None
    values = [
        number(stage.get("from_tokens"))
        for stage in (found if isinstance(found, list) else [])
        if isinstance(stage, Mapping)
    ]
    return sorted(v for v in values if v is not None and np.isfinite(v))


def _between(values: FloatArray, tokens: FloatArray, first: float, last: float) -> float:
    known = np.isfinite(values)
    if not known.any():
        return 0.0
    start, end = np.interp(
        (first, last), np.append(0.0, tokens[known]), np.append(0.0, values[known])
    )
    return float(end - start)


def _normed(values: list[float]) -> list[float]:
    total = sum(values)
    return [v / total if total > 0 and np.isfinite(total) else float("nan") for v in values]


def _share(value: float) -> str:
    return f"{value:.1%}" if np.isfinite(value) else "\u2013"
