"""Times a recipe by micro-batch and precision until memory runs out.

In: a recipe; no data is needed. Out: a `BenchResult`: a row for each that was tried, the fastest
marked, and how large a validation set may be that costs at most 5% of the run. What is timed is the
run's own training loop, on made-up tokens (trials.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from fromscratch.foundation.accelerators import PRECISIONS, PrecisionName, accelerator_of
from fromscratch.foundation.errors import UserError, did_you_mean
from fromscratch.foundation.hardware import precisions_of, resolve_device
from fromscratch.foundation.names import scratch_folder
from fromscratch.plan.memory import divisors
from fromscratch.runs.climb import best_of, climb, fast_enough
from fromscratch.runs.measured import Measured, shape_of
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.trials import Trial, Trials
from fromscratch.train.precision import choose_precision

VALIDATION_SHARE = 0.05
"""Of a run's time that validation may take."""


@dataclass(frozen=True)
class Validation:
    """What validation costs with the fastest row.

    Attributes:
        tokens_per_s: Validated.
        every: Steps between validations; None: only at the start and the end.
        affordable_tokens: Targets of a set that costs 5% of the run.
        recipe_tokens: Targets of the recipe's; 0: the whole split, whose size is not known here.
        recipe_share: Of the run's time that the recipe's takes; None where its size is not known.
    """

    tokens_per_s: float
    every: int | None
    affordable_tokens: int
    recipe_tokens: int
    recipe_share: float | None


@dataclass
class BenchResult:
    """All that was measured, in the order in which it was.

    Attributes:
        recipe: What was tried.
        automatic: What `train.precision = "auto"` becomes on this device.
        trials: One a row.
        largest: Whether of about equally fast rows the largest is the best: on a GPU.
        skipped: Precision and why it was not tried.
        finished: False where it was interrupted.
    """

    recipe: Recipe
    automatic: str
    trials: list[Trial]
    largest: bool
    skipped: list[tuple[str, str]]
    finished: bool = False

    def best(self, precision: str | None = None) -> Trial | None:
        """The best row, of one precision or of all."""
        rows = [t for t in self.trials if precision in (None, t.precision)]
        return best_of(rows, largest=self.largest)

    def validation(self) -> Validation | None:
        """What validation costs; None before anything was measured."""
        row = self.best()
        if row is None:
            return None
        recipe = self.recipe
        every = recipe.eval.every or None
        # At the start and the end only, validation is paid for by the whole run: two of them.
        steps = every if every is not None else (recipe.steps() or 0) / 2
        between = steps * row.step_seconds
        # v / (v + t) = 5%.
        seconds = between * VALIDATION_SHARE / (1 - VALIDATION_SHARE)
        wanted = recipe.eval.tokens
        mine = wanted / row.val_tokens_per_s
        return Validation(
            tokens_per_s=row.val_tokens_per_s,
            every=every,
            affordable_tokens=int(seconds * row.val_tokens_per_s),
            recipe_tokens=wanted,
            recipe_share=mine / (mine + between) if wanted and between else None,
        )

    def to_json(self) -> dict[str, Any]:
        """As `bench --json` prints it."""
        best, validation = self.best(), self.validation()
        return {
            "recipe": self.recipe.name,
            "finished": self.finished,
            "rows": [asdict(trial) | {"best": trial is best} for trial in self.trials],
            "skipped": [{"precision": p, "why": why} for p, why in self.skipped],
            "validation": None if validation is None else asdict(validation),
        }

    def measured(self) -> list[Measured]:
        """The best row of each precision, to be remembered."""
        tried = dict.fromkeys(trial.precision for trial in self.trials)
        rows = [row for row in map(self.best, tried) if row is not None]
        return [
            Measured(
                shape=shape_of(self.recipe),
                recipe=self.recipe.name,
                device=row.device,
                card=card.key if (card := accelerator_of(row.device)) is not None else None,
                precision=row.precision,
                auto=row.precision == self.automatic,
                micro_batch=row.micro_batch,
                tokens_per_s=row.tokens_per_s,
                peak_bytes=row.peak_bytes,
                mfu=row.mfu,
                peak_measured=row.peak_measured,
                when=date.today().isoformat(),
            )
            for row in rows
        ]


def bench(
    recipe: Recipe,
    *,
    precisions: Sequence[str],
    micro_batches: Sequence[int],
    watch: Callable[[BenchResult, str], None],
) -> BenchResult:
    """Measures a recipe.

    Args:
        recipe: Its data is not looked at.
        precisions: To try; empty for all that the device has.
        micro_batches: To try; empty for those that divide the step, until one does not fit.
        watch: Told before each row what is tried next, and the rows so far.

    Returns:
        What was measured; after Ctrl-C, what was measured so far.

    Raises:
        UserError: A precision that is none, a micro-batch that does not divide the step.
    """
    device = resolve_device(recipe.train.device)
    windows = divisors(recipe.samples_per_step)
    for n in micro_batches:
        recipe.with_micro_batch(n)  # refuses one that does not divide the step
    has = precisions_of(device)
    result = BenchResult(
        recipe=recipe,
        automatic=choose_precision("auto", device).name,
        trials=[],
        largest=device.type != "cpu",
        skipped=[],
    )
    enough = fast_enough if device.type == "cpu" else lambda _: False
    try:
        for precision in [_known(p) for p in precisions] or has:
            chosen = _in(recipe, precision)
            # bf16 is also where there is no hardware for it, on request.
            if precision not in has and precision != "bf16":
                result.skipped.append((precision, "this device does not have it"))
                continue
            with (
                tempfile.TemporaryDirectory() as folder,
                Trials(chosen, Path(folder) / scratch_folder("bench")) as trials,
            ):

                def attempt(n: int, trials: Trials = trials, precision: str = precision) -> Trial:
                    watch(result, f"{precision}, micro-batch {n}")
                    trial = trials.attempt(n)
                    result.trials.append(trial)
                    return trial

                if micro_batches:
                    for n in micro_batches:
                        attempt(n)
                else:
                    climb(windows, attempt, enough)
        result.finished = True
    except KeyboardInterrupt:
        pass
    return result


def _in(recipe: Recipe, precision: str) -> Recipe:
    train = recipe.train.model_copy(update={"precision": precision})
    return recipe.model_copy(update={"train": train})


def _known(precision: str) -> PrecisionName:
    for known in PRECISIONS:
        if precision == known:
            return known
    raise UserError(
        f'"{precision}" is not a precision.{did_you_mean(precision, PRECISIONS)}',
        fix=f"Known: {', '.join(PRECISIONS)}.",
    )
