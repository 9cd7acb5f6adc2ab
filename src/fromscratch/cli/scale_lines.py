"""A ladder in a terminal: its runs, the law, and what to train."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fromscratch.cli.show import print_warning, say, table
from fromscratch.report.numerals import count, duration, short, significant

if TYPE_CHECKING:
    from fromscratch.runs.scale_answer import Answer
    from fromscratch.runs.scale_plan import LadderPlan
    from fromscratch.runs.scale_result import ScaleResult
    from fromscratch.runs.sweep_study import TrialRow


def print_runs(plan: LadderPlan, result: ScaleResult, rows: Sequence[TrialRow]) -> None:
    """Every run that ended with what the law makes of it; then those that did not."""
    ended = {row.run: row.result for row in rows if row.result is not None}
    cells = []
    for run in result.fit.runs:
        law, took = result.fit.law.loss(run.parameters, run.tokens), ended[run.run]
        cells.append(
            [
                run.run,
                count(run.parameters),
                count(run.tokens),
                f"{run.tokens / run.parameters:.3g}",
                f"{run.loss:.4f}",
                f"{law:.4f}",
                f"{run.loss * result.bits_per_nat:.4f}",
                duration(took.seconds),
            ]
        )
    table(["run", "parameters", "tokens", "each", "loss", "the law's", "bits/byte", "time"], cells)
    for row in sorted(rows, key=lambda row: row.number):
        if row.reason is not None:
            say(f"{row.run} is left out: {row.reason}")


def print_law(result: ScaleResult) -> None:
    """The law with the intervals of its numbers."""
    law, fit = result.fit.law, result.fit
    say(
        f"loss = {law.e:.4g} + {law.a:.4g} / N^{law.alpha:.3g} + {law.b:.4g} / D^{law.beta:.3g}"
        "  (nats per token; N: all parameters, D: tokens)"
    )
    said = []
    for letter, name in (("E", "e"), ("alpha", "alpha"), ("beta", "beta")):
        low, high = fit.interval(name)
        said.append(f"{letter} {significant(low, 3)} to {significant(high, 3)}")
    say(f"90% intervals: {', '.join(said)}; a run lies {fit.noise:.2%} off the law")


def print_answers(
    plan: LadderPlan, result: ScaleResult, answers: Sequence[Answer], folder: Path
) -> None:
    """What to train; with all the text that it takes, and with the text that there is."""
    for answer in answers:
        _print_answer(plan, answer, folder, also=answer is not answers[0])


def _print_answer(plan: LadderPlan, answer: Answer, folder: Path, *, also: bool) -> None:
    gpus = f"{answer.gpus} x " if answer.gpus > 1 else ""
    where = f"{duration(answer.hours * 3600)} on {gpus}{answer.device}"
    if also:
        say(f"with the {short(plan.text_tokens)} tokens of text that there are, within {where}:")
    else:
        say(f"for {where} ({answer.basis}, {answer.tokens_per_s:,.0f} tokens/s):")
    low, high = answer.parameters_between
    between = "" if low == high else f" ({short(_three(low))} to {short(_three(high))})"
    say(f"  {count(answer.parameters)} parameters{between}, {count(answer.tokens)} tokens")
    loss, bits = answer.loss_between, answer.bits_per_byte_between
    say(
        f"  loss {answer.loss:.3f} ({loss[0]:.3f} to {loss[1]:.3f}) nats per token, "
        f"{answer.bits_per_byte:.3f} ({bits[0]:.3f} to {bits[1]:.3f}) bits per byte"
    )
    if also:
        say(f"  which takes {duration(answer.takes_hours * 3600)}")
    say(
        f"  {significant(answer.reach, 3)} times the arithmetic of the ladder's largest run, "
        f"{answer.epochs:.2g} passes over the text"
    )
    typed = " ".join(map(shlex.quote, (plan.typed, *answer.overrides)))
    say(f"  fromscratch train {typed} --scale {shlex.quote(str(folder))}")
    if not answer.supported:
        print_warning("this ladder cannot support that answer:")
    for doubt in answer.doubts:
        print_warning(doubt)
    if answer.epochs > 1 and not also:
        print_warning(
            f"that is {answer.epochs:.2g} passes over the text that there is. Up to four are worth "
            "nearly as much as new text; beyond, the law does not hold. Prepare more."
        )


def _three(value: float) -> float:
    return float(f"{value:.3g}")
