"""Training with a person watching, in one process or many: for `train`, `resume` and `try`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fromscratch.cli.items_progress import items_progress
from fromscratch.cli.show import err, hush, print_error, say
from fromscratch.foundation.world import world_from_environment
from fromscratch.parallel.ranks import Ranks

if TYPE_CHECKING:
    from fromscratch.runs.session import Session


@contextmanager
def ranks_of_this_run() -> Iterator[Ranks]:
    """This process among those that `torchrun` started with it; rank 0 alone speaks.

    An error inside is told by one rank; the others end in silence, with exit code 2 too.
    """
    world = world_from_environment()
    if not world.launched:
        yield Ranks(world)
        return
    if not world.is_main:
        hush()
    from fromscratch.parallel.connect import connected

    with connected(world, lambda error: print_error(error.what, error.fix)) as ranks:
        yield ranks


def say_how_to_use(session: Session) -> None:
    """How to talk with the model of a run that is over; a base model writes on."""
    if not session.ranks.is_main:
        return
    run = shlex.quote(str(session.paths.root))
    if session.state.template is not None:
        say(f"talk to it: fromscratch chat {run}")
    else:
        prompt = next(iter(session.recipe.sample.prompts), "")
        begin = shlex.quote(prompt.split("\n")[0])
        say(f"let it write: fromscratch generate {run} {begin}")
        say(f"teach it to answer: fromscratch train sft-110 --from {run} data.path=FILE.json")


def answer_test_examples(session: Session) -> None:
    """Has a finetuned run that is over answer its test examples, if it has any."""
    from fromscratch.runs.answers import has_questions, write_answers

    if not has_questions(session):
        return
    again = f"fromscratch resume {shlex.quote(str(session.paths.root))} answers them"
    with items_progress(again) as bar:
        path = write_answers(
            session, advance=lambda done, of: bar.show("answering the test examples", done, of)
        )
    say(f"answers to the test examples: {path}")


def train_session(session: Session) -> bool:
    """Trains a session to its end or to a stop, and says where things are.

    Returns:
        Whether the last step was reached.
    """
    if not session.ranks.is_main:
        return session.train()
    from fromscratch.report.build import write_report
    from fromscratch.track.console import ConsoleTracker

    root = session.paths.root
    finished = session.train([ConsoleTracker(err, steps=session.config.steps)])
    try:
        report = str(write_report(root))
    except OSError as error:  # a full disk, say; the run itself is saved
        report = f"not written ({error.strerror})"
    progress = session.state.progress
    if finished:
        say(f"finished {progress.step:,} steps; report: {report}")
        answer_test_examples(session)
    else:
        say(f"stopped and saved at step {progress.step:,}")
        say(f"go on with: fromscratch resume {shlex.quote(str(root))}")
    return finished
