"""When a run's checkpoints are made, and how: beside training, or with training waiting.

In: the state as it stands at some step, and whether it is the best so far, or must be safe before
anything else happens. Out: committed checkpoints, and an event for each, or for why there is none.

Always true: rows are forced to the disk before the checkpoint that counts on them is begun. At most
one checkpoint is being written; the next one waits for it, so that the checkpoints of a run do not
depend on how fast its disk is. A checkpoint that must be there (a run's first, a session's last) is
written with training waiting. The copy that is written in the background is made only where memory
is left for it; a sharded state is gathered into one in any case.

Of several ranks, the first alone copies, writes and tells; whether anything is saved is its
decision, in which all take part, because of a sharded state all have a part.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace

from fromscratch.checkpoint.background import Background
from fromscratch.checkpoint.host_copy import HostCopy
from fromscratch.checkpoint.state import Snapshot, TrainState
from fromscratch.checkpoint.store import CheckpointStore, Keep
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.host_memory import spare_memory
from fromscratch.foundation.names import step_folder
from fromscratch.parallel.ranks import Ranks
from fromscratch.track.tracker import Tracker

_RESERVE = 256 * 2**20
"""Bytes that stay free besides the copy: for what else the process and the system need."""


@dataclass(frozen=True)
class SavePlan:
    """When checkpoints are made.

    Attributes:
        every: Steps between checkpoints.
        keep_every: Steps between those that are never removed; 0 for none.
        every_minutes: Minutes after which a temporary one is made if there was none; 0 for never.
        background: Whether they are written while training goes on.
    """

    every: int
    keep_every: int = 0
    every_minutes: float = 0.0
    background: bool = True

    def at(self, step: int) -> bool:
        """Whether a checkpoint that is kept is due at a step."""
        return step % self.every == 0 or self.permanent(step)

    def permanent(self, step: int) -> bool:
        """Whether the checkpoint of a step is never removed."""
        return self.keep_every > 0 and step > 0 and step % self.keep_every == 0


@dataclass(frozen=True)
class _Save:
    """A checkpoint that is being made: what to do once it is there, or is not."""

    step: int
    best: bool
    replace: bool
    keep: Keep
    began: float
    stall: float = 0.0


class Saver:
    """Makes the checkpoints of one session.

    Args:
        state: What is saved; its progress says at which step.
        store: Where to.
        tracker: Flushed before each; told of each.
        plan: When.
        spare: Bytes of memory that a copy may take; None where nobody knows.
        ranks: Who trains with this process; each has a saver.
    """

    def __init__(
        self,
        state: TrainState,
        store: CheckpointStore,
        tracker: Tracker,
        plan: SavePlan,
        spare: Callable[[], int | None] = spare_memory,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = Ranks() if ranks is None else ranks
        self.state = state
        self.store = store
        self.tracker = tracker
        self.plan = plan
        self._spare = spare
        self._copy = HostCopy()
        self._background = Background("checkpoint")
        self._under_way: _Save | None = None
        self._said_no_memory = False
        self._seconds = 0.0
        """From the beginning of the last save to its commit."""
        self._last_save = time.monotonic()
        self.start_from_here()

    def start_from_here(self, *, saved: bool = False) -> None:
        """Takes note that the state was read from a checkpoint, or is new; none is under way.

        Args:
            saved: Whether the state as it stands is committed.
        """
        assert self._under_way is None, "a checkpoint of another state is under way"
        progress = self.state.progress
        # The step whose checkpoint is committed, or on its way.
        self._saved_step = progress.step if saved else None
        # Read from a checkpoint that was taken before the duties of its step were done: once they
        # are, what it says of them is out of date.
        self._unfinished_step = None if progress.duties_done else progress.step

    def due(self) -> bool:
        """Whether a checkpoint is due at the step as it stands: by its number, or by the clock."""
        return self.plan.at(self.state.progress.step) or self._overdue()

    def _overdue(self) -> bool:
        minutes = self.plan.every_minutes
        if minutes <= 0:
            return False
        over = time.monotonic() - self._last_save >= 60 * minutes
        return self.ranks.any(self.ranks.is_main and over)  # clocks differ

    def save(self, *, best: bool = False, must: bool = False) -> None:
        """Makes a checkpoint of the state as it stands, unless there is one.

        A full disk does not end a run: the checkpoints before are whole, and the next save may find
        room.

        Args:
            best: It is the best one so far.
            must: It is committed when this returns.

        Raises:
            UserError: It must be made, and could not.
        """
        began = time.perf_counter()
        self.wait()
        progress = self.state.progress
        # Rank 0 decides for all: only there can a save have failed before.
        wanted = self.ranks.is_main and (self._saved_step != progress.step or best)
        if not self.ranks.any(wanted):
            return
        gathered = self.state.now(keep=self.ranks.is_main) if self.state.is_sharded else None
        if not self.ranks.is_main:
            return
        step = progress.step
        job = _Save(
            step=step,
            best=best,
            replace=progress.duties_done and self._unfinished_step == step,
            keep=self._keep(step, best=best),
            began=began,
        )
        self._saved_step, self._last_save = step, time.monotonic()
        try:
            self.tracker.flush()
            copy = None
            if self.plan.background and not must:
                # A sharded state's is one already, but for the progress, which goes on.
                copy = self._copied() if gathered is None else _still(gathered)
            if copy is None:
                self._commit(job, self.state.now() if gathered is None else gathered)
        except OSError as error:
            self._failed(job, error)
            if must:
                raise self._lost(step, error) from error
            return
        job = replace(job, stall=time.perf_counter() - began)
        if copy is None:
            self._committed(job)
            return
        snapshot = copy
        self._under_way = job
        self._background.start(lambda: self._commit(job, snapshot))

    def _keep(self, step: int, *, best: bool) -> Keep:
        if self.plan.permanent(step):
            return "permanent"
        # One made because the run was stopped takes no place among the scheduled ones: what a run
        # can go back to must not depend on when it was interrupted.
        return "recent" if best or self.plan.at(step) else "temporary"

    def _copied(self) -> Snapshot | None:
        """A copy of the state; None, and said once, where there is no memory for it."""
        state = self.state.now()
        missing = self._copy.missing_bytes(state)
        spare = self._spare() if missing else None
        if spare is None or missing + _RESERVE <= spare:
            try:
                return self._copy.take(state)
            except RuntimeError as error:  # torch's way to say that memory could not be had
                if "alloc" not in str(error) and "memory" not in str(error):
                    raise
        if not self._said_no_memory:
            self._said_no_memory = True
            have = "" if spare is None else f", and {max(spare, 0) / 1e9:.1f} GB are to spare"
            self._event(
                "checkpoint_waits",
                f"a copy of the state takes {missing / 1e9:.1f} GB of memory{have}: training "
                "waits while checkpoints are written",
                self.state.progress.step,
            )
        return None

    def _commit(self, job: _Save, state: Snapshot) -> None:
        """Writes a checkpoint, in whatever thread."""
        self.store.save(job.step, state.write, best=job.best, replace=job.replace, keep=job.keep)
        self._seconds = time.perf_counter() - job.began

    # --- how it ended -----------------------------------------------------------------------------

    def collect(self) -> None:
        """Reports a checkpoint that was written in the background, if it is done."""
        if self._background.done:
            self.wait()

    def wait(self) -> None:
        """Waits for the checkpoint that is being written in the background, and reports it."""
        if self._under_way is None:
            return
        error = self._background.collect()
        job, self._under_way = self._under_way, None
        if error is None:
            self._committed(job)
        elif isinstance(error, OSError):
            self._failed(job, error)
        else:
            raise error

    def close(self) -> None:
        """Waits for what is under way, and ends the thread."""
        try:
            self.wait()
        finally:
            self._background.close()

    def _committed(self, job: _Save) -> None:
        if job.replace:
            self._unfinished_step = None
        self._event(
            "checkpoint",
            step_folder(job.step),
            job.step,
            best=job.best,
            keep=job.keep,
            stall_seconds=round(job.stall, 4),
            seconds=round(self._seconds, 4),
        )

    def _failed(self, job: _Save, error: OSError) -> None:
        self._saved_step = None
        reason = error.strerror or str(error)
        self._event("checkpoint_failed", f"not saved at step {job.step:,}: {reason}", job.step)

    def _lost(self, step: int, error: OSError) -> UserError:
        steps = self.store.steps()
        newest = f"The newest checkpoint is that of step {steps[-1]:,}." if steps else ""
        return UserError(
            f"The state at step {step:,} could not be saved ({error.strerror or error}). {newest}",
            fix="Make room and resume: the steps since then are trained again.",
        )

    def _event(self, name: str, message: str, step: int, **details: object) -> None:
        self.tracker.event(name, step, message, details)


def _still(state: Snapshot) -> Snapshot:
    """A snapshot whose tensors nobody changes, with a progress that nobody changes either."""
    return replace(state, progress=deepcopy(state.progress))
