"""What a ladder says: its runs, the law fitted to them, and the file that keeps both.

In: the study of a ladder. Out: a `ScaleResult`, which is written to scale.json and read from there
by whoever asks the law later: `scale FOLDER`, `train --scale FOLDER`. Without torch.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import dump_json, read_json, write_atomically
from fromscratch.foundation.names import SCALE_RESULT
from fromscratch.plan.law_fit import fit_law
from fromscratch.plan.scaling_law import FittedRun, LawFit, fit_from_json
from fromscratch.runs.scale_plan import LadderPlan, flops_of, parameters_of
from fromscratch.runs.sweep_study import TrialRow


@dataclass(frozen=True)
class ScaleResult:
    """A fitted ladder.

    Attributes:
        recipe: Name of the recipe that it speaks of.
        fit: The law.
        bits_per_nat: Bits per byte of the held-out text for each nat per token, by its tokenizer.
        data: What the runs were trained and judged on (`OpenedData.describe`).
        eval_tokens: Held-out targets of each run's last validation, as the recipe bounds them.
        context: Of all runs.
    """

    recipe: str
    fit: LawFit
    bits_per_nat: float
    data: dict[str, Any]
    eval_tokens: int
    context: int

    def to_json(self) -> dict[str, Any]:
        """As scale.json has it, but for the answer."""
        return {
            "format": 1,
            "recipe": self.recipe,
            "fit": self.fit.to_json(),
            "bits_per_nat": self.bits_per_nat,
            "data": self.data,
            "eval_tokens": self.eval_tokens,
            "context": self.context,
        }


def result_from_json(content: dict[str, Any]) -> ScaleResult:
    """The inverse of `ScaleResult.to_json`.

    Raises:
        KeyError, TypeError, ValueError: It is none.
    """
    return ScaleResult(
        recipe=str(content["recipe"]),
        fit=fit_from_json(content["fit"]),
        bits_per_nat=float(content["bits_per_nat"]),
        data=dict(content["data"]),
        eval_tokens=int(content["eval_tokens"]),
        context=int(content["context"]),
    )


def finished_runs(plan: LadderPlan, rows: Sequence[TrialRow]) -> list[FittedRun]:
    """The ladder's runs that came to their end, smallest first."""
    runs = []
    for row in rows:
        if row.result is None:
            continue
        recipe = plan.recipe(row.values)
        tokens = row.result.tokens
        runs.append(
            FittedRun(
                parameters=parameters_of(recipe),
                tokens=tokens,
                loss=row.result.val_loss,
                flops=flops_of(recipe, tokens),
                run=row.run,
            )
        )
    return sorted(runs, key=lambda run: (run.parameters, run.tokens))


def fit_ladder(folder: Path, plan: LadderPlan, rows: Sequence[TrialRow]) -> ScaleResult:
    """Fits the law to a ladder's finished runs, unless scale.json has the law of just these.

    Raises:
        UserError: They are too few.
    """
    runs = finished_runs(plan, rows)
    if (folder / SCALE_RESULT).is_file():
        kept = read_result(folder)
        if list(kept.fit.runs) == runs:
            return kept
    base = plan.base
    done = [row.result for row in rows if row.result is not None]
    return ScaleResult(
        recipe=plan.name,
        fit=fit_law(runs),
        bits_per_nat=statistics.median(result.val_bpb / result.val_loss for result in done),
        data=plan.data,
        eval_tokens=base.eval.tokens,
        context=base.model.context,
    )


def write_result(folder: Path, result: ScaleResult, answers: Sequence[dict[str, Any]]) -> None:
    """Writes scale.json: the law, and the answers to the question that was asked last."""
    content = result.to_json() | {"answers": list(answers)}
    write_atomically(folder / SCALE_RESULT, dump_json(content, indent=1) + "\n")


def read_result(folder: Path) -> ScaleResult:
    """Reads scale.json of a ladder's folder.

    Raises:
        UserError: There is none, or it is damaged.
    """
    path = folder / SCALE_RESULT
    if not path.is_file():
        raise UserError(
            f"{folder} has no fitted law ({SCALE_RESULT}).",
            fix="Give the folder of a ladder that is done: fromscratch scale RECIPE --budget 1h",
        )
    try:
        return result_from_json(read_json(path))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged: {error!r}.") from None
