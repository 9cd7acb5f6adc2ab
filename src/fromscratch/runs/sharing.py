"""What a recipe means for the number of processes that train it.

In: a recipe and the ranks. Out: a sentence where they do not go together, before anything is spent,
and the micro-batch that one rank finds for all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fromscratch.foundation.errors import UserError
from fromscratch.parallel.ranks import Ranks
from fromscratch.plan.memory import divisors
from fromscratch.runs.micro_batch import Settled, settle_micro_batch
from fromscratch.runs.recipe import Recipe


def is_sharded(recipe: Recipe, ranks: Ranks) -> bool:
    """Whether each rank will hold a part of the model only."""
    return recipe.parallel.mode == "fsdp" and ranks.world.launched


def check_sharing(recipe: Recipe, ranks: Ranks) -> None:
    """Refuses what cannot be shared by so many processes.

    Raises:
        UserError: The windows of a step cannot be dealt out to them, or the optimiser's state
            cannot be cut.
    """
    if is_sharded(recipe, ranks) and recipe.optim.name == "adamw8bit":
        raise UserError(
            'optim.name = "adamw8bit" and parallel.mode = "fsdp" do not go together: its state '
            "is quantised in blocks of many rows, which cannot be cut by rows.",
            fix="Use optim.name=adamw: its state is shared out; or parallel.mode=ddp.",
        )
    samples, size = recipe.samples_per_step, ranks.size
    found = recipe.train.micro_batch
    micro = 1 if found == "auto" else found
    if samples % (size * micro) == 0:
        return
    fix = f"With this micro-batch: {_listed(samples // micro)} processes."
    if samples % size == 0:
        fix += f" With {size} processes, train.micro_batch: {_listed(samples // size)}."
    raise UserError(
        f"The {samples:,} windows of a step (train.tokens_per_step / model.context) cannot be "
        f"dealt out to {size} processes with train.micro_batch = {found}.",
        fix=fix,
    )


def _listed(number: int) -> str:
    return ", ".join(map(str, divisors(number)[:24]))


def alone_notes(recipe: Recipe, ranks: Ranks) -> list[tuple[str, str]]:
    """What a setting for several processes does in one: nothing."""
    if recipe.parallel.mode == "fsdp" and not ranks.world.launched:
        return [("parallel", 'parallel.mode = "fsdp" has no effect in one process (see torchrun)')]
    return []


def settle_for_all(
    recipe: Recipe, root: Path, tokenizer: Path, ranks: Ranks, *, say: Callable[[str], None]
) -> Settled:
    """The micro-batch of a run that is about to start, found or checked by rank 0.

    A trial has the whole model on one device. Where the ranks share it out, a given micro-batch is
    therefore not tried: that it does not fit so would say nothing. One that is found so fits.

    Args:
        recipe: Its data may still be anything.
        root: The run folder.
        tokenizer: Folder of the run's tokenizer.
        ranks: Who trains.
        say: Told how the search goes.

    Raises:
        UserError: Nothing fits, or not what the recipe says.
    """
    sharded = is_sharded(recipe, ranks)
    if sharded and recipe.train.micro_batch != "auto":
        return Settled(recipe, [])

    def settle() -> tuple[int, list[tuple[str, str]]]:
        try:
            settled = settle_micro_batch(recipe, root, tokenizer, say=say, ranks=ranks.size)
        except UserError as error:
            if not sharded:
                raise
            raise UserError(
                error.what,
                fix="The whole model was tried on one device, and would be on several: give "
                "train.micro_batch as a number.",
            ) from error
        return settled.recipe.micro_batch, settled.notes

    micro_batch, notes = ranks.from_main(settle)
    return Settled(recipe.with_micro_batch(micro_batch), [(name, text) for name, text in notes])
