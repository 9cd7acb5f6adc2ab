"""`fromscratch resume`: a run goes on exactly where it stood."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from fromscratch.cli.at_the_end import at_the_end
from fromscratch.cli.documents_progress import documents_progress
from fromscratch.cli.session import (
    answer_test_examples,
    ranks_of_this_run,
    say_how_to_use,
    train_session,
)
from fromscratch.cli.show import say
from fromscratch.cli.vocabulary import argument, option
from fromscratch.cli.vocabulary import overrides as said_overrides
from fromscratch.parallel.ranks import Ranks


def run(
    run_folder: Path = argument("RUN"),
    overrides: list[str] = said_overrides(of="deliberate, and recorded with the step"),
    then: str = option("then"),
) -> None:
    """Continues a run from its newest intact checkpoint, as if it had never stopped.

    Example: fromscratch resume runs/first
    """
    with ranks_of_this_run() as ranks:
        go_on(run_folder, overrides or [], then, ranks)


def go_on(
    run_folder: Path,
    overrides: Sequence[str],
    then: str | None,
    ranks: Ranks,
    *,
    picked_up: Callable[[], None] = lambda: None,
) -> None:
    """Goes on with a run that is there, and says so; one that is over is left as it is.

    Args:
        run_folder: Of the run.
        overrides: Deliberate changes of its recipe.
        then: What `--then` says.
        ranks: Who trains.
        picked_up: Called when the changes are in force.
    """
    from fromscratch.doctor.checks import before_the_run
    from fromscratch.runs.pick_up import open_run

    with at_the_end(then, run_folder, ranks) as end:
        with documents_progress() as progress:
            watch = end.watching(progress)
            session = open_run(
                run_folder, overrides, report=watch, ranks=ranks, advise=before_the_run
            )
        end.trains(session)
        picked_up()
        step = session.state.progress.step
        if session.is_over:
            end.finished = True
            if not session.paths.answers.is_file():
                answer_test_examples(session)
            if step < session.config.steps:
                say(f"{run_folder} stopped early, at step {step:,} of {session.config.steps:,}.")
                say(
                    "To train on all the same: "
                    f"fromscratch resume {shlex.quote(str(run_folder))} eval.patience=0"
                )
                return
            say(f"{run_folder} has done all its {step:,} steps.")
            more = f"fromscratch resume {shlex.quote(str(run_folder))} train.steps={2 * step}"
            say(f"To train on: {more}")
            return
        say(f"run {run_folder}, from step {step:,} of {session.config.steps:,}")
        end.finished = train_session(session)
        if end.finished:
            say_how_to_use(session)
