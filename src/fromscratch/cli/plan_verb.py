"""`fromscratch plan`: what a recipe will need and consume, before anything is spent."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from fromscratch.cli.budget_lines import print_budget
from fromscratch.cli.show import out, print_json, print_warning, say, size, table
from fromscratch.cli.starting import completion_by
from fromscratch.cli.vocabulary import argument, option
from fromscratch.cli.vocabulary import overrides as said_overrides
from fromscratch.report.numerals import duration, short

if TYPE_CHECKING:
    from fromscratch.runs.mixture_plan import MixturePlan, SourcePlan
    from fromscratch.runs.planning import Plan
    from fromscratch.runs.schedule_plan import SchedulePlan


def run(
    recipe: str = argument("RECIPE"),
    overrides: list[str] = said_overrides(),
    as_json: bool = option("json", False),
    picture: Path = option("picture", of="the mixture's shares over the run"),
    start: str = option("from"),
    gpu: str = option("gpu"),
    gpus: int = option("gpus", 1),
    hours: float = option("hours"),
    dollars: float = option("dollars"),
    price: float = option("price", show_default="the table's"),
    mfu: float = option("mfu", show_default="as measured, or 0.4"),
) -> None:
    """Prints parameters, memory, FLOPs, tokens, time and disk of a recipe, and its mixture.

    With --gpu also hours, money, the end, and what to change to fit --hours or --dollars.

    Example: fromscratch plan modern-124m --gpu rtx3090 --hours 48
    """
    from fromscratch.runs.planning import make_plan
    from fromscratch.runs.recipe_files import load_recipe
    from fromscratch.runs.spending import Question

    question = Question(gpu, gpus, hours, dollars, price, mfu)
    resolved = load_recipe(recipe, overrides or [], complete=completion_by(start))
    plan = make_plan(resolved, question)
    if picture is not None:
        _draw(plan, picture)
    if as_json:
        print_json(plan.to_json())
    else:
        _print(plan, recipe, [*(["--from", start] if start else []), *(overrides or [])])


def _verdict(plan: Plan, memory_bytes: int) -> str:
    """Whether a step fits into a card's memory, of which the driver keeps some for itself."""
    from fromscratch.plan.memory import USABLE_SHARE

    memory, usable = plan.memory, USABLE_SHARE * memory_bytes
    if memory.total < usable:
        return "yes"
    fixed = memory.total - memory.activations
    one = fixed + memory.activations / plan.memory_micro_batch
    return "smaller micro_batch" if one < usable else "no"


def _print(plan: Plan, recipe: str, overrides: list[str]) -> None:
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
        [
            f"memory of a step in {plan.memory_precision}, micro-batch {plan.memory_micro_batch} "
            "(estimate)",
            "",
        ],
        [
            ["weights", size(memory.weights)],
            ["gradients", size(memory.gradients)],
            ["optimiser", size(memory.optimizer)],
            ["activations", size(memory.activations)],
            ["head and loss", size(memory.logits)],
            ["together", size(memory.total)],
        ],
    )
    if plan.budget is not None:
        say()
        print_budget(plan.budget, recipe, overrides)
    elif plan.devices:
        say()
        _print_devices(plan)
    if plan.mixture is not None:
        say()
        _print_mixture(plan.mixture)
    if plan.schedule.words:
        say()
        _print_schedule(plan.schedule)
    say()
    refusals = [*([] if plan.mixture is None else plan.mixture.refusals), *plan.schedule.refusals]
    for sentence in refusals:
        say(f"will not start: {sentence}")
    if not refusals:
        typed = " ".join(shlex.quote(word) for word in (recipe, *overrides))
        say(f"start with: fromscratch train {typed}")


def _print_devices(plan: Plan) -> None:
    """The run's duration on known cards, and on those where it was measured."""
    assert plan.total_tokens is not None
    table(
        ["time on", f"at {plan.mfu:.0%} of peak", "rented", "step fits its memory"],
        [
            [
                f"{d.name} ({d.precision})",
                duration(d.hours * 3600),
                "?" if d.cost is None else f"${d.cost:,.0f}",
                _verdict(plan, d.memory_bytes),
            ]
            for d in plan.devices
        ],
    )
    for entry in plan.measured:
        seconds = plan.total_tokens / entry.tokens_per_s
        say(
            f"measured on {entry.device} ({entry.when}): {duration(seconds)} at "
            f"{entry.tokens_per_s:,.0f} tokens/s, {entry.precision}, "
            f"micro-batch {entry.micro_batch}"
        )


def _print_mixture(mixture: MixturePlan) -> None:
    """What is taken from each source: a picture over the run, by stage, and in all."""
    from fromscratch.report.mixture_picture import bars

    if len(mixture.sources) > 1:
        ascii_only = not out.encoding.lower().startswith("utf")
        for line in bars(mixture, ascii_only=ascii_only):
            say(line)
        say()
    stages = mixture.stages if len(mixture.stages) > 1 else []
    rows = []
    for source in mixture.sources:
        taken = [None if s.tokens is None else s.tokens[source.name] for s in stages]
        row = [source.name, *map(_tokens, taken), _tokens(source.tokens)]
        row.append("?" if source.share is None else f"{source.share:.1%}")
        rows.append([*row, _tokens(source.available), _epochs(source)])
    spans = [f"{_tokens(s.from_tokens)} to {_tokens(s.to_tokens)}" for s in stages]
    table(["tokens from", *spans, "in all", "share", "it has", "epochs"], rows)
    if any(source.available is None for source in mixture.sources):
        say("?: not prepared yet, so how much there is of it is not known")
    for sentence in mixture.warnings:
        print_warning(sentence)


def _print_schedule(schedule: SchedulePlan) -> None:
    """Learning rate, phases, weight decay, momentum and clipping; the rate as a picture too."""
    from fromscratch.report.schedule_picture import blocks

    margin = max(map(len, schedule.words))
    if schedule.curve:
        ascii_only = not out.encoding.lower().startswith("utf")
        line = blocks([point.lr for point in schedule.curve], ascii_only=ascii_only)
        say(f"{'schedule'.ljust(margin)}  {line}")
    for name, words in schedule.words.items():
        say(f"{name.ljust(margin)}  {words}")
    for sentence in schedule.warnings:
        print_warning(sentence)


def _tokens(number: int | None) -> str:
    return "?" if number is None else short(number)


def _epochs(source: SourcePlan) -> str:
    passes = "?" if source.epochs is None else f"{source.epochs:.2f}"
    return passes if source.max_epochs is None else f"{passes} (limit {source.max_epochs:g})"


def _draw(plan: Plan, path: Path) -> None:
    from fromscratch.foundation.errors import UserError
    from fromscratch.foundation.files import write_atomically
    from fromscratch.report.mixture_picture import png

    if plan.mixture is None:
        raise UserError(
            f'The recipe "{plan.recipe}" mixes nothing: there are no shares to draw.',
            fix="--picture is for recipes with several [[data.source]].",
        )
    try:
        write_atomically(path, png(plan.mixture, title=f"{plan.recipe}: shares of its sources"))
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from None
