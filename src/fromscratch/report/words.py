"""What the curves show, in sentences with their evidence.

The thresholds are constants below, with the reason for each. They are about what a reader would
call visible on the chart, not about statistics.
"""

from __future__ import annotations

import numpy as np

from fromscratch.report import series
from fromscratch.report.facts import Facts, Validation, validations_of
from fromscratch.report.numerals import count, percent, significant
from fromscratch.report.read import FloatArray, RunRecord

# The end of a run is its last fifth: as long as a usual decay of the learning rate.
_END = 0.2
# Less than this over the last fifth is flat to the eye.
_FALLING = 0.005
# A rise of this much above the best is no longer the noise of one validation.
_RISEN = 0.01
# Training this far below held-out loss is memorising rather than the noise of a batch.
_FAR_BELOW = 0.05


def sentences(record: RunRecord, facts: Facts) -> list[str]:
    """One to four sentences on the run, the most important first."""
    training = _finite_training(record)
    name = facts.validation_set
    measured = validations_of(record.validation[name]) if name is not None else ()
    points = [v for v in measured if v.loss is not None]
    said: list[str] = []
    if not points:
        said.append(_without_validation(training))
    elif len(points) == 1:
        only = points[0]
        said.append(
            f"There was one validation only, at step {count(only.step)} "
            f"(loss {significant(_loss(only))}), so nothing can be said about a trend."
        )
    else:
        said.append(_trend(points, record, facts))
    gap = _gap(points, training)
    said += [gap] if gap else []
    broken = _not_finite(record)
    said += [broken] if broken else []
    return said


def mean_near(training: tuple[FloatArray, FloatArray], step: float) -> float | None:
    """The training loss around `step`: the mean of the logged steps up to it, 2% of all of them."""
    x, y = training
    end = int(np.searchsorted(x, step, side="right"))
    start = max(0, end - max(1, series.smoothing_window(len(y))))
    return float(y[start:end].mean()) if end > start else None


def _finite_training(record: RunRecord) -> tuple[FloatArray, FloatArray]:
    loss = record.training.column("loss")
    ok = series.drawable(loss)
    return record.training.step[ok], loss[ok]


def _loss(validation: Validation) -> float:
    assert validation.loss is not None, "only measured validations are compared"
    return validation.loss


def _without_validation(training: tuple[FloatArray, FloatArray]) -> str:
    x, y = training
    if not len(y):
        return "No step of training and no validation was recorded."
    if len(y) == 1:
        return (
            f"One step was recorded (step {count(x[0])}, loss {significant(y[0])}), no validation."
        )
    end = mean_near(training, x[-1])
    assert end is not None, "the last step is not after itself"
    return (
        f"No validation was recorded; the training loss went from {significant(y[0])} at step "
        f"{count(x[0])} to {significant(end)} at step {count(x[-1])}, which says nothing about "
        f"text the model has not seen."
    )


def _trend(points: list[Validation], record: RunRecord, facts: Facts) -> str:
    last, best = points[-1], min(points, key=_loss)
    now = "so far" if facts.state == "running" else "at the end"
    if _loss(last) > _loss(best) * (1 + _RISEN):
        return _risen(best, last, _finite_training(record))
    threshold = last.step - _END * (last.step - points[0].step)
    before = min(points[:-1], key=lambda v: abs(v.step - threshold))
    drop = (_loss(before) - _loss(last)) / max(abs(_loss(before)), 1e-12)
    figures = (
        f"{significant(_loss(before))} at step {count(before.step)}, "
        f"{significant(_loss(last))} at step {count(last.step)}"
    )
    if drop < _FALLING:
        return (
            f"The held-out loss is flat {now} ({figures}); its best was "
            f"{significant(_loss(best))} at step {count(best.step)}."
        )
    text = f"The held-out loss was still falling {now}: {figures} ({percent(drop)} less)"
    if facts.state == "running":
        return text + "."
    if _rate_fell(record, before.step, last.step):
        return (
            text + ". The falling learning rate brings part of that drop; "
            "a longer run would probably still do better."
        )
    return text + ", so a longer run would very likely do better."


def _risen(best: Validation, last: Validation, training: tuple[FloatArray, FloatArray]) -> str:
    text = (
        f"The held-out loss was best at step {count(best.step)} ({significant(_loss(best))}) and "
        f"has risen to {significant(_loss(last))} at step {count(last.step)}"
    )
    then, since = mean_near(training, best.step), mean_near(training, last.step)
    if then is None or since is None:
        return text + ": prefer the checkpoint of the best step."
    figures = f"from {significant(then)} to {significant(since)}"
    if since < then:
        return (
            f"{text} while the training loss fell on ({figures}): since then the model memorises "
            f"its training text. Prefer the checkpoint of step {count(best.step)}."
        )
    return (
        f"{text}, and so has the training loss ({figures}): something went wrong after the best "
        f"step; look at the gradient norm and the learning rate there."
    )


def _rate_fell(record: RunRecord, start: int, end: int) -> bool:
    rate = record.training.column("lr")
    known = np.isfinite(rate)
    x, y = record.training.step[known], rate[known]
    inside = y[(x >= start) & (x <= end)]
    return len(inside) > 1 and bool(inside[-1] < 0.5 * inside[0])


def _gap(points: list[Validation], training: tuple[FloatArray, FloatArray]) -> str:
    if not points:
        return ""
    last = points[-1]
    trained = mean_near(training, last.step)
    if trained is None or last.step == 0:
        return ""
    below = _loss(last) - trained
    figures = f"{significant(trained)} against {significant(_loss(last))}"
    if below > _FAR_BELOW * _loss(last):
        return (
            f"The training loss is far below the held-out loss ({figures}): the model knows its "
            f"training text better than the language."
        )
    if below < -_FAR_BELOW * _loss(last):
        return (
            f"The training loss is above the held-out loss ({figures}), as dropout or an easier "
            f"held-out text can make it."
        )
    return f"Training and held-out loss are close ({figures}): no sign of memorising."


def _not_finite(record: RunRecord) -> str:
    loss = record.training.columns.get("loss")
    if loss is None:
        return ""
    broken = ~np.isfinite(loss)
    if not broken.any():
        return ""
    first = record.training.step[int(np.argmax(broken))]
    if broken.sum() == 1:
        return f"The loss logged at step {count(first)} is not finite; it is a gap in the chart."
    return (
        f"{count(broken.sum())} of {count(len(loss))} logged losses are not finite, "
        f"the first at step {count(first)}; they are gaps in the chart."
    )
