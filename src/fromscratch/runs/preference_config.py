"""The `[preference]` table of a recipe. Without torch, so that `plan` can read it."""

from __future__ import annotations

from pydantic import Field

from fromscratch.foundation.settings import Share, Table


class PreferenceConfig(Table):
    """How preferences are learnt; in force where the objective is `dpo` or `orpo`."""

    beta: float = Field(default=0.1, gt=0.0, allow_inf_nan=False)
    """Of DPO, how closely the model stays to the one that it starts from (the higher, the closer);
    of ORPO, the weight of the odds ratio beside finetuning's loss."""
    label_smoothing: Share = Field(default=0.0, ge=0.0, lt=0.5)
    """Of DPO, the share of pairs that may be labelled the wrong way round."""
