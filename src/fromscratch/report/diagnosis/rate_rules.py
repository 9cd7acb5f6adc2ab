"""What the curves show of the learning rate: a schedule that changed, a rate too high or low."""

from __future__ import annotations

import numpy as np

from fromscratch.report.diagnosis.evidence import SEVERAL, Evidence
from fromscratch.report.diagnosis.finding import Finding, Level
from fromscratch.report.diagnosis.rate_changes import RateChange
from fromscratch.report.numerals import count, significant

# An update of a thousandth of the weights' norm is what a healthy step of Adam makes (Karpathy,
# CS231n notes, "Neural Networks Part 3": "should be somewhere around 1e-3"). Weights that begin
# small go further at first: forty times that, or a thirtieth of it, is no longer usual. Muon's
# updates are of a norm of their own: a few hundredths in the healthy runs measured here.
_USUAL = {"adam": (3e-5, 4e-2), "muon": (3e-4, 2e-1)}
_USUAL_NAME = {"adam": "about 0.001 is usual with Adam", "muon": "some 0.02 is usual with Muon"}
# Rows of health that are judged: while the rate is at least half of its peak.
_NEAR_PEAK = 0.5
_LEAST_LOOKS = 4
_SHOWN = 4


def schedule_change(evidence: Evidence) -> list[Finding]:
    """A learning rate that does what no schedule does, and no phase or event explains."""
    found = []
    for change in evidence.rate_changes:
        first, last = change.before_step, change.step
        if any(first < phase <= last + (last - first) for phase in evidence.phases):
            continue
        text = _change(change)
        purpose = evidence.changed_on_purpose(first, last)
        if purpose is not None:
            text += f", on purpose ({purpose.message or purpose.kind})."
            found.append(Finding("schedule_change", Level.REMARK, text, "lr", last))
            continue
        moved = _loss_moved(change, evidence)
        resumed = ", where the run was resumed" if evidence.resumed_within(first, last) else ""
        text += (
            f"{resumed}: no one schedule does that, and nothing recorded says that it was "
            f"changed there.{moved}"
        )
        found.append(Finding("schedule_change", Level.ALARM, text, "lr", last))
    return found


def rate_too_high(evidence: Evidence) -> list[Finding]:
    """Loss spikes from which the run takes several steps to recover, or updates far too large."""
    spikes = evidence.spikes
    ratio, kind = _update_ratio(evidence)
    too_large = ratio is not None and ratio > _USUAL[kind][1]
    if len(spikes) < SEVERAL and not too_large:
        return []
    parts = []
    if spikes:
        where = ", ".join(count(step) for step in spikes[:_SHOWN])
        more = f" and {count(len(spikes) - _SHOWN)} more" if len(spikes) > _SHOWN else ""
        parts.append(
            f"the training loss spikes at step {where}{more} and takes several logged steps to "
            f"come back"
        )
    if ratio is not None:
        parts.append(
            f"near the peak one update moves a block by {significant(ratio, 2)} of its weights' "
            f"norm ({_USUAL_NAME[kind]})"
        )
    text = "; ".join(parts)
    text = f"{text[0].upper()}{text[1:]}: the learning rate is probably too high; lower optim.lr"
    text += ", warm up longer, or refuse such updates with guard.spike_z=8." if spikes else "."
    chart, step = ("loss", spikes[0]) if len(spikes) >= SEVERAL else ("health", None)
    return [Finding("rate_too_high", Level.ALARM, text, chart, step)]


def rate_too_low(evidence: Evidence) -> list[Finding]:
    """Updates that hardly move the weights, even where the learning rate is highest."""
    ratio, kind = _update_ratio(evidence)
    if ratio is None or ratio >= _USUAL[kind][0]:
        return []
    text = (
        f"Near the peak learning rate one update moves a block by {significant(ratio, 2)} of its "
        f"weights' norm ({_USUAL_NAME[kind]}): the learning rate is probably too low; try a "
        f"several times higher optim.lr."
    )
    return [Finding("rate_too_low", Level.ALARM, text, "health")]


def _change(change: RateChange) -> str:
    before, after = significant(change.before, 3), significant(change.after, 3)
    first, last = count(change.before_step), count(change.step)
    if change.kind == "bend":
        return (
            f"The learning rate bends at step {last} ({after}), from {_slope(change.slope_before)} "
            f"to {_slope(change.slope_after)}"
        )
    word = "drops" if change.after < change.before else "rises"
    text = f"The learning rate {word} at once from {before} at step {first} to {after} at {last}"
    return text + _faster(change)


def _faster(change: RateChange) -> str:
    """How the slope differs, where it went down on both sides."""
    a, b = change.slope_before, change.slope_after
    if not (a < 0 and b < 0) or 0.67 < a / b < 1.5:
        return ""
    factor, word = (a / b, "slowly") if a < b else (b / a, "steeply")
    return f" and goes on falling {significant(factor, 2)} times as {word}"


def _slope(per_step: float) -> str:
    if per_step == 0:
        return "level"
    way = "falling" if per_step < 0 else "rising"
    return f"{way} by {significant(abs(per_step), 2)} a step"


def _loss_moved(change: RateChange, evidence: Evidence) -> str:
    """A jump of the loss at the same place."""
    x = evidence.training[0]
    for jump in evidence.jumps:
        width = 0.25 * jump.reach * float(x[jump.index] - x[jump.index - 1])
        if abs(float(x[jump.index]) - change.step) <= width:
            return (
                f" The training loss goes from {significant(jump.before)} to "
                f"{significant(jump.after)} there."
            )
    return ""


def _update_ratio(evidence: Evidence) -> tuple[float | None, str]:
    """The median ratio of update to weights of the blocks, near the peak rate, and whose it is."""
    kind = "muon" if evidence.of_recipe("optim", "name") == "muon" else "adam"
    steps, rates = evidence.column("lr")
    ratios = []
    for part, table in evidence.record.health.items():
        if not part.startswith("blocks."):
            continue
        values = table.column("update_ratio")
        ok = np.isfinite(values)
        if len(steps):
            near = np.interp(table.step, steps, rates) >= _NEAR_PEAK * float(rates.max())
            ok &= near
        if ok.sum() >= _LEAST_LOOKS:
            ratios.append(float(np.median(values[ok])))
    return (float(np.median(ratios)) if ratios else None), kind
