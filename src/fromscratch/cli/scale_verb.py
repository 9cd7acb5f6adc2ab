"""`fromscratch scale`: small runs that tell how large a large one should be, and what to expect."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fromscratch.cli.documents_progress import documents_progress
from fromscratch.cli.scale_lines import print_answers, print_law, print_runs
from fromscratch.cli.show import err, print_json, print_warning, say
from fromscratch.cli.vocabulary import argument, option
from fromscratch.cli.vocabulary import overrides as said_overrides
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import write_atomically
from fromscratch.foundation.names import SCALE_LADDER, SCALE_PICTURE
from fromscratch.report.numerals import duration

if TYPE_CHECKING:
    from fromscratch.plan.ladder import Size
    from fromscratch.runs.scale_answer import Answer
    from fromscratch.runs.scale_plan import LadderPlan, Measure
    from fromscratch.runs.scale_result import ScaleResult
    from fromscratch.runs.session import Session
    from fromscratch.runs.spending import Question
    from fromscratch.runs.sweep_study import Claim, SweepStudy, TrialResult
    from fromscratch.track.tracker import Tracker

_HOURS = 48.0


def run(
    what: str = argument("RECIPE|FOLDER"),
    overrides: list[str] = said_overrides(),
    budget: str = option("budget"),
    out: Path = option("out", of="the folder of the ladder", show_default="scale/RECIPE"),
    gpu: str = option("gpu", show_default="this device"),
    gpus: int = option("gpus", 1),
    hours: float = option("hours", _HOURS),
    mfu: float = option("mfu", show_default="as measured, or 0.4"),
    as_json: bool = option("json", False),
) -> None:
    """Trains a ladder of small models, and says what size and how much text suit a large run.

    After Ctrl-C or a kill, the same command goes on. With a ladder's folder it trains nothing.

    Example: fromscratch scale modern-124m --budget 1h --gpu rtx3090 --hours 48
    """
    from fromscratch.runs.spending import Question, check_question

    question = Question(gpu=gpu, gpus=gpus, hours=hours, mfu=mfu)
    check_question(question)
    if gpu not in (None, "here"):
        from fromscratch.foundation.accelerators import accelerator_named

        accelerator_named(str(gpu))  # before an hour is spent
    if (Path(what) / SCALE_LADDER).is_file():
        if overrides or budget is not None or out is not None:
            raise UserError(
                f"{what} is a ladder: of a folder only the answer is asked.",
                fix="Say --gpu and --hours; to go on training, repeat the ladder's own command.",
            )
        from fromscratch.runs.scale import open_ladder

        _conclude(open_ladder(Path(what)), question, as_json)
        return
    _train(what, overrides or [], budget, out, question, as_json)


def _train(
    recipe: str,
    overrides: Sequence[str],
    budget: str | None,
    out: Path | None,
    question: Question,
    as_json: bool,
) -> None:
    from fromscratch.foundation.world import world_from_environment
    from fromscratch.runs.recipe_files import parse_recipe, read_recipe

    name, text = read_recipe(recipe)
    if budget is None:
        raise UserError(
            "A ladder takes as long as it is given, and this one is given nothing.",
            fix=f"Say for example: fromscratch scale {recipe} --budget 1h",
        )
    seconds = parse_duration(budget)
    if world_from_environment().size > 1:
        raise UserError(
            "torchrun starts processes that train one model together; a ladder's train one each.",
            fix="Start it without torchrun, once for each device.",
        )
    resolved = parse_recipe(text, name=name, overrides=overrides)
    folder = out or Path("scale") / resolved.name
    from fromscratch.runs.assemble import check_supported
    from fromscratch.runs.scale import open_ladder, plan_ladder

    check_supported(resolved)

    def make() -> LadderPlan:
        with documents_progress() as progress:
            return plan_ladder(
                recipe, resolved.name, text, overrides, seconds, report=progress, say=_note
            )

    study = open_ladder(folder, make)
    plan = _plan(study)
    if (plan.text, plan.overrides, plan.budget) != (text, tuple(overrides), seconds):
        raise UserError(
            f"{folder} is the ladder of another recipe or budget.",
            fix="Choose another --out, or repeat its own command to go on with it.",
        )
    if not as_json:
        say(f"ladder {folder}: {plan.trials} runs in {duration(seconds)}")
    finished = _work(study)
    if not finished:
        say(f"stopped; the same command goes on, fromscratch scale {folder} shows what there is")
        raise typer.Exit(130)
    _conclude(study, question, as_json)


def _plan(study: SweepStudy) -> LadderPlan:
    from fromscratch.runs.scale_plan import LadderPlan

    assert isinstance(study.plan, LadderPlan)
    return study.plan


def _note(text: str) -> None:
    err.print(text)


def _work(study: SweepStudy) -> bool:
    from fromscratch.runs.scale import work_on_ladder
    from fromscratch.track.console import ConsoleTracker

    plan = _plan(study)

    def listeners(session: Session) -> Sequence[Tracker]:
        return [ConsoleTracker(err, steps=session.config.steps)] if err.is_terminal else []

    def begin(claim: Claim, begun: bool, left: float) -> None:
        from fromscratch.runs.scale_plan import parameters_of

        recipe = plan.recipe(claim.values)
        tokens = int(claim.values["train.steps"]) * recipe.train.tokens_per_step
        err.print(
            f"run {claim.number + 1} of {plan.trials}: {parameters_of(recipe):,} parameters, "
            f"{tokens:,} tokens{' (goes on)' if begun else ''}; "
            f"the ladder ends in about {duration(left)}"
        )

    def end(claim: Claim, result: TrialResult | str) -> None:
        if isinstance(result, str):
            print_warning(f"run {claim.number + 1} is left out: {result}")
        else:
            took = duration(result.seconds)
            err.print(f"  loss {result.val_loss:.4f}, {result.val_bpb:.4f} bits/byte, in {took}")

    with documents_progress() as progress:
        return work_on_ladder(
            study, report=progress, listeners=listeners, on_begin=begin, on_end=end
        )


def _conclude(study: SweepStudy, question: Question, as_json: bool) -> None:
    """Fits, answers, keeps and prints."""
    from fromscratch.runs.scale import spent_seconds
    from fromscratch.runs.scale_result import fit_ladder, write_result

    plan, rows = _plan(study), study.rows()
    spent = spent_seconds(study.folder, plan)
    waiting = [row for row in rows if row.state in ("waiting", "running", "stopped")]
    result = fit_ladder(study.folder, plan, rows)
    answers = _answers(plan, result, question)
    write_result(study.folder, result, [answer.to_json() for answer in answers])
    picture = study.folder / SCALE_PICTURE
    write_atomically(picture, _draw(plan, result, answers))
    if as_json:
        content: dict[str, Any] = {
            "folder": str(study.folder),
            "finished": not waiting,
            "budget": plan.budget,
            "spent": spent,
            "runs": [asdict(row) for row in rows],
            **result.to_json(),
            "answers": [answer.to_json() for answer in answers],
        }
        print_json(content)
        return
    print_runs(plan, result, rows)
    say(f"{duration(spent)} of {duration(plan.budget)} are spent")
    if waiting:
        print_warning(
            f"{len(waiting)} of {plan.trials} runs are not done; the ladder's own command goes on."
        )
    say()
    print_law(result)
    say()
    print_answers(plan, result, answers, study.folder)
    say(f"picture: {picture}")


def _answers(plan: LadderPlan, result: ScaleResult, question: Question) -> list[Answer]:
    from fromscratch.runs.scale_answer import answer

    if question.gpu not in (None, "here"):
        return answer(plan, result, question, measure=None)
    from fromscratch.runs.scale_bench import Bench, is_this_device

    bench: list[Bench] = []

    def measure(size: Size) -> Measure:
        if not bench:  # it starts a process, which is not always needed
            bench.append(Bench(plan.base, plan.reference).__enter__())
        bench[0].measure(size, _note)
        return bench[0].of(size)

    try:
        return answer(plan, result, question, measure=measure if is_this_device(plan) else None)
    finally:
        for opened in bench:
            opened.__exit__(None, None, None)


def _draw(plan: LadderPlan, result: ScaleResult, answers: Sequence[Answer]) -> bytes:
    from fromscratch.report.scale_picture import scale_picture

    return scale_picture(plan.name, result.fit, answers)


def parse_duration(text: str) -> float:
    """Seconds of `1h`, `30m`, `1h30m`, `45s`, `2d`.

    Raises:
        UserError: It is none of them.
    """
    match = re.fullmatch(
        r"(?:([\d.]+)d)?(?:([\d.]+)h)?(?:([\d.]+)m(?:in)?)?(?:([\d.]+)s)?", text.replace(" ", "")
    )
    try:
        parts = [float(part) if part else 0.0 for part in match.groups()] if match else []
    except ValueError:
        parts = []
    seconds = sum(n * unit for n, unit in zip(parts, (86400, 3600, 60, 1), strict=False))
    if not 0 < seconds < float("inf"):
        raise UserError(f'"{text}" is not a time.', fix="Write for example 1h, 30m or 1h30m.")
    return seconds
