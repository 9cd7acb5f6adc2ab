"""What happened to the run besides learning: its speed, its interruptions, its refused updates."""

from __future__ import annotations

from collections import Counter

import numpy as np

from fromscratch.report.diagnosis.evidence import Evidence
from fromscratch.report.diagnosis.finding import Finding, Level
from fromscratch.report.diagnosis.jumps import find_jumps
from fromscratch.report.numerals import count, percent, significant

# A change of speed by less than a fifth is a busy neighbour's.
_SLOWER = 0.2
_SLOW_STEP = 0.67
_TIME_LOST = 0.1
_MANY_SKIPPED = 0.01
_COUNTED = {
    "resumed": ("resume", "resumes"),
    "rolled_back": ("rollback", "rollbacks"),
    "skipped_step": ("refused update", "refused updates"),
    "checkpoint_corrupt": ("corrupt checkpoint", "corrupt checkpoints"),
    "interrupted": ("interruption", "interruptions"),
}


def throughput(evidence: Evidence) -> list[Finding]:
    """A lasting loss of speed, or much time spent in slow steps."""
    x, speed = evidence.column("tokens_per_s")
    ok = speed > 0
    x, speed = x[ok], speed[ok]
    if len(speed) < 20:
        return []
    for jump in find_jumps(np.log(speed)):
        before, after = float(np.exp(jump.before)), float(np.exp(jump.after))
        rest = float(np.median(speed[jump.index :]))
        if after < (1 - _SLOWER) * before and rest < (1 - _SLOWER) * before:
            text = (
                f"Training became {percent(1 - after / before)} slower at step "
                f"{count(x[jump.index])}: from {significant(before, 3)} to "
                f"{significant(after, 3)} tokens/s, and stayed so."
            )
            return [Finding("slower", Level.REMARK, text, "speed", float(x[jump.index]))]
    usual = float(np.median(speed))
    slow = speed < _SLOW_STEP * usual
    # In units of a usual step; each logged one stands for the same number of others.
    spent = usual / np.maximum(speed, 1e-6 * usual)
    lost = float((spent[slow] - 1).sum() / spent.sum())
    if lost < _TIME_LOST:
        return []
    text = (
        f"{percent(lost)} of the time was lost in {percent(float(slow.mean()))} of the steps, "
        f"which ran at less than two thirds of the usual {significant(usual, 3)} tokens/s."
    )
    return [Finding("slow_steps", Level.REMARK, text, "speed", float(x[np.argmax(slow)]))]


def interruptions(evidence: Evidence) -> list[Finding]:
    """Resumes, rollbacks and refused updates, in one sentence."""
    events = [e for e in evidence.record.events if e.kind in _COUNTED]
    if not events:
        return []
    counts = Counter(e.kind for e in events)
    parts = []
    for kind, (one, many) in _COUNTED.items():
        if n := counts[kind]:
            steps = list(dict.fromkeys(count(e.step) for e in events if e.kind == kind and e.step))
            where = ", ".join(steps[:3]) + (", \u2026" if len(steps) > 3 else "")
            parts.append(
                f"{count(n)} {one if n == 1 else many}" + (f" (step {where})" if steps else "")
            )
    text = f"On the way: {', '.join(parts)}."
    skipped = counts["skipped_step"]
    serious = counts["rolled_back"] or skipped > _MANY_SKIPPED * max(1, evidence.facts.step)
    level = Level.ALARM if serious else Level.REMARK
    chart = "grad_norm" if skipped or counts["rolled_back"] else "loss"
    return [Finding("interruptions", level, text, chart, events[0].step)]
