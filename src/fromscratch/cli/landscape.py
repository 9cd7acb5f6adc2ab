"""`report --landscape`: computes what of a run's loss landscape is not there yet."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import typer
from filelock import FileLock, Timeout

from fromscratch.cli.progress import items_a_second, progress
from fromscratch.cli.show import err, say
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import write_atomically
from fromscratch.foundation.names import LANDSCAPE_LOCK, LANDSCAPE_PICTURE, RunPaths, step_of_folder

TOKENS = 4096
"""Held-out tokens per point: the shape of the surface needs fewer than its height."""
_MOST_POINTS = 201
_TOKENS_AT_A_TIME = 8192


def check_grid(points: int, reach: float) -> None:
    """Refuses a grid without a middle point, or without an extent.

    Raises:
        UserError: Says which.
    """
    if points % 2 == 0 or not 3 <= points <= _MOST_POINTS:
        raise UserError(
            f"--landscape-points {points} is not an odd number from 3 to {_MOST_POINTS}.",
            fix="The middle point is the model itself: say for example 21.",
        )
    if not (math.isfinite(reach) and reach > 0):
        raise UserError(
            f"--landscape-range {reach:g} is not a distance.", fix="Say for example 1.0."
        )


def compute_landscape(run: Path, *, points: int, reach: float, tokens: int = TOKENS) -> None:
    """Computes the landscape around a run's best checkpoint, as far as it is not on disk.

    Args:
        run: The run folder; its data must be where its recipe says.
        points: Along each axis.
        reach: How far each axis goes, in norms of the weights' rows.
        tokens: Held-out tokens per point, rounded up to whole windows.

    Raises:
        UserError: The run has no checkpoint or no data, or another process is at it.
    """
    check_grid(points, reach)
    from fromscratch.checkpoint.bundle import load_bundle
    from fromscratch.data.batches import ValidationSet
    from fromscratch.data.watching import unwatched
    from fromscratch.evaluate.landscape import compute_points
    from fromscratch.evaluate.landscape_points import LandscapeSettings, PointsFile, read_landscapes
    from fromscratch.foundation.hardware import resolve_device
    from fromscratch.runs.objectives import open_training_data
    from fromscratch.runs.recipe_files import load_recipe

    paths = RunPaths(run)
    if not paths.recipe.is_file():
        raise UserError(
            f"{run} has no {paths.recipe.name}, so its model and its data are not known.",
            fix="Name the folder that `fromscratch train` made.",
        )
    recipe = load_recipe(str(paths.recipe))
    if recipe.has_pairs:
        raise UserError(
            f"{run} was trained on preferences: its loss is of two models on pairs of answers, and "
            "a landscape is of one model's loss on text.",
            fix="Leave out --landscape; the report has the run's own curves.",
        )
    bundle = load_bundle(run)
    opened = open_training_data(recipe, unwatched)
    if not opened.validation:
        raise UserError(
            f"Of the data of {run} nothing is held out, so there is no text to measure on.",
            fix="Prepare data with a validation split.",
        )
    each = -(-tokens // len(opened.validation))
    sets: list[ValidationSet] = [replace(s, max_tokens=each) for s in opened.validation]
    context = recipe.model.context
    settings = LandscapeSettings(
        model=bundle.sha256,
        step=step_of_folder(bundle.folder.resolve().name),
        data=opened.training.fingerprint,
        targets=sum(min(len(s.chosen()) * context, s.windows.n_tokens) for s in sets),
        context=context,
        seed=0,
        points=points,
        reach=reach,
    )
    paths.landscape.mkdir(exist_ok=True)
    lock = FileLock(paths.landscape / LANDSCAPE_LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"Another process computes the landscape of {run}.") from None
    with lock, progress(items_a_second, counts=True) as report:
        file = PointsFile(paths.landscape, settings)
        before = file.done

        def on_point(done: int) -> None:
            # Points that were there before are not counted into the rate.
            report("loss landscape", done, points**2, done - before)

        on_point(before)
        model = bundle.model.to(resolve_device("auto"))
        model.build_tables(model.device)
        batch_size = max(1, _TOKENS_AT_A_TIME // context)
        try:
            compute_points(model, sets, file, batch_size=batch_size, on_point=on_point)
        except KeyboardInterrupt:
            err.print(
                f"Interrupted after {file.done:,} of {points**2:,} points, which are kept; the "
                "same command goes on."
            )
            raise typer.Exit(130) from None
    from fromscratch.report.landscape_picture import landscape_picture

    found = next(p for p in read_landscapes(paths.landscape) if p.settings == settings)
    picture = paths.landscape / LANDSCAPE_PICTURE
    write_atomically(
        picture, landscape_picture(found, f"Loss around the weights of {run.resolve().name}")
    )
    say(str(picture))
