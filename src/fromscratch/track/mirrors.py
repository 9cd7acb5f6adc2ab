"""The trackers that a recipe switches on besides the run's own files."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.names import RunPaths
from fromscratch.track.config import TrackConfig
from fromscratch.track.mirror import Mirror, Report, history_of
from fromscratch.track.tensorboard import TensorBoardSink
from fromscratch.track.tracker import Tracker
from fromscratch.track.wandb import WandbSink


def refuse_missing_trackers(config: TrackConfig) -> None:
    """Checks that the packages of the trackers that are switched on are there.

    Raises:
        UserError: One is not.
    """
    for package in ("tensorboard", "wandb"):
        if getattr(config, package) and find_spec(package) is None:
            raise UserError(
                f"track.{package} = true needs the package {package}, which is not installed.",
                fix="pip install 'fromscratch[track]'",
            )


def open_mirrors(
    config: TrackConfig, paths: RunPaths, *, recipe: dict[str, Any], report: Report
) -> list[Tracker]:
    """Starts what the recipe switches on.

    Args:
        config: The recipe's table.
        paths: The run, whose files say what it has done so far and no more.
        recipe: All of it, to be shown.
        report: Takes the events of the trackers themselves: failures, where a run is shown.
    """
    mirrors: list[Tracker] = []
    if config.tensorboard:
        mirrors.append(
            Mirror(
                "TensorBoard",
                lambda say: TensorBoardSink(paths.tensorboard, recipe),
                lambda: history_of(paths),
                report,
            )
        )
    if config.wandb:
        mirrors.append(
            Mirror(
                "wandb",
                lambda say: WandbSink(paths, config, recipe, say),
                lambda: history_of(paths),
                report,
            )
        )
    return mirrors
