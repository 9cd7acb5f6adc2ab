"""A recipe's plan: everything that can be known before it runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fromscratch.model.count import ParameterCounts, count_parameters, flops_per_token
from fromscratch.plan.compute import DeviceTime, chinchilla_tokens, times
from fromscratch.plan.memory import StepMemory, checkpoint_bytes, step_memory
from fromscratch.runs.mixture_plan import MixturePlan, plan_mixture, prepared_tokens
from fromscratch.runs.recipe import Recipe


@dataclass(frozen=True)
class Plan:
    """The numbers of a run. `steps` and what follows from it are None when they depend on the
    length of an epoch, which only prepared data tells.

    Attributes:
        recipe: Its name.
        parameters: Counts.
        tokens_per_step: Of the global batch.
        steps: Updates.
        total_tokens: Tokens trained on.
        flops_per_token: Forward and backward.
        total_flops: Of the run.
        chinchilla_tokens: What the model's size deserves.
        checkpoint_bytes: Of one checkpoint.
        checkpoints_disk_bytes: Of all that are kept at once, and the one being written.
        memory: Estimate for the recipe's micro-batch.
        memory_precision: The precision that it is for; `auto` counts as bf16, as on a GPU.
        devices: Duration on known accelerators.
        mixture: What is taken from each source; None where there is nothing to say of it.
        not_yet: What of the recipe this release cannot do, each as a sentence.
    """

    recipe: str
    parameters: ParameterCounts
    tokens_per_step: int
    steps: int | None
    total_tokens: int | None
    flops_per_token: int
    total_flops: float | None
    chinchilla_tokens: int
    checkpoint_bytes: int
    checkpoints_disk_bytes: int
    memory: StepMemory
    memory_precision: str
    devices: list[DeviceTime]
    mixture: MixturePlan | None
    not_yet: list[str]

    def to_json(self) -> dict[str, Any]:
        """As `plan --json` prints it."""
        content = asdict(self)
        content["memory"]["total"] = self.memory.total
        return content


def make_plan(recipe: Recipe) -> Plan:
    """Computes a recipe's plan from the recipe alone, and from data where it is prepared already.

    Raises:
        UserError: The prepared data is damaged or unfinished.
    """
    counts = count_parameters(recipe.model)
    available = prepared_tokens(recipe)
    only = next(iter(available.values())) if len(available) == 1 else None
    several = len(recipe.data.source) > 1
    steps = recipe.steps(
        windows_per_epoch=None if only is None or several else -(-only // recipe.model.context)
    )
    total_tokens = None if steps is None else steps * recipe.train.tokens_per_step
    flops = flops_per_token(recipe.model)
    # What `auto` becomes on a GPU: that is where memory is short.
    precision = {"auto": "bf16"}.get(recipe.train.precision, recipe.train.precision)
    total_flops = None if total_tokens is None else float(flops) * total_tokens
    return Plan(
        recipe=recipe.name,
        parameters=counts,
        tokens_per_step=recipe.train.tokens_per_step,
        steps=steps,
        total_tokens=total_tokens,
        flops_per_token=flops,
        total_flops=total_flops,
        chinchilla_tokens=chinchilla_tokens(counts.total),
        checkpoint_bytes=checkpoint_bytes(recipe.model, recipe.optim),
        checkpoints_disk_bytes=checkpoints_disk_bytes(recipe),
        memory=step_memory(
            recipe.model,
            recipe.optim,
            micro_batch=recipe.train.micro_batch,
            half=precision in ("bf16", "fp16"),
        ),
        memory_precision=precision,
        devices=[] if total_flops is None else times(total_flops),
        mixture=plan_mixture(recipe, steps, available),
        not_yet=not_yet(recipe),
    )


def checkpoints_disk_bytes(recipe: Recipe) -> int:
    """Disk that the checkpoints of a run take at most: those kept, and one being written."""
    kept = recipe.checkpoint.keep_last + recipe.checkpoint.keep_best + 1
    return kept * checkpoint_bytes(recipe.model, recipe.optim)


def not_yet(recipe: Recipe) -> list[str]:
    """The settings of a recipe that this release reads but cannot run, each as a sentence."""
    train = recipe.train
    findings = [
        (
            recipe.optim.name == "adamw8bit",
            'optim.name = "adamw8bit" is not there yet: '
            "optim.name=adamw makes the same update with four times the state",
        ),
        (
            train.precision == "fp16",
            'train.precision = "fp16" needs a loss scaler, which is not '
            "there yet: without one it would diverge; use train.precision=bf16 or fp32",
        ),
        (
            bool(train.phase),
            "[[train.phase]] (another schedule within the run) is not there yet: "
            "train.phase=[] runs the first phase alone",
        ),
        (train.activation_checkpointing, "train.activation_checkpointing is not there yet"),
        (train.compile, "train.compile is not there yet"),
        (recipe.track.tensorboard, "track.tensorboard is not there yet"),
        (recipe.track.wandb, "track.wandb is not there yet"),
    ]
    return [sentence for holds, sentence in findings if holds]
