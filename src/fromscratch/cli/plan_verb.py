"""`fromscratch plan`: what a recipe will need, before anything is spent."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import typer

from fromscratch.cli.show import say, size, table
from fromscratch.report.numerals import duration

if TYPE_CHECKING:
    from fromscratch.runs.planning import Plan


def run(
    recipe: str = typer.Argument(..., help="A shipped recipe's name, or a .toml file."),
    overrides: list[str] = typer.Argument(None, help="Changes: key=value, e.g. model.n_layer=6."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON for a program."),
) -> None:
    """Prints parameters, memory, FLOPs, tokens, time and disk of a recipe.

    Example: fromscratch plan modern-124m train.micro_batch=8
    """
    from fromscratch.runs.planning import make_plan
    from fromscratch.runs.recipe_files import load_recipe

    plan = make_plan(load_recipe(recipe, overrides or []))
    if as_json:
        typer.echo(json.dumps(plan.to_json(), indent=2))
    else:
        _print(plan, recipe, overrides or [])


def _verdict(plan: Plan, memory_bytes: int) -> str:
    """Whether a step fits into a card's memory, of which the driver keeps some for itself."""
    memory, usable = plan.memory, 0.92 * memory_bytes
    if memory.total < usable:
        return "yes"
    per_micro_batch = memory.activations + memory.logits
    return "smaller micro_batch" if memory.total - per_micro_batch < usable else "no"


def _print(plan: Plan, recipe: str, overrides: list[str]) -> None:
    from fromscratch.plan.compute import ASSUMED_MFU

    parameters = plan.parameters
    say(f"{plan.recipe}: {parameters.total:,} parameters")
    say()
    table(
        ["part", "parameters"],
        [[part, f"{number:,}"] for part, number in parameters.by_part.items()]
        + [
            ["without embeddings", f"{parameters.non_embedding:,}"],
            [f"decayed ({parameters.decayed_tensors} tensors)", f"{parameters.decayed:,}"],
            [
                f"not decayed ({parameters.not_decayed_tensors} tensors)",
                f"{parameters.not_decayed:,}",
            ],
        ],
    )
    say()
    rows = [["tokens a step", f"{plan.tokens_per_step:,}"]]
    if plan.steps is None or plan.total_tokens is None or plan.total_flops is None:
        rows.append(["steps", "depends on the data (train.epochs)"])
    else:
        share = plan.total_tokens / plan.chinchilla_tokens
        rows += [
            ["steps", f"{plan.steps:,}"],
            ["tokens in all", f"{plan.total_tokens:,}"],
            ["Chinchilla-optimal tokens", f"{plan.chinchilla_tokens:,} (this run: {share:.2g}x)"],
            ["FLOPs in all", f"{plan.total_flops:.3g}"],
        ]
    rows += [
        ["FLOPs a token", f"{plan.flops_per_token:,}"],
        ["a checkpoint", size(plan.checkpoint_bytes)],
        ["checkpoints on disk, at most", size(plan.checkpoints_disk_bytes)],
    ]
    table(["run", ""], rows)
    memory = plan.memory
    say()
    table(
        [f"memory of a step in {plan.memory_precision} (estimate)", ""],
        [
            ["weights", size(memory.weights)],
            ["gradients", size(memory.gradients)],
            ["optimiser", size(memory.optimizer)],
            ["activations", size(memory.activations)],
            ["logits", size(memory.logits)],
            ["together", size(memory.total)],
        ],
    )
    if plan.devices:
        say()
        table(
            ["time on", f"at {ASSUMED_MFU:.0%} of peak", "step fits its memory"],
            [
                [
                    d.name,
                    duration(d.hours * 3600),
                    _verdict(plan, d.memory_bytes),
                ]
                for d in plan.devices
            ],
        )
    say()
    for sentence in plan.not_yet:
        say(f"not in this release: {sentence}")
    if not plan.not_yet:
        typed = " ".join(shlex.quote(word) for word in (recipe, *overrides))
        say(f"start with: fromscratch train {typed}")
