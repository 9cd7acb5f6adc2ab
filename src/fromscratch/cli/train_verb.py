"""`fromscratch train`: a recipe becomes a run."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from fromscratch.cli.at_the_end import at_the_end
from fromscratch.cli.documents_progress import documents_progress
from fromscratch.cli.example_view import show_example
from fromscratch.cli.session import ranks_of_this_run, say_how_to_use, train_session
from fromscratch.cli.show import say
from fromscratch.cli.vocabulary import argument, option
from fromscratch.cli.vocabulary import overrides as said_overrides
from fromscratch.parallel.ranks import Ranks


def run(
    recipe: str = argument("RECIPE"),
    overrides: list[str] = said_overrides(),
    run_folder: Path = option("run", show_default="runs/RECIPE"),
    start: str = option("from"),
    or_resume: bool = option("or-resume", False),
    scale: Path = option("scale"),
    then: str = option("then"),
) -> None:
    """Trains a model by a recipe; Ctrl-C saves and stops, `resume` goes on.

    Example: fromscratch train try train.steps=500 --run runs/first

    On conversations: fromscratch train sft-110 --from MODEL data.path=instructions.json

    In a script that may be stopped: fromscratch train RECIPE --run RUN --or-resume

    On several GPUs: torchrun --nproc-per-node 2 -m fromscratch train RECIPE
    """
    from fromscratch.runs.recipe_files import load_recipe

    with ranks_of_this_run() as ranks:
        if or_resume and _goes_on(recipe, overrides or [], run_folder, start, then, ranks):
            return
        complete = None
        if start is not None:
            from fromscratch.runs.starting_model import find_starting_model

            complete = ranks.main_first(lambda: find_starting_model(start)).complete
        resolved = load_recipe(recipe, overrides or [], complete=complete)
        folder = run_folder or Path("runs") / resolved.name
        from fromscratch.doctor.checks import before_the_run
        from fromscratch.runs.assemble import new_run

        expect = None
        if scale is not None:
            from fromscratch.runs.scale_prediction import predict_run
            from fromscratch.runs.scale_result import read_result

            read_result(scale)  # that there is one, before the data is prepared
            expect = partial(predict_run, scale)

        with at_the_end(then, folder, ranks) as end:
            with documents_progress() as progress:
                session = new_run(
                    resolved,
                    folder,
                    report=end.watching(progress),
                    ranks=ranks,
                    advise=before_the_run,
                    expect=expect,
                )
            end.trains(session)
            say(f"run {folder}")
            from fromscratch.runs.opened_examples import OpenedExamples

            if isinstance(session.data, OpenedExamples):
                for what, stretches in session.data.shown():
                    show_example(what, stretches)
            end.finished = train_session(session)
            if end.finished:
                say_how_to_use(session)


def _goes_on(
    recipe: str,
    overrides: list[str],
    run_folder: Path | None,
    start: str | None,
    then: str | None,
    ranks: Ranks,
) -> bool:
    """Goes on with the run where it is there already; else False, and nothing is done."""
    from fromscratch.cli.resume_verb import go_on
    from fromscratch.foundation.files import write_atomically
    from fromscratch.foundation.names import RunPaths
    from fromscratch.runs.or_resume import asked_again, default_folder, is_run

    folder = run_folder or default_folder(recipe, overrides)
    if not ranks.from_main(lambda: is_run(folder)):
        return False
    again = ranks.main_first(lambda: asked_again(folder, recipe, overrides, start))

    def keep() -> None:
        if ranks.is_main:
            write_atomically(RunPaths(folder).asked, again.asked.to_toml())

    go_on(folder, again.changes, then, ranks, picked_up=keep)
    return True
