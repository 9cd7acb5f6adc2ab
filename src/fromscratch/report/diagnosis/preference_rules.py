"""What a run on preferences shows: how well answers are told apart, and at what cost."""

from __future__ import annotations

from fromscratch.report import series
from fromscratch.report.diagnosis.evidence import Evidence
from fromscratch.report.diagnosis.finding import Finding, Level
from fromscratch.report.numerals import count, percent, significant

# As many nats less in all: a chosen answer has become e times less likely than it was.
_FORGOTTEN = 1.0


def told_apart(evidence: Evidence) -> list[Finding]:
    """How many of the held-out pairs the model tells apart, and how that has changed."""
    found = _course(evidence, "val_accuracy")
    if found is None:
        return []
    (first, before), (last, now) = found
    text = f"Of the held-out pairs {percent(now)} are told apart at step {count(last)}"
    if last > first:
        text += f", {percent(before)} at step {count(first)}"
    margin = evidence.facts.margin
    if margin is not None:
        text += f"; the reward margin is {significant(margin)}"
    if now <= 0.5 and last > first:
        text += ". That is no better than a coin: raise optim.lr, or look at the pairs"
        return [Finding("not_told_apart", Level.ALARM, text + ".", "margin", last)]
    return [Finding("told_apart", Level.STATE, text + ".", "margin", last)]


def chosen_forgotten(evidence: Evidence) -> list[Finding]:
    """Under DPO the chosen answers may become less likely, too (Razin et al. 2024)."""
    beta = evidence.of_recipe("preference", "beta")
    found = _course(evidence, "val_reward_chosen")
    is_dpo = evidence.of_recipe("train", "objective") == "dpo"
    if found is None or not is_dpo or not isinstance(beta, int | float) or beta <= 0:
        return []
    last, reward = found[1]
    nats = -reward / beta
    if nats < _FORGOTTEN:
        return []
    text = (
        f"The chosen answers have become less likely too, by {significant(nats)} nats each at step "
        f"{count(last)}: the model learns what not to say, and forgets some of what to say. A "
        f"higher preference.beta or a lower optim.lr keeps it closer to where it began."
    )
    return [Finding("chosen_forgotten", Level.STATE, text, "rewards", last)]


def _course(evidence: Evidence, column: str) -> tuple[tuple[float, float], ...] | None:
    """Step and value of the first and of the last validation that has a number there."""
    table = evidence.record.validation.get(evidence.facts.validation_set or "")
    if table is None:
        return None
    values = table.column(column)
    ok = series.drawable(values)
    if not ok.any():
        return None
    steps, values = table.step[ok], values[ok]
    return (float(steps[0]), float(values[0])), (float(steps[-1]), float(values[-1]))
