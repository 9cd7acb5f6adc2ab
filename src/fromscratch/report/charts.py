"""Which charts a page has, and what is on each.

A function here takes the runs of the page and gives a `Chart`. Of one run each curve has a colour
of its own; of several each run has one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fromscratch.evaluate.hellaswag_references import ALL_ITEMS, REFERENCES, Style
from fromscratch.report import series
from fromscratch.report.chart import Chart, Line, chart_scales, draw
from fromscratch.report.facts import Facts
from fromscratch.report.markup import Html, tag
from fromscratch.report.mixture import epochs_chart, mixture_chart
from fromscratch.report.numerals import count, percent, significant
from fromscratch.report.preference import has_pairs, preference_charts
from fromscratch.report.record import FloatArray, RunRecord, number
from fromscratch.report.shown import Shown

Runs = Sequence[Shown]

_GUESSING = ("guessing", 0.25)  # among four endings


def all_charts(runs: Runs) -> tuple[Chart, ...]:
    """Every chart of the page in its order, also those without anything on them."""
    return (
        loss_chart(runs),
        bits_chart(runs),
        perplexity_chart(runs),
        *preference_charts(runs),
        hellaswag_chart(runs),
        rate_chart(runs),
        *scheduled_charts(runs),
        gradient_chart(runs),
        clip_chart(runs),
        speed_chart(runs),
        mfu_chart(runs),
        memory_chart(runs),
        mixture_chart(runs),
        epochs_chart(runs),
    )


def charts(made: Sequence[Chart]) -> Html:
    """The charts as a section: the loss large, the others beside each other."""
    drawn = {chart.key: draw(chart) for chart in made if chart_scales(chart) is not None}
    first = drawn.pop("loss", None) or draw(made[0])
    always = ("bpb", "lr", "grad_norm", "speed")
    missing = [c.title.lower() for c in made if c.key in always and c.key not in drawn]
    parts = [tag("div", *drawn.values(), class_="charts")] if drawn else []
    if missing:
        parts.append(tag("p", f"Not recorded: {', '.join(missing)}.", class_="note"))
    return tag(
        "section",
        tag("h2", "Curves"),
        tag("div", id="controls"),
        tag("div", first, class_="large"),
        *parts,
        id="curves",
    )


def loss_chart(runs: Runs) -> Chart:
    """Training loss, raw and smoothed, and the loss of every validation set."""
    lines = [*_logged(runs, "loss", "training"), *validation_lines(runs, "val_loss")]
    return Chart(
        key="loss",
        title="Loss",
        unit="nats per pair" if any(map(has_pairs, runs)) else "nats per token",
        lines=tuple(lines),
        resumes=resumes(runs),
        log=True,
    )


def bits_chart(runs: Runs) -> Chart:
    """Bits per byte of every validation set, with the yardsticks that are not models."""
    others = {y.name: y.bpb for r in runs for y in r.record.yardsticks if not is_this_model(y.name)}
    return Chart(
        key="bpb",
        title="Bits per byte",
        unit=f"{_held_out(runs)}, lower is better",
        lines=validation_lines(runs, "val_bpb"),
        levels=tuple(others.items()),
    )


def _held_out(runs: Runs) -> str:
    return "held-out chosen answers" if any(map(has_pairs, runs)) else "held-out text"


def perplexity_chart(runs: Runs) -> Chart:
    """Perplexity of every validation set."""
    return Chart(
        key="perplexity",
        title="Perplexity",
        unit=_held_out(runs),
        lines=validation_lines(runs, "val_ppl"),
        log=True,
    )


def hellaswag_chart(runs: Runs) -> Chart:
    """HellaSwag while training, with what others reach."""
    lines: list[Line] = []
    for i, run in enumerate(runs):
        for column, name in (("hellaswag_acc_norm", "acc_norm"), ("hellaswag_acc", "acc")):
            values = run.record.tasks.column(column)
            if series.drawable(values).any():
                colour = i if run.label else len(lines)
                course = run.clock.course(run.record.tasks)
                lines.append(Line(run.called(name), course, values, colour, "marked"))
    sizes = [run.record.tasks.column("hellaswag_n") for run in runs]
    most = max((float(n[np.isfinite(n)].max()) for n in sizes if np.isfinite(n).any()), default=0)
    note = ""
    levels = _hellaswag_levels(runs)
    if 0 < most < ALL_ITEMS:
        error = significant(0.5 * most**-0.5, 2)
        note = f"Of {count(most)} items; one standard error is about {error}."
        note += "".join(
            f" {name}'s {value} is of all {count(ALL_ITEMS)}." for name, value in levels[:-1]
        )
    return Chart(
        key="hellaswag",
        title="HellaSwag",
        unit="accuracy while training",
        lines=tuple(lines),
        levels=levels,
        note=note,
    )


def _hellaswag_levels(runs: Runs) -> tuple[tuple[str, float], ...]:
    """What GPT-2 small scores under the runs' protocol, if they have one, and guessing."""
    styles = set()
    for run in runs:
        table = run.record.recipe.get("eval")
        asked = table.get("hellaswag_style") if isinstance(table, Mapping) else None
        styles.add("harness" if asked == "harness" else "completion")
    if len(styles) > 1:
        return (_GUESSING,)
    name = "GPT-2 124M"
    style: Style = "harness" if "harness" in styles else "completion"
    return ((name, REFERENCES[style]["acc_norm"][name]), _GUESSING)


def rate_chart(runs: Runs) -> Chart:
    """The learning rate of every group of parameters; groups with the same one share a line."""
    lines: list[Line] = []
    for i, run in enumerate(runs):
        for names, values in _rates(run.record):
            colour = i if run.label else len(lines)
            lines.append(
                Line(
                    run.called(names),
                    run.clock.training,
                    values,
                    colour,
                    "dashed" if run.label and lines and lines[-1].colour == i else "plain",
                )
            )
    return Chart(
        key="lr", title="Learning rate", unit="in force at the step", lines=tuple(lines), log=True
    )


def _rates(record: RunRecord) -> Iterator[tuple[str, FloatArray]]:
    """The rates that differ, each with the names of the groups that have it."""
    columns = record.training.columns
    found: list[tuple[list[str], FloatArray]] = []
    named = {n.removesuffix("_lr"): values for n, values in columns.items() if n.endswith("_lr")}
    if "lr" in columns:
        named[""] = columns["lr"]
    for name, values in named.items():
        same = next((f for f in found if np.array_equal(f[1], values, equal_nan=True)), None)
        if same is None:
            found.append(([name], values))
        else:
            same[0].append(name)
    for names, values in found:
        if series.drawable(values).any():
            groups = ", ".join(n for n in names if n)
            yield (groups if groups and len(found) > 1 else "learning rate"), values


def scheduled_charts(runs: Runs) -> Iterator[Chart]:
    """Weight decay and momentum where they change; a constant is in the recipe."""
    for key, title in (("weight_decay", "Weight decay"), ("momentum", "Momentum")):
        lines: list[Line] = []
        for i, run in enumerate(runs):
            table = run.record.training
            found = table.under(key) or ({"": table.columns[key]} if key in table.columns else {})
            for name, values in found.items():
                known = values[series.drawable(values)]
                if len(known) and known.min() != known.max():
                    colour = i if run.label else len(lines)
                    lines.append(Line(run.called(name or key), run.clock.training, values, colour))
        yield Chart(key=key, title=title, unit="in force at the step", lines=tuple(lines))


def gradient_chart(runs: Runs) -> Chart:
    """The gradient's norm before clipping, with the line it is clipped at."""
    levels = dict.fromkeys(level for run in runs for level in clip_levels(run.record, run.facts))
    return Chart(
        key="grad_norm",
        title="Gradient norm",
        unit="before clipping",
        lines=_logged(runs, "grad_norm", "gradient norm"),
        levels=tuple(levels),
        resumes=resumes(runs),
        log=True,
    )


def clip_chart(runs: Runs) -> Chart:
    """The share of updates whose gradient was clipped."""
    lines, notes = [], []
    for i, run in enumerate(runs):
        table, facts = run.record.training, run.facts
        flags = clipped_flags(run.record, facts)
        if facts.clipped is None or not np.isfinite(flags).any():
            continue
        known = np.flatnonzero(np.isfinite(flags))
        edges = np.unique(np.linspace(0, len(known), min(len(known), 100) + 1).astype(np.intp))
        share = np.add.reduceat(flags[known], edges[:-1]) / np.diff(edges)
        course = run.clock.training.at(known[edges[1:] - 1])
        lines.append(Line(run.called("clipped"), course, share, i))
        limit = f", at a norm of {facts.clip:g}" if facts.clip else ""
        text = f"clipped in {percent(facts.clipped)} of {count(len(table))} logged steps{limit}."
        notes.append(run.called(text) if run.label else text.capitalize())
    return Chart(
        key="clip",
        title="Clipped gradients",
        unit="share of steps, by hundredth of the run",
        lines=tuple(lines),
        note=" ".join(notes),
    )


def clipped_flags(record: RunRecord, facts: Facts) -> FloatArray:
    """1.0 for each clipped step, 0.0 for others, NaN where nothing tells."""
    flags = record.training.column("clipped")
    if np.isfinite(flags).any():
        return np.where(np.isfinite(flags), flags > 0, np.nan)
    norms = record.training.column("grad_norm")
    if not facts.clip:
        return np.full(len(norms), np.nan)
    return np.where(np.isfinite(norms), norms > facts.clip, np.nan)


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


def speed_chart(runs: Runs) -> Chart:
    """Tokens a second."""
    notes = [
        run.called(f"median {count(run.facts.tokens_per_s)} tokens/s.").capitalize()
        if not run.label
        else run.called(f"median {count(run.facts.tokens_per_s)} tokens/s.")
        for run in runs
        if run.facts.tokens_per_s is not None
    ]
    return Chart(
        key="speed",
        title="Speed",
        unit="tokens per second",
        lines=_logged(runs, "tokens_per_s", "speed"),
        resumes=resumes(runs),
        note=" ".join(notes),
    )


def mfu_chart(runs: Runs) -> Chart:
    """The share of the device's arithmetic peak."""
    notes = []
    for run in runs:
        if run.facts.mfu:
            whence = f" ({run.facts.peak_from})" if run.facts.peak_from else ""
            notes.append(
                run.called(f"{percent(run.facts.mfu)} of the device's peak FLOP/s{whence}.")
            )
    return Chart(
        key="mfu",
        title="Model FLOPs utilisation",
        unit="share of the device's peak",
        lines=_logged(runs, "mfu", "MFU"),
        note=" ".join(notes),
    )


def memory_chart(runs: Runs) -> Chart:
    """Memory in use on the device."""
    lines = [
        Line(run.called("memory"), run.clock.training, values, i)
        for i, run in enumerate(runs)
        if (values := memory_gb(run.record)) is not None
    ]
    return Chart(key="memory", title="Memory", unit="GB on the device", lines=tuple(lines))


def memory_gb(record: RunRecord) -> FloatArray | None:
    """Gigabytes by row, by whichever name they were logged; None if they were not."""
    for name, scale in (("memory_bytes", 1e-9), ("memory_gb", 1.0), ("gpu_gb", 1.0)):
        if name in record.training.columns:
            return record.training.columns[name] * scale
    plain = record.training.columns.get("memory")
    if plain is None or not series.drawable(plain).any():
        return None
    # Nobody has a million gigabytes, and nothing trains in a million bytes.
    return plain * (1e-9 if float(np.nanmax(plain[series.drawable(plain)])) > 1e6 else 1.0)


def is_this_model(yardstick: str) -> bool:
    """Whether a yardstick is the run's own model rather than something to compare it with."""
    return yardstick.lower().startswith("this model")


def validation_lines(runs: Runs, column: str) -> tuple[Line, ...]:
    """One marked line for each validation set that has the column.

    Of several runs, which have one colour each, the lines of sources would be one tangle: only the
    main set is drawn at once.
    """
    found: list[Line] = []
    for i, run in enumerate(runs):
        for name, table in run.record.validation.items():
            values = table.column(column)
            if series.drawable(values).any():
                label = run.called("held-out" if name == "validation" else f"held-out: {name}")
                colour = i if run.label else 1 + len(found)
                aside = bool(run.label) and name != run.facts.validation_set
                course = run.clock.course(table)
                found.append(Line(label, course, values, colour, "marked", aside=aside))
    return tuple(found)


def resumes(runs: Runs) -> tuple[int, ...]:
    """The steps at which the run was taken up again; of several runs nobody could tell whose."""
    if len(runs) != 1:
        return ()
    events = runs[0].record.events
    return tuple(e.step for e in events if e.kind == "resumed" and e.step is not None)


def _logged(runs: Runs, column: str, name: str) -> tuple[Line, ...]:
    """A column of the training rows, smoothed, for each run that has it."""
    return tuple(
        Line(run.called(name), run.clock.training, values, i, smooth=True)
        for i, run in enumerate(runs)
        if series.drawable(values := run.record.training.column(column)).any()
    )


def loss_of(value: float | None) -> str:
    """A loss for a table; a dash for none."""
    return "\u2013" if value is None else significant(value)
