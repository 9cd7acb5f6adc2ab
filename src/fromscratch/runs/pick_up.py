"""Picking up a run where its newest intact checkpoint stands.

What is checked before a step is made: nobody else trains the run, its checkpoints are not lost, its
data and tokenizer are those it was trained with. What has changed on purpose is recorded with the
step; what a kill left behind is cleared away and said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from fromscratch.checkpoint.state import Progress
from fromscratch.data.consumption import read_again
from fromscratch.data.watching import Remark, Watch
from fromscratch.foundation.errors import UserError, did_you_mean_path
from fromscratch.foundation.files import read_json_lines, write_atomically
from fromscratch.foundation.names import (
    CHECKPOINT_MANIFEST,
    CHECKPOINT_RECIPE,
    RunPaths,
    runs_inside,
    step_of_folder,
)
from fromscratch.parallel.ranks import Ranks
from fromscratch.runs.assemble import (
    ADVICE,
    Advisor,
    acquire,
    build_session,
    check_device,
    check_supported,
    precision_notes,
    unadvised,
)
from fromscratch.runs.objectives import open_training_data
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.recipe_files import load_recipe
from fromscratch.runs.reference import ready_reference
from fromscratch.runs.scheduled_hellaswag import find_hellaswag, wherever_it_is_resumed
from fromscratch.runs.session import Session, disk_error
from fromscratch.runs.sharing import alone_notes, check_sharing, settle_for_all
from fromscratch.runs.starting_model import consumed_notes, fill_from_base, read_by
from fromscratch.track.jsonl import append_event


def open_run(
    root: Path,
    overrides: Sequence[str] = (),
    *,
    report: Watch,
    ranks: Ranks | None = None,
    advise: Advisor = unadvised,
) -> Session:
    """Picks up a run where its newest intact checkpoint stands.

    Args:
        root: The run folder.
        overrides: Deliberate changes of the recipe; recorded in events.jsonl.
        report: As for `new_run`.
        ranks: Likewise. Rank 0 chooses the checkpoint; all read it.
        advise: Likewise; asked where the recipe has changed.

    Raises:
        UserError: Not a run, another process trains it, its data changed, or nothing is intact.
    """
    ranks = Ranks() if ranks is None else ranks
    paths = RunPaths(root)
    if not paths.recipe.is_file():
        raise UserError(
            f"{root} is not a run (it has no {paths.recipe.name})."
            f"{did_you_mean_path(root)}{runs_inside(root)}",
            fix="Start one with `fromscratch train RECIPE --run RUN`.",
        )
    if (root / CHECKPOINT_MANIFEST).is_file():
        raise UserError(
            f"{root} is a checkpoint, not a run.", fix="Resume the run that it belongs to."
        )
    lock = FileLock(paths.lock)
    ranks.from_main(lambda: acquire(lock, paths))
    try:
        return _pick_up(paths, lock, overrides, report, ranks, advise)
    except OSError as error:
        lock.release()
        raise disk_error(paths, error) from error
    except BaseException:
        lock.release()
        raise


def _pick_up(
    paths: RunPaths,
    lock: FileLock,
    overrides: Sequence[str],
    report: Watch,
    ranks: Ranks,
    advise: Advisor,
) -> Session:
    """`open_run` once the run is ours."""
    before = load_recipe(str(paths.recipe))
    recipe = load_recipe(str(paths.recipe), overrides)
    check_supported(recipe)
    check_sharing(recipe, ranks)
    check_device(recipe, ranks)
    questions = find_hellaswag(recipe.eval, ranks)
    recipe = wherever_it_is_resumed(recipe)
    data = ranks.main_first(lambda: open_training_data(recipe, report))
    settled = settle_for_all(
        recipe, paths.root, data.tokenizer_folder, ranks, say=lambda s: report(Remark(s))
    )
    recipe = settled.recipe
    session = build_session(recipe, paths, data, lock, ranks, questions)
    now = session.state.progress

    def note(name: str, message: str, step: int) -> None:
        # On disk at once: a kill before training starts must not make it forgotten.
        if ranks.is_main:
            append_event(paths, name, step, message, {})
        session.notes.append((name, message))

    def on_corrupt(folder: Path, problem: str) -> None:
        message = f"{folder.name} was put aside: {problem}; using the one before"
        note("checkpoint_corrupt", message, step_of_folder(folder.name) or 0)

    store = session.store()
    unfinished = ranks.from_main(store.discard_unfinished)

    def newest() -> str | None:
        found = store.newest_valid(on_corrupt)
        return None if found is None else found.name

    chosen = ranks.from_main(newest)
    if chosen is None:
        _refuse_lost(paths)
        if recipe.base.model:
            fill_from_base(session.state.model, recipe, data.tokenizer)
            now.read = read_by(recipe.base.model)
        note("no_checkpoint", "killed before its first checkpoint: starting at step 0", 0)
    else:
        checkpoint = store.root / chosen
        before = load_recipe(str(checkpoint / CHECKPOINT_RECIPE))
        session.state.read(checkpoint)
        session.resumed_from = checkpoint
        _check_same(session.state.progress, now, recipe, before)
    progress = session.state.progress
    for name, message in settled.notes:
        note(name, message, progress.step)
    for name in unfinished:
        note("unfinished_removed", f"{name} was being written when the run was killed", now.step)
    if session.config.steps < progress.step:
        raise UserError(
            f"The run has done {progress.step:,} steps, and the recipe now ends at "
            f"{session.config.steps:,}.",
            fix="Say a later end, e.g. train.steps=" + str(2 * progress.step) + ".",
        )
    if progress.threads != now.threads:
        note(
            "threads_changed", "another number of CPU threads: the last bits differ", progress.step
        )
    for name, message in alone_notes(recipe, ranks):
        note(name, message, progress.step)
    if progress.ranks != now.ranks:
        note(
            "ranks_changed",
            f"{now.ranks} processes instead of {progress.ranks}: the same data, the last bits "
            "differ" + (", and so does dropout" if recipe.model.dropout else ""),
            progress.step,
        )
    if progress.versions != now.versions:
        changed = _differences(progress.versions, now.versions)
        note("versions_changed", f"{changed}: the last bits may differ", progress.step)
    if progress.versions.get("precision") != now.versions["precision"]:
        for name, message in precision_notes(session):
            note(name, message, progress.step)
    # Against what the checkpoint was trained with: that is what the steps from here on differ from,
    # whether an override, an earlier one or an edit of the file says so (R37).
    if changed := _differences(before.by_key(), recipe.by_key()):
        if ranks.is_main:
            write_atomically(paths.recipe, recipe.to_toml())
        note("recipe_changed", changed, progress.step)
        for message in advise(recipe, session.config.steps):
            note(ADVICE, message, progress.step)
    was, will_be = _learning_rates(before, recipe, progress.step, session)
    if will_be > 1.5 * was:
        note(
            "learning_rate_rises",
            f"from {was:.3g} to {will_be:.3g}: the schedule was stretched over what had decayed",
            progress.step,
        )
    if progress.data_fingerprint != now.data_fingerprint:
        note("data_changed", "other training data from here on", progress.step)
        known = {source.name for source in before.data.source}
        again = read_again(
            progress.read, data.training, progress.sample, progress.skipped, known=known
        )
        for name, message in consumed_notes(recipe, data.training, again):
            note(name, message, progress.step)
    for field in ("seed", "data_fingerprint", "recipe_hash", "threads", "ranks", "versions"):
        setattr(progress, field, getattr(now, field))
    reference = ready_reference(session, report)
    if reference is not None and ranks.is_main:
        write_atomically(paths.reference, reference)
    return session


def _learning_rates(
    before: Recipe, recipe: Recipe, step: int, session: Session
) -> tuple[float, float]:
    """The learning rate of the last step that was made, and of the one that comes."""
    steps_before = before.steps(windows_per_epoch=session.data.windows_per_epoch)
    if step == 0 or steps_before is None:
        return recipe.optim.lr, recipe.optim.lr
    was = before.optim.lr * before.settings(steps_before).at(step).lr
    return was, recipe.optim.lr * session.config.settings.at(step + 1).lr


def _refuse_lost(paths: RunPaths) -> None:
    """A run whose rows say that it was trained has had checkpoints, from before its first step."""
    rows = read_json_lines(paths.metrics)
    trained = max((int(row["step"]) for row in rows if "loss" in row), default=0)
    if trained:
        raise UserError(
            f"{paths.root} was trained up to step {trained:,}, but its checkpoints are gone.",
            fix=f"Put them back into {paths.checkpoints}, or start a new run; nothing is trained "
            "from scratch in silence.",
            regret="R40",
        )


def _differences(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    """What changed, as `key=new (was old)`."""
    keys = dict.fromkeys((*before, *now))
    return ", ".join(
        f"{key}={now.get(key)} (was {before.get(key)})"
        for key in keys
        if before.get(key) != now.get(key)
    )


def _check_same(saved: Progress, now: Progress, recipe: Recipe, before: Recipe) -> None:
    """Refuses to go on with other data or another tokenizer than the checkpoint's."""
    if saved.tokenizer_fingerprint != now.tokenizer_fingerprint:
        raise UserError(
            "The data was prepared with another tokenizer than the one this run was trained with.",
            fix="Prepare it with the run's own: --tokenizer RUN/checkpoints/latest.",
            regret="R13",
        )
    decides = {"path", "source", "stage", "val_fraction", "documents", "seed"}
    on_purpose = recipe.data.model_dump(include=decides) != before.data.model_dump(include=decides)
    if saved.data_fingerprint != now.data_fingerprint and not on_purpose:
        raise UserError(
            f"The training data is not what this run was trained on (fingerprint "
            f"{now.data_fingerprint[:12]} instead of {saved.data_fingerprint[:12]}).",
            fix="Restore it, or say so on purpose with an override of data.path or data.source.",
            regret="R13",
        )
