"""Which charts a run has, and what is on each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fromscratch.report import series
from fromscratch.report.chart import Chart, Line, chart_scales, draw
from fromscratch.report.facts import Facts
from fromscratch.report.markup import Html, tag
from fromscratch.report.numerals import count, percent, significant
from fromscratch.report.read import FloatArray, RunRecord, number

# The page has six colours; the first is for training.
_COLOURS = 6
# Shorter than this a run needs no closer look at its later part.
_WORTH_ZOOMING = 50


def charts(record: RunRecord, facts: Facts) -> Html:
    """All charts of a run, in the order of the page."""
    loss = loss_chart(record)
    small = [
        bits_chart(record),
        rate_chart(record),
        gradient_chart(record, facts),
        throughput_chart(record, facts),
    ]
    drawn = [draw(chart) for chart in small if chart_scales(chart) is not None]
    missing = [chart.title.lower() for chart in small if chart_scales(chart) is None]
    parts = [tag("div", *drawn, class_="charts")] if drawn else []
    if missing:
        parts.append(tag("p", f"Not recorded: {', '.join(missing)}.", class_="note"))
    return tag("section", tag("h2", "Curves"), _with_closer_look(loss), *parts, id="curves")


def loss_chart(record: RunRecord) -> Chart:
    """Training loss, raw and smoothed, and the loss of every validation set."""
    lines = smoothed_lines("training", record.training.step, record.training.column("loss"))
    return Chart(
        key="loss",
        title="Loss",
        unit="nats per token",
        lines=(*lines, *validation_lines(record, "val_loss")),
        resumes=resumes(record),
        log=True,
    )


def bits_chart(record: RunRecord) -> Chart:
    """Bits per byte of every validation set, with the yardsticks that are not models."""
    others = tuple((y.name, y.bpb) for y in record.yardsticks if not is_this_model(y.name))
    return Chart(
        key="bits",
        title="Bits per byte",
        unit="held-out text, lower is better",
        lines=validation_lines(record, "val_bpb"),
        levels=others,
    )


def rate_chart(record: RunRecord) -> Chart:
    """The learning rate, and that of every group that has another (`muon_lr`, ...)."""
    columns = record.training.columns
    rates = {n: columns[n] for n in columns if n.endswith("_lr")}
    if "lr" in columns:
        # A group with a rate of its own is worth a line; one that follows the others is not.
        usual = columns["lr"]
        others = {n: v for n, v in rates.items() if not np.array_equal(v, usual, equal_nan=True)}
        rates = {"learning rate": usual} | others
    lines = tuple(
        Line(name, record.training.step, values, i)
        for i, (name, values) in enumerate([*rates.items()][:_COLOURS])
    )
    return Chart(key="rate", title="Learning rate", unit="in force at the step", lines=lines)


def gradient_chart(record: RunRecord, facts: Facts) -> Chart:
    """The gradient's norm before clipping, with the line it is clipped at."""
    note = ""
    if facts.clipped is not None:
        limit = f", at a norm of {facts.clip:g}" if facts.clip else ""
        steps = count(len(record.training))
        note = f"Clipped in {percent(facts.clipped)} of {steps} logged steps{limit}."
    norms = record.training.column("grad_norm")
    return Chart(
        key="gradient",
        title="Gradient norm",
        unit="before clipping",
        lines=smoothed_lines("gradient norm", record.training.step, norms),
        levels=clip_levels(record, facts),
        resumes=resumes(record),
        log=True,
        note=note,
    )


def clip_levels(record: RunRecord, facts: Facts) -> tuple[tuple[str, float], ...]:
    """The norms that the gradient is clipped at: the run's, and those of its phases."""
    levels = [("clip", facts.clip)] if facts.clip else []
    train = record.recipe.get("train")
    phases = train.get("phase") if isinstance(train, Mapping) else None
    for phase in phases if isinstance(phases, list) else []:
        if isinstance(phase, Mapping):
            clip, begin = number(phase.get("clip")), number(phase.get("from_step"))
            if clip and begin and np.isfinite((clip, begin)).all():
                levels.append((f"clip from step {count(begin)}", clip))
    return tuple(levels)


def throughput_chart(record: RunRecord, facts: Facts) -> Chart:
    """Tokens a second."""
    speeds = record.training.column("tokens_per_s")
    note = ""
    if facts.tokens_per_s is not None:
        note = f"Median {count(facts.tokens_per_s)} tokens/s"
        whence = f" ({facts.peak_from})" if facts.peak_from else ""
        note += f", {percent(facts.mfu)} of the device's peak FLOP/s{whence}" if facts.mfu else ""
        note += "."
    return Chart(
        key="throughput",
        title="Speed",
        unit="tokens per second",
        lines=smoothed_lines("speed", record.training.step, speeds),
        resumes=resumes(record),
        note=note,
    )


def is_this_model(yardstick: str) -> bool:
    """Whether a yardstick is the run's own model rather than something to compare it with."""
    return yardstick.lower().startswith("this model")


def smoothed_lines(name: str, x: FloatArray, y: FloatArray) -> tuple[Line, ...]:
    """The raw values, faint, and their running mean; the raw values alone if they are few."""
    ok = series.drawable(y)
    if not ok.any():
        return ()
    # One loss of 1e6 would lift the mean of every window that it is in; the chart tells of it.
    low, high = series.usual(y[ok], reach=4.0)
    counted = ok & (y >= low) & (y <= high)
    window = series.smoothing_window(int(counted.sum()))
    if window == 1:
        return (Line(name, x, y),)
    mean = Line(
        f"mean of {count(window)} logged steps", x[counted], series.smoothed(y[counted], window)
    )
    return (Line(name, x, y, style="faint"), mean)


def validation_lines(record: RunRecord, column: str) -> tuple[Line, ...]:
    """One marked line for each validation set that has the column."""
    found = []
    for i, (name, table) in enumerate(record.validation.items()):
        values = table.column(column)
        if series.drawable(values).any():
            label = "held-out" if name == "validation" else f"held-out: {name}"
            found.append(Line(label, table.step, values, 1 + i % (_COLOURS - 1), "marked"))
    return tuple(found)


def resumes(record: RunRecord) -> tuple[int, ...]:
    """The steps at which the run was taken up again."""
    return tuple(e.step for e in record.events if e.kind == "resumed" and e.step is not None)


def _with_closer_look(whole: Chart) -> Html:
    """The chart, and beside it the same without the steep first tenth, which flattens the rest."""
    x = np.concatenate([line.x for line in whole.lines]) if whole.lines else np.empty(0)
    start = float(x.min() + (x.max() - x.min()) / 10) if len(x) else 0.0
    later = tuple(
        replace(line, x=line.x[line.x >= start], y=line.y[line.x >= start]) for line in whole.lines
    )
    if sum(len(line.x) for line in later) < _WORTH_ZOOMING:
        return draw(whole)
    first = f"{whole.key}-whole"
    second = f"{whole.key}-later"
    name = f"{whole.key}-view"
    return tag(
        "div",
        tag("input", type="radio", name=name, id=first, class_="whole", checked=True),
        tag("label", "Whole run", for_=first),
        tag("input", type="radio", name=name, id=second, class_="later"),
        tag("label", f"From step {count(np.ceil(start))}", for_=second),
        draw(whole),
        draw(replace(whole, key=f"{whole.key}-close", lines=later, log=False, reach=0.5)),
        class_="either",
    )


def loss_of(value: float | None) -> str:
    """A loss for a table; a dash for none."""
    return "\u2013" if value is None else significant(value)
