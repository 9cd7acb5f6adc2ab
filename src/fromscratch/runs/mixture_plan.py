"""What a run will take from each source: counted, drawn and checked before it starts.

In: a recipe, and the tokens that prepared data says it has. Out: a `MixturePlan`. Everything
follows from the integral of the shares, so nothing is simulated; the run itself stays within one
window of it. No torch here, and no numpy unless there is prepared data to look into.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fromscratch.data.shares import ShareSchedule
from fromscratch.foundation.advice import Advice
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.names import DATA_MANIFEST
from fromscratch.runs.data_config import SourceConfig
from fromscratch.runs.recipe import Recipe

# R01: a share may move by this much within the steepness window, which is this part of the run, but
# at least so many steps (Adam's averages remember some hundred), or this part of a short run.
_JUMP = 0.10
_WINDOW_OF_RUN = 0.01
_WINDOW_STEPS = 100
_WINDOW_OF_SHORT_RUN = 0.05


@dataclass(frozen=True)
class SourcePlan:
    """One source over the whole run.

    Attributes:
        name: The source's.
        tokens: Taken from it; None where the run's length is not known.
        share: Of the run's tokens; likewise.
        available: Training tokens it has; None until it is prepared.
        epochs: How often it is gone through; None where that is not known.
        max_epochs: Its limit.
    """

    name: str
    tokens: int | None
    share: float | None
    available: int | None
    epochs: float | None
    max_epochs: float | None


@dataclass(frozen=True)
class StagePlan:
    """The run from one `from_tokens` to the next.

    Attributes:
        from_tokens: Where it begins.
        to_tokens: Where it ends; None where the run's length is not known.
        blend_tokens: Over which its shares are reached.
        shares: Once they are.
        tokens: Taken from each source in it.
    """

    from_tokens: int
    to_tokens: int | None
    blend_tokens: int
    shares: dict[str, float]
    tokens: dict[str, int] | None


@dataclass(frozen=True)
class MixturePlan:
    """What a run will consume.

    Attributes:
        sources: In the recipe's order.
        stages: The weights of the sources first, then each stage.
        knots: Tokens and the shares there, straight lines between: the picture of the mixture.
        warnings: What will run, and probably not do what was meant.
        refusals: What will not run.
    """

    sources: list[SourcePlan]
    stages: list[StagePlan]
    knots: list[tuple[float, dict[str, float]]]
    warnings: list[str]
    refusals: list[str]


def plan_mixture(
    recipe: Recipe, steps: int | None, available: Mapping[str, int]
) -> MixturePlan | None:
    """Counts what a run takes from its sources.

    Args:
        recipe: Its data and step size.
        steps: Of the run; None where they are not known.
        available: Training tokens by source, of those that are prepared.

    Returns:
        The plan; None for a recipe of one text that is not prepared, where there is nothing to say.
    """
    sources = recipe.data.source or _single(recipe, available)
    if not sources:
        return None
    schedule = recipe.data.shares()
    names = [source.name for source in sources]
    total = None if steps is None else steps * recipe.train.tokens_per_step
    refused = None if steps is None else epochs_refusal(recipe, steps, available)
    return MixturePlan(
        sources=[
            _source_plan(source, wanted, total, available.get(source.name), recipe.model.context)
            for source, wanted in zip(
                sources, schedule.wanted(total or 0) if total else [None] * len(names), strict=True
            )
        ],
        stages=_stages(recipe, schedule, names, total),
        knots=_knots(schedule, names, total),
        warnings=[str(advice) for advice in mixture_warnings(recipe, steps)],
        refusals=[] if refused is None else [str(refused)],
    )


def prepared_tokens(recipe: Recipe) -> dict[str, int]:
    """Training tokens of each source of a recipe that is prepared data.

    Raises:
        UserError: The prepared data is damaged or unfinished, or has no training text.
    """
    data = recipe.data
    single = [] if data.path is None else [SourceConfig(name=data.path, path=data.path)]
    found = {}
    for source in data.source or single:
        folder = Path(source.path).expanduser()
        if not (folder / DATA_MANIFEST).is_file():
            continue
        from fromscratch.data.shards import is_prepared, load_manifest

        if is_prepared(folder):
            manifest = load_manifest(folder)
            several = source.name in [s.name for s in manifest.sources]
            only = source.name if several else None
            found[source.name] = manifest.total("tokens", "train", only)
            if not found[source.name]:
                raise no_training_text(source.name, folder)
    return found


def no_training_text(name: str, folder: Path) -> UserError:
    """What to say of a source that has nothing to train on."""
    return UserError(
        f'The source "{name}" has no training text ({folder}): all of it is held out, or was left '
        "out as copies.",
        fix="Give more of it, or leave the source out of the recipe.",
    )


def epochs_refusal(recipe: Recipe, steps: int, available: Mapping[str, int]) -> UserError | None:
    """Why a run of so many steps cannot be: a source that would be gone through too often.

    Compared in windows, as they are trained on, and to the window.
    """
    schedule = recipe.data.shares(unit=recipe.model.context)
    n_windows = steps * recipe.samples_per_step
    limits = {}
    for number, source in enumerate(recipe.data.source):
        if source.max_epochs is not None and source.name in available:
            has = -(-available[source.name] // recipe.model.context)
            limits[number] = source.max_epochs * has
    over = [i for i, most in limits.items() if schedule.wanted_of(i, n_windows) > most + 1e-6]
    if not over:
        return None
    first = over[0]
    source = recipe.data.source[first]
    wanted = schedule.wanted_of(first, n_windows)
    epochs = wanted * source.max_epochs / limits[first] if source.max_epochs else 0.0
    fits = _most_steps(schedule, limits, recipe.samples_per_step, steps)
    tokens = fits * recipe.train.tokens_per_step
    ways = [f"train.tokens={tokens:_} at most"] if fits else []
    share = limits[first] / n_windows
    others = math.fsum(s.weight for s in recipe.data.source) - source.weight
    if not recipe.data.stage and others and share < 1:
        ways.append(f"a weight of {_rounded_down(others * share / (1 - share))} at most")
    ways.append(f"max_epochs = {math.ceil(epochs * 10) / 10:g}")
    return UserError(
        f'The source "{source.name}" has {available[source.name]:,} training tokens, and this run '
        f"of {steps:,} steps would go through them {epochs:.2f} times: its max_epochs is "
        f"{source.max_epochs:g}.",
        fix=f"Give more of its text, or say {', or '.join(ways)}.",
        regret="R15",
    )


def mixture_warnings(recipe: Recipe, steps: int | None) -> list[Advice]:
    """What of a recipe's stages is probably not meant: jumps (R01), and what never comes."""
    step = recipe.train.tokens_per_step
    run = None if steps is None else steps * step
    schedule = recipe.data.shares()
    names = [source.name for source in recipe.data.source]
    found = []
    for number, stage in enumerate(recipe.data.stage):
        if run is not None and stage.from_tokens >= run:
            found.append(
                Advice(
                    "R01",
                    f"the stage from {stage.from_tokens:,} tokens on never begins: the run ends at "
                    f"{run:,}",
                    "begin it earlier, or leave that [[data.stage]] out",
                )
            )
            continue
        before, after = (schedule.knots[2 * number + i].shares for i in (1, 2))
        following = recipe.data.stage[number + 1 : number + 2]
        ends = [s.from_tokens for s in following] + ([run] if run is not None else [])
        room = min(ends, default=math.inf) - stage.from_tokens
        window = _steepness_window(run, step)
        (moved, _), name, was, now = max(
            # Of two that move as far, the one that shrinks: that is what is unlearned.
            ((round(abs(b - a), 9), a > b), name, a, b)
            for name, a, b in zip(names, before, after, strict=True)
        )
        if moved * min(1.0, window / max(1, stage.blend_tokens)) <= _JUMP + 1e-9:
            continue
        enough = _rounded_up(window * moved / _JUMP)
        advice = f"write blend_tokens = {enough:_}"
        if enough > room:
            advice = (
                f"write blend_tokens = {int(room):_}, all there is room for ({enough:,} "
                "would be gentle)"
            )
        within = f"over {stage.blend_tokens:,} tokens" if stage.blend_tokens else "at once"
        found.append(
            Advice(
                "R01",
                f'at {stage.from_tokens:,} tokens the share of "{name}" goes from {was:.0%} to '
                f"{now:.0%} {within}: a model unlearns what it stops seeing",
                f"{advice} in that [[data.stage]]",
            )
        )
    return found


def _steepness_window(run: int | None, step: int) -> float:
    """Tokens within which a share should not move by more than _JUMP."""
    if run is None:
        return _WINDOW_STEPS * step
    return max(_WINDOW_OF_RUN * run, min(_WINDOW_STEPS * step, _WINDOW_OF_SHORT_RUN * run))


def _single(recipe: Recipe, available: Mapping[str, int]) -> list[SourceConfig]:
    """The one text of a recipe, where it is prepared."""
    path = recipe.data.path
    return [SourceConfig(name=path, path=path)] if path is not None and available else []


def _source_plan(
    source: SourceConfig, wanted: float | None, total: int | None, has: int | None, context: int
) -> SourcePlan:
    epochs = None
    if wanted is not None and has:
        epochs = wanted / (-(-has // context) * context)  # in windows, as it is trained on
    return SourcePlan(
        name=source.name,
        tokens=None if wanted is None else round(wanted),
        share=None if wanted is None or not total else wanted / total,
        available=has,
        epochs=epochs,
        max_epochs=source.max_epochs,
    )


def _stages(
    recipe: Recipe, schedule: ShareSchedule, names: list[str], total: int | None
) -> list[StagePlan]:
    begins = [(0, 0), *((s.from_tokens, s.blend_tokens) for s in recipe.data.stage)]
    ends: list[int | None] = [*(begin for begin, _ in begins[1:]), total]
    stages = []
    for number, ((begin, blend), end) in enumerate(zip(begins, ends, strict=True)):
        if total is not None:
            if begin >= total:
                break
            end = min(total, total if end is None else end)
        tokens = None
        if end is not None:
            counts = zip(schedule.wanted(end), schedule.wanted(begin), strict=True)
            tokens = {name: round(b - a) for name, (b, a) in zip(names, counts, strict=True)}
        shares = schedule.knots[2 * number].shares
        stages.append(StagePlan(begin, end, blend, dict(zip(names, shares, strict=True)), tokens))
    return [stage for stage in stages if stage.to_tokens != stage.from_tokens]


def _knots(
    schedule: ShareSchedule, names: list[str], total: int | None
) -> list[tuple[float, dict[str, float]]]:
    """The knots of a run's shares, from its start to its end."""
    last = schedule.knots[-1].position
    end = float(total) if total is not None else 1.25 * last
    inside = [(k.position, k.shares) for k in schedule.knots if k.position < end or not k.position]
    inside.append((end, schedule.shares_at(math.nextafter(end, 0.0))))
    return [(position, dict(zip(names, shares, strict=True))) for position, shares in inside]


def _most_steps(
    schedule: ShareSchedule, limits: Mapping[int, float], per_step: int, steps: int
) -> int:
    """The longest run that no source runs out in."""

    def fits(n: int) -> bool:
        return all(schedule.wanted_of(i, n * per_step) <= most for i, most in limits.items())

    low, high = 0, steps
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _rounded_up(tokens: float) -> int:
    """Two digits are enough for advice."""
    unit = int(10 ** max(0, math.floor(math.log10(tokens)) - 1))
    return math.ceil(tokens / unit) * unit


def _rounded_down(weight: float) -> str:
    """A weight that is still below, in three digits."""
    unit = 10.0 ** (math.floor(math.log10(weight)) - 2)
    return f"{math.floor(weight / unit) * unit:.3g}"
