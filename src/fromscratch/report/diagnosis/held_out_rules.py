"""What the held-out loss shows, by itself and beside the training loss."""

from __future__ import annotations

import numpy as np

from fromscratch.report.diagnosis.evidence import Evidence
from fromscratch.report.diagnosis.finding import Finding, Level
from fromscratch.report.facts import Validation
from fromscratch.report.numerals import count, percent, significant

# The end of a run is its last fifth: as long as a usual decay of the learning rate.
END = 0.2
# Less than this over the last fifth is flat to the eye.
FALLING = 0.005
# A rise of this much above the best is no longer the noise of one validation.
_RISEN = 0.01
# Nor is what is below this many standard deviations of a single validation.
_ABOVE_NOISE = 3.0
# Training this far below held-out loss is memorising rather than the noise of a batch.
_FAR_BELOW = 0.05
# So many validations show how far one strays from its neighbours.
_ENOUGH = 6


def held_out_trend(evidence: Evidence) -> list[Finding]:
    """Whether the held-out loss rises, is flat or still falls; overfitting, if it rises alone."""
    points = evidence.validations
    if not points:
        return []
    if len(points) == 1:
        text = (
            f"There was one validation only, at step {count(points[0].step)} "
            f"(loss {significant(loss_of(points[0]))}), so nothing can be said about a trend."
        )
        return [Finding("one_validation", Level.STATE, text, "loss", points[0].step)]
    last, best = points[-1], min(points, key=loss_of)
    if _has_risen(points, best, last):
        return [_risen(best, last, evidence)]
    return [_flat_or_falling(points, best, evidence)]


def held_out_noise(evidence: Evidence) -> list[Finding]:
    """Validations that stray further than they move: their set is too small to judge by."""
    half = evidence.validations[len(evidence.validations) // 2 :]
    if len(half) < _ENOUGH:
        return []
    scatter = _scatter(half)
    moved = abs(loss_of(half[-1]) - loss_of(half[0]))
    steps, losses = np.array([v.step for v in half]), np.array([loss_of(v) for v in half])
    trend = abs(float(np.polyfit(steps - steps.mean(), losses, 1)[0])) * float(np.ptp(steps))
    moved = max(moved, trend)
    if scatter < 0.002 * abs(float(losses.mean())) or scatter < moved:
        return []
    text = (
        f"From one validation to the next the held-out loss strays by about "
        f"{significant(scatter, 2)}, more than it moved from step {count(half[0].step)} to "
        f"{count(half[-1].step)} ({significant(moved, 2)}): raise eval.tokens before comparing "
        f"checkpoints by it."
    )
    return [Finding("noise", Level.ALARM, text, "loss", half[0].step)]


def unlearning(evidence: Evidence) -> list[Finding]:
    """Of several validation sets, those that got worse since: a mixture that unlearns (R01)."""
    found = []
    for name, points in evidence.other_validations.items():
        if len(points) < 2:
            continue
        last, best = points[-1], min(points, key=loss_of)
        if _has_risen(points, best, last):
            text = (
                f'The held-out loss of "{name}" was best at step {count(best.step)} '
                f"({significant(loss_of(best))}) and has risen to {significant(loss_of(last))} at "
                f"step {count(last.step)}: the model unlearns that text, or memorises what it has "
                f"of it."
            )
            found.append(Finding("unlearning", Level.ALARM, text, "loss", best.step))
    return found


def gap(evidence: Evidence) -> list[Finding]:
    """How far training and held-out loss are apart at the last validation.

    Of a mixture nothing is said: its training loss is of all sources, each validation set of one.
    """
    if not evidence.validations or evidence.other_validations:
        return []
    last = evidence.validations[-1]
    trained = evidence.mean_near(last.step)
    if trained is None or last.step == 0:
        return []
    below = loss_of(last) - trained
    figures = f"{significant(trained)} against {significant(loss_of(last))}"
    limit = _FAR_BELOW * abs(loss_of(last))
    level = Level.STATE
    epochs = evidence.epochs
    if below > limit and epochs is not None and epochs <= 1:
        text = (
            f"The training loss is far below the held-out loss ({figures}), although no text was "
            f"trained on twice ({significant(epochs, 2)} epochs): the held-out text is harder, "
            f"nothing is memorised."
        )
    elif below > limit:
        level = Level.ALARM
        knows = "training text better than the language"
        if evidence.facts.accuracy is not None:
            knows = "training pairs better than it tells others apart"
        text = (
            f"The training loss is far below the held-out loss ({figures}): the model knows its "
            f"{knows}."
        )
    elif below < -limit:
        text = (
            f"The training loss is above the held-out loss ({figures}), as dropout or an easier "
            f"held-out text can make it."
        )
    else:
        text = f"Training and held-out loss are close ({figures}): no sign of memorising."
    return [Finding("gap", level, text, "loss", last.step)]


def loss_of(validation: Validation) -> float:
    """The loss of a validation that has one."""
    assert validation.loss is not None, "only measured validations are compared"
    return validation.loss


def _has_risen(points: tuple[Validation, ...], best: Validation, last: Validation) -> bool:
    rise = loss_of(last) - loss_of(best)
    return rise > _RISEN * abs(loss_of(best)) and rise > _ABOVE_NOISE * _scatter(points)


def _name(evidence: Evidence) -> str:
    """The held-out loss; of which set, where there are several."""
    several = bool(evidence.other_validations)
    return "The held-out loss" + (f' of "{evidence.facts.validation_set}"' if several else "")


def _scatter(points: tuple[Validation, ...]) -> float:
    """Standard deviation of one validation around its neighbours; 0 for too few to say.

    From second differences, which a straight trend leaves at zero: of independent noise they have
    six times its variance.
    """
    if len(points) < _ENOUGH:
        return 0.0
    losses = np.array([loss_of(v) for v in points])
    return float(1.4826 * np.median(np.abs(np.diff(losses, 2))) / np.sqrt(6))


def _risen(best: Validation, last: Validation, evidence: Evidence) -> Finding:
    text = (
        f"{_name(evidence)} was best at step {count(best.step)} ({significant(loss_of(best))}) and "
        f"has risen to {significant(loss_of(last))} at step {count(last.step)}"
    )
    if evidence.other_validations:
        text += ": the model unlearns that text, or memorises what it has of it."
        return Finding("unlearning", Level.ALARM, text, "loss", best.step)
    then, since = evidence.mean_near(best.step), evidence.mean_near(last.step)
    if then is None or since is None:
        text += ": prefer the checkpoint of the best step."
        return Finding("risen", Level.BROKEN, text, "loss", best.step)
    figures = f"from {significant(then)} to {significant(since)}"
    if since < then:
        text += (
            f" while the training loss fell on ({figures}): since then the model memorises "
            f"its training text. Prefer the checkpoint of step {count(best.step)}."
        )
        return Finding("overfitting", Level.BROKEN, text, "loss", best.step)
    text += (
        f", and so has the training loss ({figures}): something went wrong after the best "
        f"step; look at the gradient norm and the learning rate there."
    )
    return Finding("risen", Level.BROKEN, text, "loss", best.step)


def _flat_or_falling(
    points: tuple[Validation, ...], best: Validation, evidence: Evidence
) -> Finding:
    last, running = points[-1], evidence.facts.state == "running"
    now = "so far" if running else "at the end"
    threshold = last.step - END * (last.step - points[0].step)
    before = min(points[:-1], key=lambda v: abs(v.step - threshold))
    drop = (loss_of(before) - loss_of(last)) / max(abs(loss_of(before)), 1e-12)
    figures = (
        f"{significant(loss_of(before))} at step {count(before.step)}, "
        f"{significant(loss_of(last))} at step {count(last.step)}"
    )
    if drop < FALLING:
        text = (
            f"{_name(evidence)} is flat {now} ({figures}); its best was "
            f"{significant(loss_of(best))} at step {count(best.step)}."
        )
        return Finding("flat", Level.STATE, text, "loss", before.step)
    text = f"{_name(evidence)} was still falling {now}: {figures} ({percent(drop)} less)"
    if running:
        text += "."
    elif rate_fell(evidence, before.step, last.step):
        text += (
            ". The falling learning rate brings part of that drop; "
            "a longer run would probably still do better."
        )
    else:
        text += ", so a longer run would very likely do better."
    return Finding("still_falling", Level.STATE, text, "loss", before.step)


def rate_fell(evidence: Evidence, start: float, end: float) -> bool:
    """Whether the learning rate at least halved between two steps."""
    x, y = evidence.column("lr")
    inside = y[(x >= start) & (x <= end)]
    return len(inside) > 1 and bool(inside[-1] < 0.5 * inside[0])
