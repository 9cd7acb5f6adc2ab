"""`--then COMMAND`: what is run when a run ends, however it ends (R43).

The command is a shell's. Its environment tells it what happened: FROMSCRATCH_RUN (the run's
folder), FROMSCRATCH_OUTCOME (`finished`, `stopped` or `failed`), FROMSCRATCH_STEP (updates done),
and where it failed FROMSCRATCH_ERROR. It is run once, after everything is saved and closed; its own
exit code is shown and changes nothing. Of several processes that train together, the first runs it;
the launcher, which kills what is left of a failed run, does not reach it.

A mistake that shows before any work has begun (a recipe that cannot be read, a run that exists)
runs no command: whoever made it sits at the keyboard. Nothing can be run after SIGKILL, and nothing
is after a second Ctrl-C.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fromscratch.cli.show import err
from fromscratch.data.watching import Advance, Remark, Watch
from fromscratch.foundation.errors import UserError
from fromscratch.parallel.ranks import Ranks

if TYPE_CHECKING:
    from fromscratch.runs.session import Session

_INTERRUPTED = 130


class Ending:
    """What is known of a run's end while it has not come.

    Attributes:
        session: What trains, once it is there.
        finished: Whether the last step was reached.
        begun: Whether anything worth waiting for has begun, and the end has not come.
    """

    def __init__(self) -> None:
        self.session: Session | None = None
        self.finished = False
        self.begun = False

    def watching(self, watch: Watch) -> Watch:
        """`watch`, which also takes note that text is being prepared: that may take hours."""

        def both(event: Advance | Remark) -> None:
            self.begun |= isinstance(event, Advance)
            watch(event)

        return both

    def trains(self, session: Session) -> None:
        """Takes note of the session."""
        self.session, self.begun = session, True

    def outcome(self, error: BaseException | None) -> str:
        """`finished`, `stopped` or `failed`."""
        if error is None:
            return "finished" if self.finished else "stopped"
        interrupted = isinstance(error, KeyboardInterrupt) or (
            isinstance(error, typer.Exit) and error.exit_code == _INTERRUPTED
        )
        return "stopped" if interrupted else "failed"


@contextmanager
def at_the_end(command: str | None, run: Path, ranks: Ranks) -> Iterator[Ending]:
    """Runs a command when the block is left, by whatever way.

    Args:
        command: For the shell; None for none.
        run: The run folder.
        ranks: Who trains.
    """
    ending = Ending()
    error: BaseException | None = None
    once = threading.Lock()

    def then(error: BaseException | None) -> None:
        # Whoever comes second returns when the command has ended, and so lets it end.
        with once:
            if command is not None and ending.begun and ranks.is_main:
                ending.begun = False
                _run(command, run, ending, error, own_session=ranks.world.launched)

    ranks.at_sudden_end(then)
    try:
        yield ending
    except BaseException as raised:
        error = raised
        raise
    finally:
        then(error)


def _run(
    command: str, run: Path, ending: Ending, error: BaseException | None, *, own_session: bool
) -> None:
    outcome = ending.outcome(error)
    step = 0 if ending.session is None else ending.session.state.progress.step
    told = {
        "FROMSCRATCH_RUN": str(run.resolve()),
        "FROMSCRATCH_OUTCOME": outcome,
        "FROMSCRATCH_STEP": str(step),
    }
    if outcome == "failed":
        told["FROMSCRATCH_ERROR"] = error.what if isinstance(error, UserError) else repr(error)
    _say(f"{outcome} at step {step:,}; then: {command}")
    try:
        done = subprocess.run(
            command,
            shell=True,
            env=os.environ | told,
            check=False,
            start_new_session=own_session,
        )
    except OSError as problem:
        _say(f"the command could not be started: {problem}")
    else:
        _say(f"the command ended with exit code {done.returncode}")


def _say(message: str) -> None:
    """A line on a terminal that may have gone: that must not keep the command from running."""
    try:
        err.print(message, markup=False)
    except (OSError, SystemExit):  # rich answers a broken pipe with SystemExit
        err.quiet = True
