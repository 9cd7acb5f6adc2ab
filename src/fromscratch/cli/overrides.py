"""Changes of a recipe that a shell took apart: `key = value`, `key value`, `key: value`.

Each is answered with the line as it was meant; nothing is guessed and run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

from fromscratch.foundation.errors import UserError


def refuse_spaces(ctx: Any, value: list[str] | None) -> list[str] | None:
    """What typer calls with the words that were typed as overrides.

    Raises:
        UserError: Two of them were meant as one.
    """
    if value and not ctx.resilient_parsing:
        joined = as_meant(value)
        if joined != list(value):
            line = list(ctx.obj or [])
            for start in range(len(line) - len(value) + 1):
                if line[start : start + len(value)] == list(value):
                    line[start : start + len(value)] = joined
                    break
            else:  # options stand between them
                line = [*ctx.command_path.split()[1:], "...", *joined]
            raise UserError(
                f"A change of the recipe is one word, key=value, and this is not: "
                f'"{" ".join(_first_apart(value, joined))}".',
                fix=shlex.join(["fromscratch", *line]),
            )
    return value


def as_meant(words: Sequence[str]) -> list[str]:
    """The words with those put together that were meant as one override."""
    queue, joined = list(words), []
    while queue:
        word = queue.pop(0)
        if (colon := re.fullmatch(r"([\w.]+):=?(.*)", word)) and _is_key(colon[1]):
            value = colon[2] or (queue.pop(0) if queue else "")
            word = f"{colon[1]}={value}"
        elif re.fullmatch(r"[\w.]+=", word) and queue and "=" not in queue[0]:
            word += queue.pop(0)
        elif _is_key(word) and queue and (queue[0].startswith("=") or "=" not in queue[0]):
            value = queue.pop(0).removeprefix("=")
            if not value and queue and "=" not in queue[0]:
                value = queue.pop(0)
            word = f"{word}={value}"
        joined.append(word)
    return joined


def _first_apart(words: Sequence[str], joined: Sequence[str]) -> list[str]:
    """The words that the first one that was put together is made of."""
    begin = next(i for i, (a, b) in enumerate(zip(words, joined, strict=False)) if a != b)
    kept = len(joined) - begin - 1  # words behind it, as far as they stand as they were
    return list(words[begin : max(begin + 1, len(words) - kept)])


def _is_key(word: str) -> bool:
    """Whether this is, or nearly is, a key of a recipe."""
    from fromscratch.runs.recipe_keys import recipe_keys

    keys = recipe_keys()
    table, dot, _ = word.partition(".")
    return word in keys or bool(dot and any(key.startswith(f"{table}.") for key in keys))
