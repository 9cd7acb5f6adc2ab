"""All rules in one order: what a run's record shows, the most important first.

A rule looks at the evidence and returns findings, none for a run that has nothing of it. It never
raises, whatever the files held: they were read by read.py, and what is missing is an empty column.
"""

from __future__ import annotations

from collections.abc import Callable

from fromscratch.report.diagnosis.data_rules import data_switch, tokens_for_the_size
from fromscratch.report.diagnosis.evidence import Evidence
from fromscratch.report.diagnosis.finding import Finding
from fromscratch.report.diagnosis.gradient_rules import mostly_clipped, plateau
from fromscratch.report.diagnosis.held_out_rules import (
    gap,
    held_out_noise,
    held_out_trend,
    unlearning,
)
from fromscratch.report.diagnosis.preference_rules import chosen_forgotten, told_apart
from fromscratch.report.diagnosis.rate_rules import rate_too_high, rate_too_low, schedule_change
from fromscratch.report.diagnosis.running_rules import interruptions, throughput
from fromscratch.report.diagnosis.training_rules import (
    diverged,
    no_validation,
    not_finite,
    training_trend,
)
from fromscratch.report.facts import Facts
from fromscratch.report.record import RunRecord

RULES: tuple[Callable[[Evidence], list[Finding]], ...] = (
    not_finite,
    diverged,
    told_apart,
    chosen_forgotten,
    held_out_trend,
    unlearning,
    rate_too_high,
    plateau,
    data_switch,
    schedule_change,
    rate_too_low,
    mostly_clipped,
    held_out_noise,
    gap,
    no_validation,
    training_trend,
    interruptions,
    tokens_for_the_size,
    throughput,
)
"""In the order in which findings of the same level are said."""

MOST = 8
"""Findings said; nobody reads more."""
_OF_ONE_RULE = 2


def diagnose(record: RunRecord, facts: Facts) -> list[Finding]:
    """What the curves of a run show, at most `MOST` findings, the most important first."""
    evidence = Evidence(record, facts)
    found = [finding for rule in RULES for finding in rule(evidence)[:_OF_ONE_RULE]]
    return sorted(found, key=lambda finding: finding.level)[:MOST]
