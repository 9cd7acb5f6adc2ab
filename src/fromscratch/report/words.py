"""What the curves show, in sentences that lead to the chart that shows it."""

from __future__ import annotations

from fromscratch.report.diagnosis.diagnose import diagnose
from fromscratch.report.facts import Facts
from fromscratch.report.markup import Html, join, tag
from fromscratch.report.record import RunRecord

_CHARTS = {
    "loss": "loss",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "clip": "clipping",
    "speed": "speed",
    "mixture": "mixture",
    "margin": "reward margin",
    "rewards": "rewards",
    "health": "health",
}
"""What a chart is called in a sentence, by its key, which is its anchor."""


def sentences(record: RunRecord, facts: Facts) -> list[Html]:
    """One to eight sentences on the run, the most important first, each with its evidence."""
    return [
        join([f.text, " ", tag("a", f"See {_CHARTS[f.chart]}", href=f"#{f.chart}"), "."])
        for f in diagnose(record, facts)
    ]
