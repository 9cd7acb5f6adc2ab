"""One training example token by token, with its mask (R50): what is given, and what is learned."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from fromscratch.data.examples import Examples
from fromscratch.tokenizer.tokenizer import Tokenizer, load_tokenizer


@dataclass(frozen=True)
class Stretch:
    """Tokens in a row of which all are learned, or none.

    Attributes:
        learned: Whether they count in the loss.
        tokens: The text of each; of a special token its name. A byte that is no character by
            itself reads as the replacement character.
    """

    learned: bool
    tokens: tuple[str, ...]


def first_example(examples: Examples) -> list[Stretch]:
    """The first training example; empty where there is none."""
    numbers = examples.of("train").tolist()
    if not numbers:
        return []
    return stretches(examples, numbers[0], load_tokenizer(examples.folder))


def stretches(examples: Examples, number: int, tokenizer: Tokenizer) -> list[Stretch]:
    """An example's tokens; its first is given and never predicted."""
    ids, learned = examples.read(number)
    names = {i: name for name, i in tokenizer.special_ids.items()}
    marks = [False, *learned[1:].tolist()]
    texts = [names.get(i) or tokenizer.decode([i]) for i in ids.tolist()]
    return [
        Stretch(is_learned, tuple(text for text, _ in group))
        for is_learned, group in groupby(zip(texts, marks, strict=True), key=lambda pair: pair[1])
    ]
