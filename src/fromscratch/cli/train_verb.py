"""`fromscratch train`: a recipe becomes a run."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import typer

from fromscratch.cli.at_the_end import THEN_HELP, at_the_end
from fromscratch.cli.documents_progress import documents_progress
from fromscratch.cli.example_view import show_example
from fromscratch.cli.session import ranks_of_this_run, say_how_to_use, train_session
from fromscratch.cli.show import say


def run(
    recipe: str = typer.Argument(..., help="A shipped recipe's name, or a .toml file."),
    overrides: list[str] = typer.Argument(None, help="Changes: key=value, e.g. optim.lr=3e-4."),
    run_folder: Path = typer.Option(None, "--run", help="Folder of the run [runs/RECIPE]."),
    start: str = typer.Option(
        None,
        "--from",
        metavar="MODEL",
        help="Start from its weights: a run, a checkpoint, a Hugging Face folder or hub name.",
    ),
    scale: Path = typer.Option(
        None, help="Folder of a ladder: its prediction is kept, for the report to compare with."
    ),
    then: str = typer.Option(None, metavar="COMMAND", help=THEN_HELP),
) -> None:
    """Trains a model by a recipe; Ctrl-C saves and stops, `resume` goes on.

    Example: fromscratch train try train.steps=500 --run runs/first

    On conversations: fromscratch train sft-110 --from MODEL data.path=instructions.json

    On several GPUs: torchrun --nproc-per-node 2 -m fromscratch train RECIPE
    """
    from fromscratch.runs.recipe_files import load_recipe

    with ranks_of_this_run() as ranks:
        complete = None
        if start is not None:
            from fromscratch.runs.starting_model import find_starting_model

            complete = ranks.main_first(lambda: find_starting_model(start)).complete
        resolved = load_recipe(recipe, overrides or [], complete=complete)
        folder = run_folder or Path("runs") / resolved.name
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
                    resolved, folder, report=end.watching(progress), ranks=ranks, expect=expect
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
