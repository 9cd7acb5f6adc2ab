"""`--from MODEL` of verbs that read a recipe and train nothing, or many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def completion_by(start: str | None) -> Callable[[dict[str, Any]], dict[str, Any]] | None:
    """What fills in a recipe from the model that was named; None where none was.

    Without a model no torch is loaded.

    Raises:
        UserError: There is no such model.
    """
    if start is None:
        return None
    from fromscratch.runs.starting_model import find_starting_model

    return find_starting_model(start).complete
