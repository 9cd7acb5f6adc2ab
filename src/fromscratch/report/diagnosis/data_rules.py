"""What the curves show of the data: a switch of the text, a planned stage, how much there was."""

from __future__ import annotations

from fromscratch.plan.compute import chinchilla_tokens, far_from_optimal
from fromscratch.report.diagnosis.evidence import SEVERAL, Evidence
from fromscratch.report.diagnosis.finding import Finding, Level
from fromscratch.report.diagnosis.jumps import CERTAIN, Jump
from fromscratch.report.numerals import count, percent, short, significant
from fromscratch.report.record import number

# What is this near to where it was, as a share of how far it had gone, is back.
_BACK = 0.3


def data_switch(evidence: Evidence) -> list[Finding]:
    """A jump of the loss that no change of the schedule explains, and planned ones that show."""
    found: list[Finding] = []
    by_heart: list[tuple[Jump, float, str]] = []
    for jump in evidence.jumps:
        x = evidence.training[0]
        before, at = float(x[jump.index - 1]), float(x[jump.index])
        # A change takes its place between two logged rows, and a jump is placed to a few of them.
        margin = 0.25 * jump.reach * (at - before)
        first, last = before - margin, at + margin
        if any(first <= change.step <= last for change in evidence.rate_changes):
            continue  # said with the change of the schedule
        stage = evidence.stage_at(first, last)
        again = evidence.begins_again(first, last) if jump.after < jump.before else None
        if stage is not None:
            found.append(_planned(jump, at, stage))
        elif again is not None:
            by_heart.append((jump, at, again))
        elif jump.score < CERTAIN or _is_return(jump, evidence):
            continue
        elif back := _return_of(jump, evidence):
            found.append(_excursion(jump, at, float(x[back.index])))
        elif not _is_spike(jump, at - margin, at + margin, evidence):
            found.append(_unplanned(jump, before, at, first, last, evidence))
    return [*_by_heart(by_heart), *found]


def tokens_for_the_size(evidence: Evidence) -> list[Finding]:
    """Tokens far from the 20 per parameter of Hoffmann et al. (2022), on either side."""
    if evidence.of_recipe("base", "model"):  # what it was trained on before is not known here
        return []
    facts = evidence.facts
    tokens, planned = facts.tokens, False
    per_step = number(evidence.of_recipe("train", "tokens_per_step"))
    if facts.state == "running" and facts.planned_steps and per_step:
        tokens, planned = facts.planned_steps * per_step, True
    if not tokens or not facts.parameters:
        return []
    far = far_from_optimal(tokens, facts.parameters)
    if far is None:
        return []
    figures = (
        f"{short(tokens)} tokens for {count(facts.parameters)} parameters"
        f"{' by the end' if planned else ''}, {significant(tokens / facts.parameters, 2)} "
        f"a parameter where about 20 are compute-optimal "
        f"({short(chinchilla_tokens(facts.parameters))} tokens, Chinchilla)"
    )
    if far == "few":
        text = f"Few tokens for the size: {figures}. Train longer, or a smaller model better."
    else:
        text = (
            f"Many tokens for the size: {figures}. That is right for a model that must be small; "
            f"with the same compute a larger one would reach a lower loss."
        )
    return [Finding("chinchilla", Level.REMARK, text, "loss")]


def _planned(jump: Jump, at: float, stage: int) -> Finding:
    text = (
        f"The training loss {_moves(jump)} at step {count(at)}, where stage {stage} of the "
        f"recipe's mixture begins: losses on its two sides are of different text."
    )
    return Finding("stage", Level.REMARK, text, "mixture", at)


def _by_heart(jumps: list[tuple[Jump, float, str]]) -> list[Finding]:
    """Drops of the loss where a text begins again: what was read before is known."""
    if not jumps:
        return []
    (jump, at, name), *others = sorted(jumps, key=lambda drop: drop[1])
    places = ", ".join(count(step) for _, step, _ in others)
    text = (
        f'The training loss {_moves(jump)} at step {count(at)}, where "{name}" begins again'
        + (f"; likewise at {places}" if places else "")
        + ": what was read before is being learned by heart, and the training loss says less and "
        "less about text that is new."
    )
    return [Finding("by_heart", Level.ALARM, text, "loss", at)]


def _is_spike(jump: Jump, first: float, last: float, evidence: Evidence) -> bool:
    """One of several spikes: that is said of the learning rate."""
    near = any(first <= spike <= last for spike in evidence.spikes)
    return near and jump.after > jump.before and len(evidence.spikes) >= SEVERAL


def _returns(up: Jump, down: Jump) -> bool:
    """Whether a curve that jumped up is back where it was with a jump down."""
    height = up.after - up.before
    return height > 0 and down.index > up.index and abs(down.after - up.before) < _BACK * height


def _return_of(jump: Jump, evidence: Evidence) -> Jump | None:
    after = [other for other in evidence.jumps if _returns(jump, other)]
    return min(after, key=lambda other: other.index, default=None)


def _is_return(jump: Jump, evidence: Evidence) -> bool:
    return any(_returns(other, jump) for other in evidence.jumps)


def _excursion(jump: Jump, at: float, back: float) -> Finding:
    text = (
        f"The training loss {_moves(jump)} at step {count(at)} and is back only at step "
        f"{count(back)}: the updates in between were spoilt, by a burst of gradients or of odd "
        f"text; guard.spike_z=8 refuses such updates."
    )
    return Finding("excursion", Level.ALARM, text, "loss", at)


def _unplanned(
    jump: Jump, before: float, at: float, first: float, last: float, evidence: Evidence
) -> Finding:
    text = (
        f"The training loss {_moves(jump)} within a few steps of {count(at)} "
        f"({significant(jump.score, 2)} times the usual difference over such a stretch)"
    )
    purpose = evidence.changed_on_purpose(first, last)
    if purpose is not None:
        text += f", where the run was changed on purpose ({purpose.message or purpose.kind})."
        return Finding("data_switch", Level.REMARK, text, "loss", at)
    if _rate_is_smooth(evidence, before, at):
        text += ", and the learning rate goes on as before"
    if evidence.resumed_within(first, last):
        text += "; the run was resumed there"
    text += ": it was probably given other text from there on, which nothing recorded says."
    return Finding("data_switch", Level.ALARM, text, "loss", at)


def _rate_is_smooth(evidence: Evidence, before: float, at: float) -> bool:
    steps, _ = evidence.column("lr")
    return len(steps) > 0 and steps[0] <= before and steps[-1] >= at


def _moves(jump: Jump) -> str:
    word = "drops" if jump.after < jump.before else "jumps"
    share = abs(jump.after - jump.before) / max(abs(jump.before), 1e-12)
    return f"{word} from {significant(jump.before)} to {significant(jump.after)} ({percent(share)})"
