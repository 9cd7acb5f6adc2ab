"""The `[optim]` table of a recipe. Without torch, so that `plan` can read it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fromscratch.foundation.errors import UserError


class OptimConfig(BaseModel):
    """What the optimiser is and how it is set.

    `lr` is AdamW's peak learning rate; with `muon`, `muon_lr` is that of the matrices inside the
    blocks and AdamW takes the rest. `embed_lr`, `head_lr` and `plain_lr` (norms and biases) default
    to `lr`. `clip` bounds the global gradient norm; 0 switches it off. `engine` is what computes
    `adamw8bit`: `auto` is bitsandbytes, or torchao where that is not installed.

    Muon orthogonalises in `muon_steps` steps: `newton_schulz` is Jordan's quintic, usually five
    times; `polar_express` (Amsel et al. 2025) changes its polynomial from step to step, comes as
    far in three, and has five.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["adamw", "adamw8bit", "muon"] = "adamw"
    engine: Literal["auto", "bitsandbytes", "torchao"] = "auto"
    lr: float = Field(default=6e-4, gt=0.0)
    embed_lr: float | None = Field(default=None, gt=0.0)
    head_lr: float | None = Field(default=None, gt=0.0)
    plain_lr: float | None = Field(default=None, gt=0.0)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = Field(default=1e-8, gt=0.0)
    weight_decay: float = Field(default=0.1, ge=0.0)
    clip: float = Field(default=1.0, ge=0.0)
    muon_lr: float = Field(default=0.02, gt=0.0)
    muon_momentum: float = Field(default=0.95, ge=0.0, lt=1.0)
    muon_weight_decay: float = Field(default=0.0, ge=0.0)
    muon_method: Literal["newton_schulz", "polar_express"] = "newton_schulz"
    muon_steps: int = Field(default=5, ge=1, le=20)

    @model_validator(mode="after")
    def _check(self) -> OptimConfig:
        if self.engine != "auto" and self.name != "adamw8bit":
            raise UserError(
                f'optim.engine = "{self.engine}" has no effect with optim.name = "{self.name}": '
                "engines compute adamw8bit.",
                fix="Leave it out, or use optim.name=adamw8bit.",
            )
        if self.muon_method == "polar_express" and self.muon_steps > 5:
            raise UserError(
                f"optim.muon_steps = {self.muon_steps}, but polar_express has five steps.",
                fix="Use at most 5: three come as far as five of newton_schulz.",
            )
        return self
