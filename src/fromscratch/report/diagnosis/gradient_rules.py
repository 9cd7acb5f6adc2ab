"""What the gradient norms show: a plateau under rising norms, clipping that sets every update."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from fromscratch.report.diagnosis.evidence import Evidence
from fromscratch.report.diagnosis.finding import Finding, Level
from fromscratch.report.diagnosis.jumps import without_outliers
from fromscratch.report.numerals import count, percent, significant

# A plateau is looked for in every fifth of the run; shorter ones pass.
_SPAN = 0.2
_QUARTERS = 4
_LEAST_ROWS = 40
_FLAT = 0.005
_RISEN = 0.02
_RISE = 1.5
# While the rate falls, norms rise and nothing is wrong (Defazio et al. 2023, "When, Why and How
# Much? Adaptive Learning Rate Scheduling by Refinement").
_RATE_HELD = 0.9
_MOSTLY = 0.9
_FAR_ABOVE = 2.0


def plateau(evidence: Evidence) -> list[Finding]:
    """A training loss that stands still while gradient norms rise: often what precedes a break."""
    training = evidence.record.training
    ok = np.isfinite(training.column("loss")) & np.isfinite(training.column("grad_norm"))
    x, loss, norm = training.step[ok], training.column("loss")[ok], training.column("grad_norm")[ok]
    rows = int(_SPAN * len(x))
    if rows < _LEAST_ROWS:
        return []
    calm = without_outliers(loss)
    steps, rates = evidence.column("lr")
    found: list[Finding] = []
    for begin in range(0, len(x) - rows + 1, max(1, rows // 4)):
        part = slice(begin, begin + rows)
        losses = [float(np.median(q)) for q in np.array_split(calm[part], _QUARTERS)]
        norms = [float(np.median(q)) for q in np.array_split(norm[part], _QUARTERS)]
        fall = losses[0] - losses[-1]
        rises = all(a < b for a, b in pairwise(norms))
        still = -_RISEN < fall / max(abs(losses[0]), 1e-12) < _FLAT
        if not still or not rises or norms[-1] < _RISE * norms[0]:
            continue
        if len(steps):
            then, now = np.interp((x[part][0], x[part][-1]), steps, rates)
            if now < _RATE_HELD * then:
                continue
        text = (
            f"From step {count(x[part][0])} to {count(x[part][-1])} the training loss stood still "
            f"({significant(losses[0])}, then {significant(losses[-1])}) while the gradient norm "
            f"rose from {significant(norms[0], 3)} to {significant(norms[-1], 3)}: often what "
            f"comes before a loss breaks; a lower optim.lr from there is the usual cure."
        )
        found.append(Finding("plateau", Level.ALARM, text, "grad_norm", float(x[part][0])))
    return found[-1:]


def mostly_clipped(evidence: Evidence) -> list[Finding]:
    """A threshold below nearly every gradient: it sets the size of the updates, not they."""
    facts = evidence.facts
    _, norms = evidence.column("grad_norm")
    if facts.clipped is None or facts.clipped < _MOSTLY or len(norms) < _LEAST_ROWS:
        return []
    typical = float(np.median(norms))
    if facts.clip and typical < _FAR_ABOVE * facts.clip:
        return []
    limit = f" at {facts.clip:g}" if facts.clip else ""
    text = (
        f"{percent(facts.clipped)} of the logged gradients were clipped{limit}; their median norm "
        f"is {significant(typical, 3)}: the threshold, not the gradient, sets the size of the "
        f"updates. If that is not meant, raise optim.clip and lower optim.lr."
    )
    return [Finding("mostly_clipped", Level.ALARM, text, "clip")]
