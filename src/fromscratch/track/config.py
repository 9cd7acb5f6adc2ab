"""The `[track]` table of a recipe. Without torch, so that `plan` can read it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class TrackConfig(BaseModel):
    """Trackers besides the run's own files, which are always written.

    `tensorboard` writes event files into RUN/tensorboard. `wandb` shows the run at Weights &
    Biases, as WANDB_MODE says: in `wandb_project` (else WANDB_PROJECT, else "fromscratch") of
    `wandb_entity`, called `wandb_name` (else as the run folder), in `wandb_group`, with
    `wandb_tags`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tensorboard: bool = False
    wandb: bool = False
    wandb_project: str | None = None
    wandb_entity: str | None = None
    wandb_name: str | None = None
    wandb_group: str | None = None
    wandb_tags: list[str] = []
