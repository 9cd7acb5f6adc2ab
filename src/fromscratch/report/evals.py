"""Evaluations of the run's model beside the published values of others."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fromscratch.evaluate.records import EvalRecord, Metric
from fromscratch.report.markup import Html, join, tag
from fromscratch.report.numerals import count, significant
from fromscratch.report.shown import Shown

# What a reader looks for first; others of a record follow in its own order.
_FIRST = ("acc_norm", "acc", "centered", "score", "bits_per_byte", "perplexity", "loss")
_ROWS = 120


def evals(runs: Sequence[Shown]) -> Html:
    """A table with one row for each evaluation and number; empty if there are none."""
    rows = [
        _row(run, record, name, metric)
        for run in runs
        for record in latest(run.record.evals)
        for name, metric in _ordered(record)
    ]
    if not rows:
        return Html()
    several = any(run.label for run in runs)
    heads = ["Data", "Measure", "Value", "Others", "Step", "Checkpoint"]
    head = tag("tr", *(tag("th", h, scope="col") for h in (["Run"] if several else []) + heads))
    grid = tag("table", tag("thead", head), tag("tbody", *rows[:_ROWS]), class_="evals")
    note = "The latest of each kind, data, settings and checkpoint; \u00b1 is one standard error."
    if len(rows) > _ROWS:
        note += f" {count(len(rows) - _ROWS)} more rows are in evals.jsonl."
    return tag(
        "section",
        tag("h2", "Evaluations"),
        tag("p", note, class_="note"),
        tag("div", grid, class_="scroll"),
        id="evals",
    )


def latest(records: Sequence[EvalRecord]) -> tuple[EvalRecord, ...]:
    """Of records that measured the same the same way on the same weights, the last."""
    found: dict[tuple[str, ...], EvalRecord] = {}
    for record in records:
        key = (
            str(record.kind),
            str(record.model.sha256),
            record.data.name,
            str(record.data.sha256),
            repr(sorted(record.settings.items(), key=lambda item: str(item[0]))),
        )
        found.pop(key, None)
        found[key] = record
    return tuple(found.values())


def _ordered(record: EvalRecord) -> list[tuple[str, Metric]]:
    rank = {name: i for i, name in enumerate(_FIRST)}
    return sorted(record.metrics.items(), key=lambda item: rank.get(item[0], len(rank)))


def _row(run: Shown, record: EvalRecord, name: str, metric: Metric) -> Html:
    value = significant(metric.value) if math.isfinite(metric.value) else "not finite"
    if metric.stderr is not None and math.isfinite(metric.stderr):
        value += f" \u00b1 {significant(metric.stderr, 2)}"
    about = f" (n = {count(metric.n)})" if metric.n is not None else ""
    others = [
        tag("div", f"{other}: {significant(v)}")
        for other, v in sorted(metric.reference.items(), key=lambda item: -item[1])
        if math.isfinite(v)
    ]
    settings = ", ".join(f"{k} {v}" for k, v in record.settings.items() if not isinstance(v, dict))
    step = record.model.step
    return tag(
        "tr",
        tag("th", run.label, scope="row") if run.label else Html(),
        tag(
            "td",
            record.data.name[:80],
            tag("small", tag("br"), settings[:160]) if settings else Html(),
        ),
        tag("td", name.replace("_", " "), tag("small", about)),
        tag("td", value, class_="number"),
        tag("td", join(others) if others else "\u2013"),
        tag("td", "\u2013" if step is None else count(step), class_="number"),
        tag("td", tag("code", str(record.model.sha256)[:12])),
    )
