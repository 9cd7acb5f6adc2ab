"""A recipe's plan: everything that can be known before it runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fromscratch.model.count import ParameterCounts, count_parameters, flops_per_token
from fromscratch.plan.budget import Budget
from fromscratch.plan.compute import ASSUMED_MFU, DeviceTime, chinchilla_tokens, times
from fromscratch.plan.memory import StepMemory, checkpoint_bytes, step_memory
from fromscratch.runs.measured import Measured, measured
from fromscratch.runs.mixture_plan import MixturePlan, plan_mixture, prepared_tokens
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.schedule_plan import SchedulePlan, plan_schedule
from fromscratch.runs.spending import Question, budget_for


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
        memory_micro_batch: The micro-batch that it is for; `auto` counts as 1.
        mfu: Share of a device's peak that the durations assume.
        devices: Duration on known accelerators.
        measured: What `bench` has measured of this recipe.
        budget: Hours and money on the device that was asked for; None where none was.
        mixture: What is taken from each source; None where there is nothing to say of it.
        schedule: Learning rate, weight decay, momentum and clipping along the run.
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
    memory_micro_batch: int
    mfu: float
    devices: list[DeviceTime]
    measured: list[Measured]
    budget: Budget | None
    mixture: MixturePlan | None
    schedule: SchedulePlan

    def to_json(self) -> dict[str, Any]:
        """As `plan --json` prints it."""
        content = asdict(self)
        content["memory"]["total"] = self.memory.total
        return content


def make_plan(recipe: Recipe, question: Question | None = None) -> Plan:
    """Computes a recipe's plan from the recipe alone, and from data where it is prepared already.

    Args:
        recipe: What to plan.
        question: Which device, and what there is to spend; None for an overview.

    Raises:
        UserError: The prepared data is damaged or unfinished, or the question has no answer.
    """
    question = question or Question()
    mfu = ASSUMED_MFU if question.mfu is None else question.mfu
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
    rows = recipe.rows_per_sample  # a pair of answers goes through the model as two
    total_flops = None if total_tokens is None else float(flops) * total_tokens * rows
    mixture = plan_mixture(recipe, steps, available)
    micro_batch = 1 if recipe.train.micro_batch == "auto" else recipe.micro_batch
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
        checkpoints_disk_bytes=checkpoints_disk_bytes(recipe, steps),
        memory=step_memory(
            recipe.model,
            recipe.optim,
            micro_batch=micro_batch * rows,
            half=precision in ("bf16", "fp16"),
            activation_checkpointing=recipe.train.activation_checkpointing,
        ),
        memory_precision=precision,
        mixture=mixture,
        schedule=plan_schedule(recipe, steps, _epochs(mixture)),
        memory_micro_batch=micro_batch,
        mfu=mfu,
        devices=[] if total_flops is None else times(total_flops, recipe.train.precision, mfu),
        measured=measured(recipe),
        budget=budget_for(recipe, steps, question) if question.asked else None,
    )


def _epochs(mixture: MixturePlan | None) -> dict[str, float] | None:
    """How often each source is gone through, where that is known of all."""
    epochs = {} if mixture is None else {s.name: s.epochs for s in mixture.sources}
    known = {name: passes for name, passes in epochs.items() if passes is not None}
    return known if known and len(known) == len(epochs) else None


def checkpoints_disk_bytes(recipe: Recipe, steps: int | None) -> int:
    """Disk that the checkpoints of a run take at most: those kept, and one being written.

    Args:
        recipe: What is run.
        steps: Its length; None where it is not known yet: permanent ones are not counted then.
    """
    config = recipe.checkpoint
    kept = config.keep_last + config.keep_best + (config.every_minutes > 0) + 1
    if config.keep_every and steps is not None:
        kept += steps // config.keep_every
    return kept * checkpoint_bytes(recipe.model, recipe.optim)
