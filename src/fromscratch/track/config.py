"""The `[track]` table of a recipe. Without torch, so that `plan` can read it."""

from __future__ import annotations

from fromscratch.foundation.settings import Table


class TrackConfig(Table):
    """Trackers besides the run's own files, which are always written."""

    tensorboard: bool = False
    """Whether event files are written into RUN/tensorboard."""
    wandb: bool = False
    """Whether Weights & Biases shows the run, as WANDB_MODE says."""
    wandb_project: str | None = None
    """Left out: WANDB_PROJECT, else `fromscratch`."""
    wandb_entity: str | None = None
    """Who the project belongs to; left out: wandb's own default."""
    wandb_name: str | None = None
    """What the run is called there; left out: as its folder."""
    wandb_group: str | None = None
    """The group that it is shown in."""
    wandb_tags: list[str] = []
    """Its tags."""
