"""How fast the sizes of a family train on this device, each measured once, by `bench`'s means.

In: a recipe and sizes of its family. Out: a `Measure` of each. What is timed is the run's own loop
on made-up tokens, in another process, with the settings that the ladder gives the size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.hardware import device_name, resolve_device
from fromscratch.foundation.names import scratch_folder
from fromscratch.plan.ladder import Size
from fromscratch.plan.memory import divisors
from fromscratch.runs.climb import best_of, climb, fast_enough
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.recipe_files import parse_recipe
from fromscratch.runs.scale_plan import LadderPlan, Measure, speed_at
from fromscratch.runs.scale_rules import settings_for
from fromscratch.runs.trials import Trial, Trials


class Bench:
    """Measures sizes of a family, each once, in one other process."""

    def __init__(self, recipe: Recipe, reference: int) -> None:
        self._recipe, self._reference = recipe, reference
        self._found: dict[int, Measure] = {}
        self._folder = tempfile.TemporaryDirectory()
        self._trials = Trials(recipe, Path(self._folder.name) / scratch_folder("scale"))

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._trials.__exit__(*raised)
        self._folder.cleanup()

    def knows(self, size: Size) -> bool:
        return size.heads in self._found

    def of(self, size: Size) -> Measure:
        return self._found[size.heads]

    def measures(self) -> tuple[Measure, ...]:
        return tuple(self._found[heads] for heads in sorted(self._found))

    def measure(self, size: Size, say: Callable[[str], None]) -> None:
        """Measures a size, unless that was done.

        Raises:
            UserError: It cannot be trained here.
        """
        if self.knows(size):
            return
        say(f"measuring {size.parameters:,} parameters")
        found = measure_size(self._recipe, size, self._reference, self._trials)
        self._found[size.heads] = found

    def speed(self, size: Size) -> float:
        return speed_at(self.measures(), size)


def measure_size(recipe: Recipe, size: Size, reference: int, trials: Trials) -> Measure:
    """How fast a size trains, at 20 tokens a parameter.

    Raises:
        UserError: It cannot be trained here.
    """
    settings = settings_for(recipe, size, 20 * size.parameters, reference=reference)
    values = recipe.model_dump(exclude_none=True)
    automatic = settings["train.micro_batch"] == "auto"
    if automatic:
        settings["train.micro_batch"] = "1"
    for length in ("tokens", "epochs"):
        values["train"].pop(length, None)
    tried = _with(values, settings)
    trials.recipe = tried
    if automatic:
        windows = divisors(tried.samples_per_step)
        enough = fast_enough if trials.device.type == "cpu" else lambda _: False
        made = climb(windows, trials.attempt, enough)
        best: Trial | None = best_of(made, largest=trials.device.type != "cpu")
        best = best or made[-1]
    else:
        best = trials.attempt(tried.micro_batch)
    if best.problem is not None:
        raise UserError(
            f"A model of {size.parameters:,} parameters cannot be trained here: {best.problem}.",
            fix="Choose a smaller train.micro_batch, or train.micro_batch=auto.",
        )
    return Measure(
        parameters=size.parameters,
        flops=best.tokens_per_s * size.flops_per_token,
        tokens_per_s=best.tokens_per_s,
        val_tokens_per_s=best.val_tokens_per_s,
        micro_batch=best.micro_batch,
        device=best.device,
    )


def _with(values: dict[str, Any], settings: dict[str, str]) -> Recipe:
    """A recipe of nested tables and overrides."""
    overrides = [f"{key}={value}" for key, value in settings.items()]
    return parse_recipe(tomli_w.dumps(values), name=values["name"], overrides=overrides)


def is_this_device(plan: LadderPlan) -> bool:
    """Whether a ladder was trained on this device, by the name that its driver gives."""
    try:
        return device_name(resolve_device(plan.base.train.device)) == plan.device
    except UserError:  # it is not there at all
        return False
