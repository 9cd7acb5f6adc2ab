"""What each `train.objective` means: how its data is opened, and what is minimised.

A further objective is a further line of the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fromscratch.data.watching import Watch
from fromscratch.runs.opened_data import OpenedData, open_data
from fromscratch.runs.opened_examples import open_examples
from fromscratch.runs.recipe import Recipe
from fromscratch.train.objectives import Objective, next_token_loss
from fromscratch.train.preference import PreferenceObjective, pair_loss


@dataclass(frozen=True)
class Kind:
    """One objective.

    Attributes:
        open: Prepares and opens the recipe's data; told how that goes.
        loss: What is minimised.
    """

    open: Callable[[Recipe, Watch], OpenedData]
    loss: Callable[[Recipe], Objective]


def _texts(recipe: Recipe, report: Watch) -> OpenedData:
    return open_data(recipe.data, recipe.model, recipe.eval.tokens, report)


def _preferences(name: Literal["dpo", "orpo"], recipe: Recipe) -> Objective:
    config = recipe.preference
    return PreferenceObjective(
        pair_loss(name, beta=config.beta, label_smoothing=config.label_smoothing)
    )


KINDS = {
    "pretrain": Kind(open=_texts, loss=lambda recipe: next_token_loss),
    # What is not learned is no target, so the loss is the same.
    "sft": Kind(open=open_examples, loss=lambda recipe: next_token_loss),
    "dpo": Kind(open=open_examples, loss=lambda recipe: _preferences("dpo", recipe)),
    "orpo": Kind(open=open_examples, loss=lambda recipe: _preferences("orpo", recipe)),
}


def open_training_data(recipe: Recipe, report: Watch) -> OpenedData:
    """A recipe's data, prepared on first use.

    Raises:
        UserError: It cannot be had, or does not go with the recipe.
    """
    return KINDS[recipe.train.objective].open(recipe, report)


def loss_of(recipe: Recipe) -> Objective:
    """What a recipe minimises."""
    return KINDS[recipe.train.objective].loss(recipe)
