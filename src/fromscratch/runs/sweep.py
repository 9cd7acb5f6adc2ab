"""Works on a sweep: takes trial after trial until none is left. Each is an ordinary run.

A trial that was begun is resumed where it stands. One that cannot learn or does not fit into memory
has failed, with its reason, and the sweep goes on; what concerns all trials (no data, a full disk)
ends the work, and the trial stays open.
"""

from __future__ import annotations

import gc
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from fromscratch.data.watching import Watch
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import read_json_lines
from fromscratch.foundation.names import RunPaths
from fromscratch.runs.assemble import new_run
from fromscratch.runs.opened_data import POOLED
from fromscratch.runs.pick_up import open_run
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.session import Session
from fromscratch.runs.sweep_plan import Measure
from fromscratch.runs.sweep_study import Claim, SweepStudy, TrialResult
from fromscratch.track.tracker import Tracker


def work(
    study: SweepStudy,
    *,
    report: Watch,
    listeners: Callable[[Session], Sequence[Tracker]],
    on_begin: Callable[[Claim, bool], None],
    on_end: Callable[[Claim, TrialResult | str], None],
    admit: Callable[[Claim], str | None] = lambda claim: None,
) -> bool:
    """Takes trials until there is none that nobody works on.

    Args:
        study: The sweep.
        report: Told how the preparation of data goes.
        listeners: Makes the trackers of a trial's session.
        on_begin: Told of each trial, and whether it goes on from a checkpoint.
        on_end: Told of its result, or why it has none.
        admit: Says why a trial is left out; None where it is not.

    Returns:
        False when it was asked to stop.

    Raises:
        UserError: Something that concerns all trials.
    """
    while True:
        with study.next_trial() as claim:
            if claim is None:
                return True
            _forget_the_last_trial()
            if (refused := admit(claim)) is not None:
                study.fail(claim.number, refused)
                on_end(claim, refused)
                continue
            begun = RunPaths(claim.run).recipe.is_file()
            try:
                recipe = study.plan.recipe(claim.values)
            except UserError as error:  # drawn values that do not go together
                study.fail(claim.number, str(error))
                on_end(claim, str(error))
                continue
            on_begin(claim, begun)
            # One process at a time: the first one prepares the data for all.
            with study.alone():
                session = _session(recipe, claim, study.folder, begun, report)
            outcome = _train(session, listeners)
            if outcome is False:
                return False
            if isinstance(outcome, str):
                study.fail(claim.number, outcome)
                on_end(claim, outcome)
                continue
            result = result_of(claim.run, study.plan.measure)
            if not math.isfinite(result.value):
                study.fail(claim.number, "its last validation is not finite")
                on_end(claim, "its last validation is not finite")
                continue
            study.finish(claim.number, result)
            on_end(claim, result)


def result_of(run: Path, measure: Measure = "val_bpb") -> TrialResult:
    """A finished run's result, from its own rows."""
    rows = list(read_json_lines(RunPaths(run).metrics))
    steps = [row for row in rows if "loss" in row]
    evaluations = [row for row in rows if row.get("set") == POOLED]
    bits = [float(row["val_bpb"]) for row in evaluations]
    return TrialResult(
        val_bpb=bits[-1],
        best_bpb=min(bits),
        val_loss=float(evaluations[-1]["val_loss"]),
        tokens=int(steps[-1]["tokens"]),
        steps=int(steps[-1]["step"]),
        seconds=float(evaluations[-1]["seconds"]),
        tokens_per_s=statistics.median(float(row["tokens_per_s"]) for row in steps),
        best_loss=min(float(row["val_loss"]) for row in evaluations),
        measure=measure,
    )


def _session(recipe: Recipe, claim: Claim, folder: Path, begun: bool, report: Watch) -> Session:
    if begun:
        return open_run(claim.run, report=report)
    track = recipe.track
    if track.wandb and track.wandb_group is None:
        track = track.model_copy(update={"wandb_group": folder.resolve().name})
    named = {"name": f"{recipe.name} {claim.run.name}", "track": track}
    return new_run(recipe.model_copy(update=named), claim.run, report=report)


def _train(session: Session, listeners: Callable[[Session], Sequence[Tracker]]) -> bool | str:
    """Whether the trial was trained to its end; or why it cannot be."""
    progress = session.state.progress
    if progress.step >= session.config.steps and progress.duties_done:
        session.lock.release()  # killed after its last step, before its result was written down
        return True
    try:
        return session.train(listeners(session))
    except UserError as error:
        if isinstance(error.__cause__, OSError):  # a full disk is no property of the trial
            raise
        return error.what
    except torch.OutOfMemoryError:
        return "out of memory: a smaller train.micro_batch changes nothing but the speed"


def _forget_the_last_trial() -> None:
    """What a run sets for its whole process must not reach the next one."""
    gc.collect()
    torch.set_float32_matmul_precision("highest")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
