"""What a recipe's settings become for another size of model and another length of run.

In: a recipe, a size, tokens. Out: overrides of the recipe. The same rules make the runs of a ladder
and the run that is proposed in the end, so that the law speaks of that run, too. Without torch.

- Tokens a step grow as D^0.383 (Bergsma et al. 2025, arXiv:2505.13738; nanochat does the same)
  from what the recipe says for its own length, to the nearest 2^k or 3 * 2^k windows.
- AdamW's rate falls as 1 / width where it moves the matrices (Yang et al. 2022, arXiv:2203.03466;
  Everett et al. 2024, arXiv:2407.05872; table 2.1 of GPT-3 falls as width^-0.83). Beside Muon,
  where it has embedding, head and norms only, it falls as 1 / sqrt(width), as nanochat's. Muon's
  own rate stays: the size of its update does not depend on the width. Floors follow their peaks.
- Of two pulls on the rate that come with less text, the smaller batch (lower: Malladi et al. 2022,
  arXiv:2205.10343) and the shorter run (higher: Bjorck et al. 2024, arXiv:2409.19913), neither is
  applied: over a factor of a hundred they come to less than two, against each other.
- Warmup takes at most a tenth of a run.
"""

from __future__ import annotations

import math

from fromscratch.foundation.errors import UserError
from fromscratch.plan.ladder import Size
from fromscratch.plan.memory import divisors
from fromscratch.runs.recipe import Recipe

BATCH_EXPONENT = 0.383
FEWEST_STEPS = 32
"""Of a run of the ladder: with fewer, its schedule would be a flight of stairs."""

_SHAPE = ("n_layer", "n_head", "n_kv_head", "d_model", "d_ff")


def check_scalable(recipe: Recipe) -> None:
    """Refuses a recipe whose settings do not follow its length.

    Raises:
        UserError: Says which.
    """
    if recipe.train.objective != "pretrain":
        raise UserError(
            f"A scaling law is about pretraining; the recipe has train.objective = "
            f'"{recipe.train.objective}".',
            fix="Give a recipe that pretrains, e.g. modern-124m.",
        )
    for what, there in (
        ("[[train.phase]]", bool(recipe.train.phase)),
        ("[[data.stage]]", bool(recipe.data.stage)),
    ):
        if there:
            raise UserError(
                f"The recipe has {what}, bound to one length of run: runs of other lengths would "
                "be trained in another way, and no law holds for them together.",
                fix=f"Make a recipe without {what} for the ladder.",
            )


def settings_for(recipe: Recipe, size: Size, tokens: int, *, reference: int) -> dict[str, str]:
    """Overrides that make a recipe train another size for so many tokens.

    Args:
        recipe: The user's.
        size: Of its family.
        tokens: To train on; the run takes whole steps of it.
        reference: Tokens of the recipe's own run, to which its tokens a step belong.

    Returns:
        Values by dotted key: always the same keys for the same recipe.
    """
    windows = _windows(recipe, tokens, reference)
    steps = max(1, round(tokens / (windows * recipe.model.context)))
    settings = {f"model.{name}": str(getattr(size.model, name)) for name in _SHAPE}
    settings |= {
        "train.steps": str(steps),
        "train.tokens_per_step": str(windows * recipe.model.context),
        "train.micro_batch": str(_micro_batch(recipe, windows)),
        "schedule.warmup_steps": str(min(recipe.schedule.warmup_steps, steps // 10)),
    }
    return settings | _rates(recipe, size)


def _windows(recipe: Recipe, tokens: int, reference: int) -> int:
    """Windows of a step."""
    wanted = recipe.samples_per_step * (tokens / reference) ** BATCH_EXPONENT
    most = max(1, tokens // (FEWEST_STEPS * recipe.model.context))
    wanted = max(1.0, min(wanted, most))
    friendly: list[int] = [m * 2**k for k in range(24) for m in (1, 3)]
    fitting = [n for n in friendly if n <= most] or [1]
    return int(min(fitting, key=lambda n: abs(math.log(n / wanted))))


def _micro_batch(recipe: Recipe, windows: int) -> int | str:
    """The largest that divides the step and is no larger than the recipe's."""
    if recipe.train.micro_batch == "auto":
        return "auto"
    return max(n for n in divisors(windows) if n <= recipe.micro_batch)


def _rates(recipe: Recipe, size: Size) -> dict[str, str]:
    """The learning rates that follow the width."""
    optim = recipe.optim
    exponent = 0.5 if optim.name == "muon" else 1.0
    factor = (recipe.model.d_model / size.model.d_model) ** exponent
    rates = {
        f"optim.{name}": value
        for name in ("lr", "embed_lr", "head_lr", "plain_lr")
        if (value := getattr(optim, name)) is not None
    }
    if recipe.schedule.min_lr:
        rates["schedule.min_lr"] = recipe.schedule.min_lr
    return {name: f"{value * factor:.4g}" for name, value in rates.items()}
