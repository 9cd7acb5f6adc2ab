"""Settles the micro-batch of a run before its first step, by trying (R39).

With `train.micro_batch = "auto"`, the micro-batches that divide the recipe's step are tried, each
with a few steps, a validation, a sample and a checkpoint at full size. On a GPU the largest within
2% of the fastest is taken; on a CPU, where caches decide, the smallest such. The step itself, and
so the mathematics, is the recipe's whatever comes out (R29).

A fixed micro-batch is tried too, on a GPU always, on a CPU where the estimate comes close to the
memory there is: out of memory shows now and not in the first validation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.hardware import available_memory, resolve_device
from fromscratch.foundation.names import scratch_folder
from fromscratch.plan.memory import divisors, step_memory
from fromscratch.runs.climb import best_of, climb, fast_enough
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.trials import Trial, Trials

_CLOSE = 0.5
"""Share of a CPU's memory from which on the estimate is not trusted alone."""


@dataclass(frozen=True)
class Settled:
    """A recipe whose micro-batch is a number, and what to note of how it came about.

    Attributes:
        recipe: What will be trained.
        notes: Name and sentence of events.
    """

    recipe: Recipe
    notes: list[tuple[str, str]]


def settle_micro_batch(
    recipe: Recipe, root: Path, tokenizer: Path, *, say: Callable[[str], None], ranks: int = 1
) -> Settled:
    """Finds or checks the micro-batch of a run that is about to start.

    Args:
        recipe: Its data may still be anything: the trial makes up its own.
        root: The run folder; the trial works beside it.
        tokenizer: Folder of the run's tokenizer.
        say: Told how the search goes.
        ranks: Processes that share a step: the micro-batch divides the share of each. One of them
            settles it for all.

    Raises:
        UserError: Nothing fits, or not what the recipe says.
    """
    automatic = recipe.train.micro_batch == "auto"
    device = resolve_device(recipe.train.device)
    if not automatic and device.type == "cpu" and not _close(recipe, device):
        return Settled(recipe, [])
    scratch = root.absolute().with_name(scratch_folder(root.name))
    with Trials(recipe, scratch, tokenizer=tokenizer) as trials:
        if automatic:
            return _search(recipe, trials, say, ranks)
        return _check(recipe, trials)


def _close(recipe: Recipe, device: torch.device) -> bool:
    """Whether a CPU's memory might not be enough, by the estimate."""
    needed = step_memory(
        recipe.model,
        recipe.optim,
        micro_batch=recipe.micro_batch,
        half=recipe.train.precision in ("bf16", "fp16"),
        activation_checkpointing=recipe.train.activation_checkpointing,
        on_cpu=True,
    ).total
    return needed > _CLOSE * available_memory(device)


def _search(recipe: Recipe, trials: Trials, say: Callable[[str], None], ranks: int) -> Settled:
    on_cpu = trials.device.type == "cpu"

    def attempt(micro_batch: int) -> Trial:
        trial = trials.attempt(micro_batch)
        say(f"micro-batch {_in_words(trial)}")
        return trial

    candidates = divisors(max(1, recipe.samples_per_step // ranks))
    made = climb(candidates, attempt, fast_enough if on_cpu else lambda _: False)
    chosen = best_of(made, largest=not on_cpu)
    if chosen is None:
        raise UserError(
            f"No micro-batch can be trained on {trials.device}: {made[-1].problem}.",
            fix="Say train.activation_checkpointing=true or optim.name=adamw8bit, or take a "
            "smaller model; `fromscratch plan` estimates each.",
        )
    tried = "; ".join(_in_words(t) for t in sorted(made, key=lambda t: t.micro_batch))
    note = f"{chosen.micro_batch} windows at a time, of those tried: {tried}"
    return Settled(recipe.with_micro_batch(chosen.micro_batch), [("micro_batch", note)])


def _in_words(trial: Trial) -> str:
    if trial.problem is not None:
        return f"{trial.micro_batch}: {trial.problem}"
    return (
        f"{trial.micro_batch}: {trial.tokens_per_s:,.0f} tokens/s, {trial.peak_bytes / 1e9:.2f} GB"
    )


def _check(recipe: Recipe, trials: Trials) -> Settled:
    trial = trials.attempt(recipe.micro_batch)
    if trial.problem is None:
        note = f"a step, a validation, a sample and a checkpoint at full size: {_in_words(trial)}"
        return Settled(recipe, [("dry_run", note)])
    if not trial.out_of_memory:
        raise UserError(f"A dry run of the recipe failed: {trial.problem.rstrip('.')}.")
    raise UserError(
        f"train.micro_batch = {recipe.micro_batch} does not fit into the memory of "
        f"{trials.device}: {trial.problem}.",
        fix="Say train.micro_batch=auto, which finds one that does; train.tokens_per_step keeps "
        "the mathematics the same.",
    )
