"""What a sweep tries: which settings with which values, and what all of its trials share.

In: a recipe and words of the command line. Out: a `SweepPlan`, which gives the recipe of any
trial. Always true of a plan: its trials can be compared. They train on equally many tokens unless
the length of training is itself what is swept, and they are judged on the same held-out text. No
torch and no optuna here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from fromscratch.foundation.errors import UserError, did_you_mean
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.recipe_files import completed_text, parse_recipe, read_recipe

Sampler = Literal["grid", "tpe", "random"]
Measure = Literal["val_bpb", "val_loss"]
MEASURES: dict[Measure, str] = {"val_bpb": "bits per byte", "val_loss": "validation loss"}
"""What trials are ranked by, in words."""

_LENGTHS = {"train.steps", "train.tokens", "train.epochs"}
# What decides which text is held out: results on different texts do not compare.
_HELD_OUT = {"path", "val_fraction", "documents", "seed", "dedup", "field", "render", "source"}


@dataclass(frozen=True)
class Choices:
    """Values to try, as they were written."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Range:
    """Values to draw: from `low` to `high`, evenly or on a logarithmic scale."""

    low: float
    high: float
    log: bool
    whole: bool


Axis = Choices | Range


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep tries.

    Attributes:
        name: Of the recipe.
        text: The recipe, as TOML.
        fixed: Overrides of all trials.
        axes: Swept settings, by dotted key.
        sampler: `grid`: every combination once. Else values are drawn: `random`, or by `tpe`,
            which draws where results were good (Bergstra et al. 2011).
        trials: How many.
    """

    name: str
    text: str
    fixed: tuple[str, ...]
    axes: dict[str, Axis]
    sampler: Sampler
    trials: int

    def combinations(self) -> Iterator[dict[str, str]]:
        """All of a grid, in the order in which its values were written; the last changes first."""
        lists = [axis.values for axis in self.axes.values() if isinstance(axis, Choices)]
        for values in itertools.product(*lists):
            yield dict(zip(self.axes, values, strict=True))

    @property
    def measure(self) -> Measure:
        """What trials are ranked by: bits per byte, or of preferences the objective's own loss.

        A preference loss is about pairs of answers; how many bits it takes to write them is not
        what is learned.
        """
        recipe = self.recipe({key: _first(axis) for key, axis in self.axes.items()})
        return "val_loss" if recipe.train.objective in ("dpo", "orpo") else "val_bpb"

    def recipe(self, values: dict[str, str]) -> Recipe:
        """The recipe of a trial.

        The micro-batch changes speed only, so it follows the size of a step: it is the largest
        that divides it and holds no more tokens than the recipe's.

        Raises:
            UserError: The values do not go together.
        """
        overrides = [*self.fixed, *(f"{key}={value}" for key, value in values.items())]
        base = parse_recipe(self.text, name=self.name)
        if "train.micro_batch" in values or base.train.micro_batch == "auto":
            return parse_recipe(self.text, name=self.name, overrides=overrides)
        limit = base.micro_batch
        given = [word for word in self.fixed if word.startswith("train.micro_batch=")]
        if given:
            chosen = given[-1].partition("=")[2]
            if not chosen.isdigit():
                return parse_recipe(self.text, name=self.name, overrides=overrides)
            limit = int(chosen)
        recipe = parse_recipe(
            self.text, name=self.name, overrides=[*overrides, "train.micro_batch=1"]
        )
        limit = max(1, limit * base.model.context // recipe.model.context)
        samples = recipe.samples_per_step
        fits = max(n for n in range(1, min(limit, samples) + 1) if samples % n == 0)
        return parse_recipe(
            self.text, name=self.name, overrides=[*overrides, f"train.micro_batch={fits}"]
        )

    def to_json(self) -> dict[str, Any]:
        """As it is kept in the sweep's folder."""
        axes = {key: asdict(axis) for key, axis in self.axes.items()}
        content = {"format": 1, "recipe": self.name, "text": self.text, "fixed": list(self.fixed)}
        return content | {"axes": axes, "sampler": self.sampler, "trials": self.trials}


def plan_from_json(content: dict[str, Any]) -> SweepPlan:
    """The inverse of `to_json`."""
    axes: dict[str, Axis] = {
        key: Choices(tuple(axis["values"])) if "values" in axis else Range(**axis)
        for key, axis in content["axes"].items()
    }
    fixed = tuple(content["fixed"])
    return SweepPlan(
        content["recipe"], content["text"], fixed, axes, content["sampler"], content["trials"]
    )


def plan_sweep(
    recipe: str,
    words: Sequence[str],
    *,
    sampler: str = "grid",
    trials: int | None = None,
    complete: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> SweepPlan:
    """Reads what a sweep is to try, and checks all of it before anything is spent.

    Args:
        recipe: A shipped recipe's name, or a TOML file.
        words: `key=value` for all trials, `key=a,b,c` to choose from, `key=low:high` or
            `key=low:high:log` to draw from.
        sampler: One of `Sampler`.
        trials: How many to draw; a grid has as many as it has combinations.
        complete: Fills in what the recipe leaves to the model that all trials start from.

    Raises:
        UserError: It cannot be tried, or its results could not be compared.
    """
    if sampler not in get_args(Sampler):
        raise UserError(
            f'There is no sampler "{sampler}".{did_you_mean(sampler, get_args(Sampler))}',
            fix="grid tries every combination; tpe and random draw --trials N.",
        )
    name, text = read_recipe(recipe)
    fixed: list[str] = []
    axes: dict[str, Axis] = {}
    for word in words:
        key, axis = _axis(word)
        if key in axes or any(other.startswith(f"{key}=") for other in fixed):
            raise UserError(f'"{key}" is given twice.', fix=f"Write all of it once: {key}=a,b,c.")
        if axis is None:
            fixed.append(word)
        else:
            axes[key] = axis
    if complete is not None:
        text = completed_text(text, name=name, overrides=fixed, complete=complete)
    if not axes:
        raise UserError(
            "Nothing is swept.", fix="Give a setting several values, e.g. optim.lr=1e-4,3e-4,1e-3."
        )
    ranges = [key for key, axis in axes.items() if isinstance(axis, Range)]
    combinations = math.prod(len(a.values) for a in axes.values() if isinstance(a, Choices))
    if sampler == "grid":
        if ranges:
            raise UserError(
                f"{ranges[0]} is a range, and a grid has no end of values in it.",
                fix="List values, or draw some: --sampler tpe --trials 20.",
            )
        if trials not in (None, combinations):
            raise UserError(
                f"The grid has {combinations} combinations, and --trials says {trials}.",
                fix="Leave --trials away, or draw: --sampler random.",
            )
        trials = combinations
    if trials is None or trials < 1:
        raise UserError(f"--sampler {sampler} must know how many.", fix="Say --trials 20.")
    plan = SweepPlan(name, text, tuple(fixed), axes, sampler, trials)  # type: ignore[arg-type]
    _check(plan)
    return plan


def _axis(word: str) -> tuple[str, Axis | None]:
    """Key and values of a word; None where it is one value for all trials."""
    key, equals, text = word.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UserError(f'"{word}" is not a setting.', fix="Write key=a,b,c without spaces.")
    values = _split(word, text)
    if any(not value for value in values):
        raise UserError(
            f'"{word}" has an empty value.',
            fix=f"Write {key}=a,b,c without spaces; what contains a comma or a space goes in "
            "quotes twice, '...=\"a, b\"'.",
        )
    if len(values) > 1:
        if twice := [v for v in values if values.count(v) > 1]:
            raise UserError(f'"{word}" has {twice[0]} twice.', fix="Name each value once.")
        return key, Choices(tuple(values))
    return key, _range(word, text)


def _split(word: str, text: str) -> list[str]:
    """Values between commas, but for commas in quotes and brackets."""
    values, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign in "[{":
            depth += 1
        elif sign in "]}":
            depth -= 1
        elif sign == "," and depth == 0:
            values.append("")
            continue
        values[-1] += sign
    if quote or depth:
        raise UserError(
            f'"{word}" has an open {"quote" if quote else "bracket"}.',
            fix="Put the whole word into single quotes, so that the shell leaves it as it is.",
        )
    return [value.strip() for value in values]


def _range(word: str, text: str) -> Range | None:
    """`low:high` or `low:high:log`; None for anything else, such as a path or bpe:4096."""
    low, _, rest = text.partition(":")
    high, _, kind = rest.partition(":")
    try:
        bounds = float(low), float(high)
    except ValueError:
        return None
    if kind not in ("", "log") or not bounds[0] < bounds[1] or (kind and bounds[0] <= 0):
        raise UserError(
            f'"{word}" is not a range.', fix="Write low:high or low:high:log, e.g. 1e-4:1e-2:log."
        )
    whole = all(part.lstrip("-").replace("_", "").isdigit() for part in (low, high))
    return Range(*bounds, log=bool(kind), whole=whole)


def _check(plan: SweepPlan) -> None:
    """Every combination is a recipe, and their results compare."""
    if plan.sampler == "grid":
        samples: Iterator[dict[str, str]] = plan.combinations()
    else:
        samples = iter([{key: _first(axis) for key, axis in plan.axes.items()}])
    first: Recipe | None = None
    for values in samples:
        try:
            recipe = plan.recipe(values)
        except UserError as error:
            said = " ".join(f"{key}={value}" for key, value in values.items())
            raise UserError(f"With {said}: {error.what}", fix=error.fix) from None
        first = first or recipe
    assert first is not None
    if "train.tokens_per_step" in plan.axes and first.train.steps and not _LENGTHS & set(plan.axes):
        tokens = first.train.steps * first.train.tokens_per_step
        raise UserError(
            f"With train.steps = {first.train.steps:,} for all, a larger train.tokens_per_step "
            "would train on more text, and win by that.",
            fix=f"Say how much text all get, e.g. train.tokens={tokens}.",
        )
    for key in plan.axes:
        table, _, last = key.partition(".")
        if table == "data" and last in _HELD_OUT:
            raise UserError(
                f"Trials that differ in {key} hold out different text: results do not compare.",
                fix="Make one run for each, and compare what they generate.",
            )
        if key in ("model.context", "data.tokenizer") and first.eval.tokens:
            raise UserError(
                f"Trials that differ in {key} are validated on different parts of the held-out "
                f"text while eval.tokens = {first.eval.tokens:,}.",
                fix="Say eval.tokens=0: all of it, in bits per byte, compares.",
            )


def _first(axis: Axis) -> str:
    if isinstance(axis, Choices):
        return axis.values[0]
    return str(round(axis.low)) if axis.whole else repr(axis.low)
