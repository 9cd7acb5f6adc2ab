"""The `[preference]` table of a recipe. Without torch, so that `plan` can read it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class PreferenceConfig(BaseModel):
    """How preferences are learnt; in force where the objective is `dpo` or `orpo`.

    `beta`: of DPO, how strongly the model is held to the one that it starts from (the higher, the
    closer it stays); of ORPO, the weight of the odds ratio beside finetuning's loss.
    `label_smoothing`: of DPO, the share of pairs that may be labelled the wrong way round.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    beta: float = Field(default=0.1, gt=0.0, allow_inf_nan=False)
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=0.5)
