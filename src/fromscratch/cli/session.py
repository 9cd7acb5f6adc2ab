"""Training with a person watching: shared by `train`, `resume` and `try`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from fromscratch.cli.show import err, say

if TYPE_CHECKING:
    from fromscratch.runs.session import Session


def train_session(session: Session) -> bool:
    """Trains a session to its end or to a stop, and says where things are.

    Returns:
        Whether the last step was reached.
    """
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
    else:
        say(f"stopped and saved at step {progress.step:,}")
        say(f"go on with: fromscratch resume {shlex.quote(str(root))}")
    return finished
