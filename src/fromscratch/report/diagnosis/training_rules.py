"""What the training loss shows by itself: its trend, its noise, where it breaks."""

from __future__ import annotations

import numpy as np

from fromscratch.report.diagnosis.evidence import Evidence
from fromscratch.report.diagnosis.finding import Finding, Level
from fromscratch.report.diagnosis.held_out_rules import END, FALLING, rate_fell
from fromscratch.report.diagnosis.jumps import CERTAIN, noise_of, without_outliers
from fromscratch.report.numerals import count, percent, significant
from fromscratch.report.record import FloatArray

# The end of a curve is cut into so many blocks; the means of fewer than 4 values say little.
_BLOCKS = 10
_LEAST_ROWS = 4 * _BLOCKS
# A slope of this many standard errors is a trend.
_SURE = 3.0
# Less than this share of the loss is no noise that anybody would see.
_VISIBLE_NOISE = 0.002
# A mean this share, and this many deviations of one value, above the lowest is another loss.
_DIVERGED = 0.1
_FAR_OUT = 4.0


def no_validation(evidence: Evidence) -> list[Finding]:
    """Nothing was held out, or nothing at all was recorded."""
    if evidence.validations:
        return []
    x, y = evidence.training
    if not len(y):
        text = "No step of training and no validation was recorded."
    elif len(y) == 1:
        text = (
            f"One step was recorded (step {count(x[0])}, loss {significant(y[0])}), no validation."
        )
    else:
        end = evidence.mean_near(x[-1])
        assert end is not None, "the last step is not after itself"
        text = (
            f"No validation was recorded; the training loss went from {significant(y[0])} at step "
            f"{count(x[0])} to {significant(end)} at step {count(x[-1])}, which says nothing about "
            f"text the model has not seen."
        )
    return [Finding("no_validation", Level.STATE, text, "loss")]


def training_trend(evidence: Evidence) -> list[Finding]:
    """Without validations: whether the training loss still falls, or noise hides it.

    A straight line through the means of ten blocks of the last fifth, after its last jump. The
    blocks' own scatter gives its standard error, so values that stray together are not taken for
    many independent ones.
    """
    if len(evidence.validations) > 1:
        return []
    x, y = _end(evidence)
    if len(y) < _LEAST_ROWS:
        return []
    calm = without_outliers(y)
    size = len(calm) // _BLOCKS
    means = calm[len(calm) - size * _BLOCKS :].reshape(_BLOCKS, size).mean(axis=1)
    at = np.arange(_BLOCKS) - (_BLOCKS - 1) / 2
    slope = float((at * means).sum() / (at * at).sum())
    residual = means - means.mean() - slope * at
    error = float(np.sqrt((residual**2).sum() / (_BLOCKS - 2) / (at * at).sum()))
    change, error = slope * (_BLOCKS - 1), error * (_BLOCKS - 1)
    level = abs(float(means.mean()))
    noise = noise_of(calm)
    first, last = count(x[0]), count(x[-1])
    if -change > max(_SURE * error, FALLING * level):
        text = (
            f"The training loss was still falling from step {first} to {last}, by "
            f"{significant(-change, 2)} ({percent(-change / level)})"
        )
        if evidence.facts.state == "running":
            return [Finding("still_falling", Level.STATE, text + ".", "loss", x[0])]
        text += (
            ". The falling learning rate brings part of that; a longer run would probably do "
            "better."
            if rate_fell(evidence, x[0], x[-1])
            else ", so a longer run would very likely do better."
        )
        return [Finding("still_falling", Level.STATE, text, "loss", x[0])]
    if noise > _VISIBLE_NOISE * level and abs(change) < _SURE * error:
        text = (
            f"From step {first} to {last} the training loss changed by {_signed(change)} "
            f"\u00b1 {significant(error, 2)}, while single steps stray by {significant(noise, 2)}: "
            f"the noise is larger than the trend, and whether it still falls cannot be told. "
            f"Held-out text would tell (eval.every)."
        )
        return [Finding("noise", Level.STATE, text, "loss", x[0])]
    return []


def diverged(evidence: Evidence) -> list[Finding]:
    """Without validations: a training loss that ends far above where it has been."""
    x, y = evidence.training
    if len(evidence.validations) > 1 or len(y) < _LEAST_ROWS:
        return []
    calm = without_outliers(y)
    size = max(10, len(calm) // 12)
    means = np.convolve(calm, np.full(size, 1 / size), mode="valid")
    lowest = int(np.argmin(means))
    low, end = float(means[lowest]), float(means[-1])
    if end - low < max(_DIVERGED * abs(low), _FAR_OUT * noise_of(calm)):
        return []
    after = x[lowest + size // 2]
    for jump in evidence.jumps:  # another text has another loss; that is said elsewhere
        known = evidence.stage_at(x[jump.index - 1], x[jump.index]) is not None
        if x[jump.index] >= after and jump.after > jump.before and known:
            return []
    text = (
        f"The training loss was lowest around step {count(after)} ({significant(low)}) and ends at "
        f"{significant(end)}: something went wrong after that; look at the gradient norm and the "
        f"learning rate there, and prefer a checkpoint from before."
    )
    return [Finding("diverged", Level.BROKEN, text, "loss", after)]


def not_finite(evidence: Evidence) -> list[Finding]:
    """Losses that are NaN or infinite."""
    loss = evidence.record.training.columns.get("loss")
    broken = ~np.isfinite(loss) if loss is not None else np.zeros(0, dtype=bool)
    if loss is None or not broken.any():
        return []
    first = float(evidence.record.training.step[int(np.argmax(broken))])
    text = (
        f"{count(broken.sum())} of {count(len(loss))} logged losses are not finite, "
        f"the first at step {count(first)}; they are gaps in the chart."
    )
    if broken.sum() == 1:
        text = f"The loss logged at step {count(first)} is not finite; it is a gap in the chart."
    level = Level.BROKEN if broken[-1] else Level.ALARM
    return [Finding("not_finite", level, text, "loss", first)]


def _end(evidence: Evidence) -> tuple[FloatArray, FloatArray]:
    """The last fifth of the training curve, from the last certain jump in it on."""
    x, y = evidence.training
    if not len(x):
        return x, y
    begin = int(np.searchsorted(x, x[-1] - END * (x[-1] - x[0])))
    for jump in evidence.jumps:
        if jump.score >= CERTAIN:
            begin = max(begin, jump.index)
    return x[begin:], y[begin:]


def _signed(value: float) -> str:
    return ("+" if value > 0 else "\u2212") + significant(abs(value), 2)
