"""HellaSwag as a recipe schedules it: found before anything is spent, ready before step 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fromscratch.data.hub import HUB_PREFIX
from fromscratch.evaluate.hellaswag import HellaSwag
from fromscratch.evaluate.hellaswag_items import HellaSwagItem, choose, read_hellaswag
from fromscratch.foundation.errors import UserError
from fromscratch.parallel.ranks import Ranks
from fromscratch.runs.recipe import EvalConfig, Recipe
from fromscratch.tokenizer.tokenizer import Tokenizer


def find_hellaswag(config: EvalConfig, ranks: Ranks) -> list[HellaSwagItem]:
    """All items of the set that a recipe names; none where it asks for none.

    Raises:
        UserError: The file is not there, cannot be had, or is not HellaSwag.
    """
    if not config.hellaswag_every:
        return []
    try:
        return ranks.main_first(lambda: read_hellaswag(config.hellaswag))
    except UserError as error:
        raise UserError(
            f"eval.hellaswag: {error.what}",
            fix=f"{error.fix or 'Name its file.'} Without it: eval.hellaswag_every=0.",
        ) from error


def ready_hellaswag(
    config: EvalConfig, found: Sequence[HellaSwagItem], tokenizer: Tokenizer
) -> HellaSwag | None:
    """The recipe's items as the run's tokenizer says them.

    Raises:
        UserError: It cannot: a character vocabulary lacks most of the world's characters.
    """
    if not config.hellaswag_every:
        return None
    items = choose(found, config.hellaswag_items)
    ready = HellaSwag(items, config.hellaswag_style, tokenizer, config.hellaswag, len(found))
    try:
        assert ready.encoded
    except UserError as error:
        raise UserError(
            f"eval.hellaswag: the run's tokenizer cannot say HellaSwag's items. {error.what}",
            fix="Leave it out: eval.hellaswag_every=0.",
        ) from error
    return ready


def wherever_it_is_resumed(recipe: Recipe) -> Recipe:
    """The same recipe, with the whole path of the file."""
    config = recipe.eval
    if not config.hellaswag_every or config.hellaswag.startswith(HUB_PREFIX):
        return recipe
    path = str(Path(config.hellaswag).expanduser().resolve())
    return recipe.model_copy(update={"eval": config.model_copy(update={"hellaswag": path})})
