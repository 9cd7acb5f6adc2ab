"""A ladder of small runs, settled: what each of them trains, and what it was planned with.

In: a recipe, its data, the speeds of its sizes. Out: a `LadderPlan`, which is a sweep whose trials
are listed, so that a sweep's machinery runs it. Without torch and optuna.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import read_json
from fromscratch.foundation.names import SCALE_LADDER
from fromscratch.model.count import count_parameters, flops_per_token
from fromscratch.plan.ladder import Rung, Size
from fromscratch.runs.mixture_plan import epochs_refusal, prepared_tokens
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.scale_rules import settings_for
from fromscratch.runs.sweep_plan import Choices, SweepPlan

MOST_EPOCHS = 4
"""Up to so many passes a text is worth nearly as much as new text (Muennighoff et al. 2023,
arXiv:2305.16264); beyond, the law does not hold."""

QUIET = (
    "eval.every=0",
    "eval.patience=0",
    "eval.hellaswag_every=0",
    "sample.every=0",
    "train.health_every=0",
    "checkpoint.every=1_000_000_000",
    "checkpoint.every_minutes=1",
    "checkpoint.keep_last=1",
    "checkpoint.keep_every=0",
    "checkpoint.keep_best=false",
)
"""What a run of the ladder leaves out: it is there for its last validation."""


@dataclass(frozen=True)
class Measure:
    """How fast a size trains here.

    Attributes:
        parameters: Of the model.
        flops: A second.
        tokens_per_s: Trained.
        val_tokens_per_s: Validated.
        micro_batch: With which it was measured.
        device: On which, as its driver calls it.
    """

    parameters: int
    flops: float
    tokens_per_s: float
    val_tokens_per_s: float
    micro_batch: int
    device: str


@dataclass(frozen=True)
class LadderPlan(SweepPlan):
    """What a ladder trains.

    Attributes:
        typed: The recipe as the command named it.
        trained: Settings of each run, by dotted key.
        seconds: Each should take.
        each: The part of them besides training, the same for all.
        budget: Seconds, for all.
        overrides: Of the recipe, as they were given.
        reference: Tokens of the recipe's own run.
        device: As its driver calls it.
        precision: What `train.precision` becomes there.
        measures: By ascending size.
        planned_in: Seconds that measuring took; they count.
        data: What the runs are trained and judged on (`OpenedData.describe`).
    """

    typed: str
    trained: tuple[dict[str, str], ...]
    seconds: tuple[float, ...]
    each: float
    budget: float
    overrides: tuple[str, ...]
    reference: int
    device: str
    precision: str
    measures: tuple[Measure, ...]
    planned_in: float
    data: dict[str, Any]

    def combinations(self) -> Iterator[dict[str, str]]:
        """The ladder's runs, cheapest first."""
        yield from self.trained

    @property
    def base(self) -> Recipe:
        """The user's recipe, which the ladder speaks of."""
        from fromscratch.runs.recipe_files import parse_recipe

        return parse_recipe(self.text, name=self.name, overrides=self.overrides)

    @property
    def text_tokens(self) -> int:
        """Training tokens that there are."""
        return int(self.data["train_tokens"])

    def to_json(self) -> dict[str, Any]:
        """As it is kept in the ladder's folder."""
        content = asdict(self)
        for key in ("axes", "sampler", "trials", "fixed"):
            del content[key]
        return {"format": 1, "recipe": content.pop("name"), **content}


def ladder_from_json(content: dict[str, Any]) -> LadderPlan:
    """The inverse of `LadderPlan.to_json`."""
    kept = dict(content)
    del kept["format"]
    trained = tuple(kept.pop("trained"))
    measures = tuple(Measure(**entry) for entry in kept.pop("measures"))
    overrides = tuple(kept.pop("overrides"))
    return _ladder(
        name=kept.pop("recipe"),
        trained=trained,
        measures=measures,
        overrides=overrides,
        seconds=tuple(kept.pop("seconds")),
        **kept,
    )


def read_ladder(folder: Path) -> LadderPlan:
    """The plan in a ladder's folder.

    Raises:
        UserError: There is none, or it is damaged.
    """
    path = folder / SCALE_LADDER
    if not path.is_file():
        raise UserError(
            f"{folder} is not a ladder (it has no {SCALE_LADDER}).",
            fix="Make one: fromscratch scale RECIPE --budget 1h",
        )
    try:
        return ladder_from_json(read_json(path))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged: {error}.") from None


def settle_ladder(recipe: Recipe, text: str, rungs: Sequence[Rung], **about: Any) -> LadderPlan:
    """Makes a plan of a ladder's runs.

    Args:
        recipe: The user's, with its overrides.
        text: Its TOML, without them.
        rungs: What to train.
        **about: The plan's other attributes.

    Raises:
        UserError: A run would go through a source more often than the recipe allows.
    """
    available = prepared_tokens(recipe)
    trained = []
    for rung in rungs:
        settings = settings_for(recipe, rung.size, rung.tokens, reference=about["reference"])
        step = int(settings["train.tokens_per_step"])
        train = recipe.train.model_copy(update={"tokens_per_step": step})
        refused = epochs_refusal(
            recipe.model_copy(update={"train": train}), int(settings["train.steps"]), available
        )
        if refused is not None:
            raise UserError(f"A run of the ladder cannot be: {refused.what}", fix=refused.fix)
        trained.append(settings)
    return _ladder(
        name=recipe.name,
        text=text,
        trained=tuple(trained),
        seconds=tuple(rung.seconds for rung in rungs),
        **about,
    )


def _ladder(*, trained: tuple[dict[str, str], ...], **about: Any) -> LadderPlan:
    """With what makes a sweep of it: every setting an axis, and its values those of the runs."""
    axes = {key: Choices(tuple(dict.fromkeys(run[key] for run in trained))) for key in trained[0]}
    return LadderPlan(
        fixed=(*about["overrides"], *QUIET),
        axes=dict(axes),
        sampler="grid",
        trials=len(trained),
        trained=trained,
        **about,
    )


def flops_of(recipe: Recipe, tokens: int) -> float:
    """Of the training of a run."""
    return float(flops_per_token(recipe.model)) * tokens


def parameters_of(recipe: Recipe) -> int:
    """What the law calls N: all of them."""
    return count_parameters(recipe.model).total


def speed_at(measures: Sequence[Measure], size: Size) -> float:
    """Tokens a second of any size: its arithmetic at the rate of those near it, in logarithms.

    A larger model is taken to be computed at no lower rate than a smaller one: its matrices fill a
    device better, and where it was measured slower, something else had the device.
    """
    known = [np.log(m.parameters) for m in measures]
    rates = np.maximum.accumulate([np.log(m.flops) for m in measures])
    return float(np.exp(np.interp(np.log(size.parameters), known, rates)) / size.flops_per_token)
