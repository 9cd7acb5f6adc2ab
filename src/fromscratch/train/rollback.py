"""Back to a checkpoint before the trouble, and on with other windows than those that led there.

As PaLM was trained (Chowdhery et al. 2022, section 5.1): restart from a checkpoint before a spike
and leave out the batches seen before and during it. Going back alone would change nothing, because
the same windows would lead to the same weights.

In: the run's state in trouble, and its checkpoints. Out: the state at the earlier checkpoint, which
is committed again with what is skipped from now on; later checkpoints are gone. What always holds:
which checkpoint that is depends on the run's position alone, so a run that was killed before,
during or after comes to the same one. A kill before the commit leaves a run that resumes before its
trouble, comes into it again, and goes back again. Of several ranks, the first chooses the
checkpoint and commits; all read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fromscratch.checkpoint.state import Progress, TrainState
from fromscratch.checkpoint.store import CheckpointStore, verify
from fromscratch.data.skipping import with_range
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.names import step_folder
from fromscratch.parallel.ranks import Ranks


@dataclass(frozen=True)
class Rollback:
    """Where a run came from and where it went back to.

    Attributes:
        from_step: Its last step in the course that is given up.
        to_step: The checkpoint's.
        samples: The windows that are skipped: the first, and the one after the last.
    """

    from_step: int
    to_step: int
    samples: tuple[int, int]


def roll_back(
    state: TrainState, store: CheckpointStore, ranks: Ranks, *, every: int, refused: int
) -> Rollback:
    """Restores a state from before the refusals, with the windows since then to be skipped.

    Args:
        state: Changed in place; its `progress` stays the same object.
        store: No save may be under way.
        ranks: Who trains; each calls this.
        every: Steps between scheduled checkpoints.
        refused: Updates that were refused in a row.

    Raises:
        UserError: No checkpoint is intact.
    """
    live = state.progress
    name = ranks.from_main(
        lambda: _target(store, live, every=every, before=live.step - refused).name
    )
    samples_end, from_step = live.sample, live.step
    state.read(store.root / name)
    ranks.wait_for_all()  # who has read: what is read may be replaced from here on
    restored = state.progress
    begin = restored.sample
    # A checkpoint may be the very place where the run stands; then there is nothing to leave out.
    restored.skipped = (
        with_range(live.skipped, begin, samples_end) if begin < samples_end else live.skipped
    )
    restored.rollbacks = [*live.rollbacks, [from_step, restored.step]]
    restored.refused_in_a_row = 0
    kept = "seconds", "seed", "data_fingerprint", "recipe_hash", "threads", "ranks", "versions"
    for field in kept:
        setattr(restored, field, getattr(live, field))
    if restored.best_step not in (restored.step, live.best_step):
        # A better one came later, and the one that was best before may have made room for it.
        restored.best_step = restored.best_val_loss = None
        restored.since_best = 0
    vars(live).update(vars(restored))
    state.progress = live
    return Rollback(from_step, live.step, (begin, samples_end))


def commit_rollback(state: TrainState, store: CheckpointStore, ranks: Ranks) -> str | None:
    """Makes the state the run's newest checkpoint, in place of all that came after it.

    Returns:
        None, or why the disk did not take it, the same on every rank. The run can go on; a resume
        would go back once more.
    """
    progress = state.progress
    snapshot = state.now(keep=ranks.is_main)

    def commit() -> str | None:
        try:
            store.discard_after(progress.step)
            store.save(progress.step, snapshot.write, replace=True)
            store.point_again(progress.step, progress.best_step)
        except OSError as error:
            return error.strerror or str(error)
        return None

    return ranks.from_main(commit)


def _target(store: CheckpointStore, live: Progress, *, every: int, before: int) -> Path:
    """The last scheduled checkpoint up to step `before`, or an earlier one at the second attempt.

    Checkpoints that an interruption left between the scheduled ones are not asked: a run that was
    never interrupted has none. They serve where nothing else is intact.
    """
    last = live.rollbacks[-1][1] if live.rollbacks else None
    scheduled = [step for step in store.steps() if step <= before and step % every == 0]
    if scheduled and scheduled[-1] == last:
        # It went on from there and came to no new checkpoint: the trouble may have begun earlier.
        scheduled = scheduled[:-1] or scheduled
    others = [step for step in store.steps() if step not in scheduled]
    # The best of the others is the last before the trouble, then the first within it.
    others = [s for s in others if s > before][::-1] + [s for s in others if s <= before]
    for step in reversed(others + scheduled):
        folder = store.root / step_folder(step)
        if verify(folder) is None:
            return folder
    raise UserError(
        f"No checkpoint in {store.root} is intact, so the run cannot go back to one.",
        fix="Start a new run with a lower optim.lr.",
    )
