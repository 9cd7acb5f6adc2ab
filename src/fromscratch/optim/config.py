"""The `[optim]` table of a recipe. Without torch, so that `plan` can read it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.settings import Steps, Table


class OptimConfig(Table):
    """What the optimiser is and how it is set."""

    name: Literal["adamw", "adamw8bit", "muon"] = "adamw"
    """`muon` has the matrices inside the blocks, and AdamW the rest."""
    engine: Literal["auto", "bitsandbytes", "torchao"] = "auto"
    """What computes `adamw8bit`; `auto`: bitsandbytes, or torchao where that is not installed."""
    lr: float = Field(default=6e-4, gt=0.0)
    """AdamW's peak learning rate."""
    embed_lr: float | None = Field(default=None, gt=0.0)
    """Peak learning rate of the embeddings; left out: `lr`."""
    head_lr: float | None = Field(default=None, gt=0.0)
    """Peak learning rate of a head of its own; left out: `lr`."""
    plain_lr: float | None = Field(default=None, gt=0.0)
    """Peak learning rate of norms and biases; left out: `lr`."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay rates of the two moments."""
    eps: float = Field(default=1e-8, gt=0.0)
    """What AdamW adds to the root of the second moment."""
    weight_decay: float = Field(default=0.1, ge=0.0)
    """AdamW's, of matrices and embeddings; norms and biases have none. Times the learning rate."""
    clip: float = Field(default=1.0, ge=0.0)
    """Bound of the global gradient norm; 0: off."""
    muon_lr: float = Field(default=0.02, gt=0.0)
    """Muon's peak learning rate."""
    muon_momentum: float = Field(default=0.95, ge=0.0, lt=1.0)
    """Muon's momentum, in Nesterov's form."""
    muon_weight_decay: float = Field(default=0.0, ge=0.0)
    """Muon's weight decay, times its learning rate."""
    muon_method: Literal["newton_schulz", "polar_express"] = "newton_schulz"
    """How it orthogonalises: Jordan's quintic, or polynomials that change (Amsel et al. 2025)."""
    muon_steps: Steps = Field(default=5, ge=1, le=20)
    """Of `newton_schulz` usually five; three of `polar_express` come as far, and it has five."""

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
