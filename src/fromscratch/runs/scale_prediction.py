"""What a ladder's law expects of a run, kept in the run's folder before its first step.

In: a ladder's folder, and a run that is ready to train. Out: prediction.json, from which the run's
report shows predicted against achieved, whatever becomes of the ladder. Without torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import dump_json, read_json
from fromscratch.plan.ladder import Size, sizes_of
from fromscratch.plan.scaling_law import FittedRun, Prediction, ScalingLaw
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.scale_plan import LadderPlan, flops_of, parameters_of, read_ladder
from fromscratch.runs.scale_result import ScaleResult, read_result
from fromscratch.runs.scale_rules import settings_for

if TYPE_CHECKING:
    from fromscratch.runs.session import Session


@dataclass(frozen=True)
class RunPrediction:
    """What was expected of a run.

    Attributes:
        ladder: Folder of the ladder, as it was given.
        parameters: Of the run's model.
        tokens: That it will be trained on.
        flops: Of that.
        expected: Loss and interval, nats per token.
        bits_per_nat: Bits per byte for each nat per token.
        law: By which.
        runs: What the law was fitted to.
        differences: What the run does otherwise than the ladder's runs did.
    """

    ladder: str
    parameters: int
    tokens: int
    flops: float
    expected: Prediction
    bits_per_nat: float
    law: ScalingLaw
    runs: tuple[FittedRun, ...]
    differences: tuple[str, ...]

    @property
    def reach(self) -> float:
        """Its arithmetic over that of the ladder's largest run."""
        return self.flops / max(run.flops for run in self.runs)


def predict_run(folder: Path, session: Session) -> str:
    """The content of prediction.json for a run that is about to start.

    Raises:
        UserError: The ladder is not done, or its losses do not compare with the run's.
    """
    result, plan, recipe = read_result(folder), read_ladder(folder), session.recipe
    _check(folder, result, recipe, session.data.describe())
    tokens = session.config.steps * recipe.train.tokens_per_step
    parameters = parameters_of(recipe)
    made = RunPrediction(
        ladder=str(folder),
        parameters=parameters,
        tokens=tokens,
        flops=flops_of(recipe, tokens),
        expected=result.fit.predict(parameters, tokens),
        bits_per_nat=result.bits_per_nat,
        law=result.fit.law,
        runs=result.fit.runs,
        differences=tuple(_differences(plan, recipe, tokens)),
    )
    return dump_json({"format": 1} | asdict(made), indent=1) + "\n"


def read_prediction(path: Path) -> RunPrediction | None:
    """A run's prediction.json; None where there is none, or none that can be read."""
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = read_json(path)
        return RunPrediction(
            ladder=str(content["ladder"]),
            parameters=int(content["parameters"]),
            tokens=int(content["tokens"]),
            flops=float(content["flops"]),
            expected=Prediction(**{k: float(v) for k, v in content["expected"].items()}),
            bits_per_nat=float(content["bits_per_nat"]),
            law=ScalingLaw(**{k: float(v) for k, v in content["law"].items()}),
            runs=tuple(FittedRun(**run) for run in content["runs"]),
            differences=tuple(map(str, content["differences"])),
        )
    except (UserError, KeyError, TypeError, ValueError, AttributeError):
        return None


def _check(folder: Path, result: ScaleResult, recipe: Recipe, data: dict[str, object]) -> None:
    """Refuses a run whose loss is not of what the ladder's losses are of."""
    pairs = {
        "data.tokenizer": (data["tokenizer"], result.data["tokenizer"]),
        "held-out tokens": (data["val_tokens"], result.data["val_tokens"]),
        "held-out bytes": (data["val_bytes"], result.data["val_bytes"]),
        "eval.tokens": (recipe.eval.tokens, result.eval_tokens),
        "model.context": (recipe.model.context, result.context),
    }
    for what, (own, theirs) in pairs.items():
        if own != theirs:
            raise UserError(
                f"The ladder {folder} says nothing of this run: its losses are of other held-out "
                f"text, or read otherwise ({what}: {theirs} there, {own} here).",
                fix="Train on the ladder's data with its settings, or leave --scale out.",
            )


def _differences(plan: LadderPlan, recipe: Recipe, tokens: int) -> list[str]:
    """Settings that are not what the ladder's rules make of its recipe at this size."""
    base = plan.base
    size = next((s for s in sizes_of(base.model) if s.model == recipe.model), None)
    if size is None:
        return ["the model is not of the ladder's family of shapes"]
    return [
        f"{key} is {own:g}, and the ladder's rules say {wanted:g}"
        for key, own, wanted in _compared(base, recipe, size, tokens, plan.reference)
        if abs(own - wanted) > 0.02 * abs(wanted)
    ]


def _compared(
    base: Recipe, recipe: Recipe, size: Size, tokens: int, reference: int
) -> list[tuple[str, float, float]]:
    """Number by number: the key, what the run has, what the rules say."""
    wanted = settings_for(base, size, tokens, reference=reference)
    rows = []
    for key, text in wanted.items():
        table, _, name = key.partition(".")
        if table in ("optim", "schedule") or key == "train.tokens_per_step":
            own = getattr(getattr(recipe, table), name)
            rows.append((key, float(own or 0), float(text)))
    if recipe.optim.name == base.optim.name == "muon":
        rows.append(("optim.muon_lr", recipe.optim.muon_lr, base.optim.muon_lr))
    return rows
