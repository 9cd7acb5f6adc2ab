"""The one renderer of conversations.

In: messages. Out: pieces of text in order, each marked as the model's own words or not; joined,
they are the text of the conversation. Whatever needs a conversation as text (pretraining on
instruction data now; finetuning, chat and server, which also need the marks) takes it from here, so
that a model never meets another format than the one it was trained on (R53).

A template is a class with a name and a method `pieces`; it is found by that name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from fromscratch.chat.conversations import Message
from fromscratch.foundation.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Piece:
    """A stretch of a rendered conversation.

    Attributes:
        text: As it stands in the conversation; always encoded as plain text.
        supervised: Whether these are the assistant's words, which a model learns to write.
    """

    text: str
    supervised: bool = False


class Template(Protocol):
    """What every template offers."""

    name: str
    next_turn: str
    """What begins another turn of the user: a model that writes it has ended its own."""

    def pieces(self, messages: Sequence[Message]) -> Iterator[Piece]:
        """Yields the conversation from its first character to its last."""
        ...


class Alpaca:
    """The prompt of Stanford Alpaca (Taori et al. 2023), with and without an input.

    A system message takes the place of the opening sentences; further turns repeat the blocks.
    """

    name = "alpaca"
    next_turn = "\n\n### Instruction:\n"

    _OPENING = (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request."
    )
    _OPENING_WITH_INPUT = (
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request."
    )

    def pieces(self, messages: Sequence[Message]) -> Iterator[Piece]:
        """Yields the opening, then a block for each turn, with a blank line between blocks."""
        opening = self._OPENING_WITH_INPUT if messages[0].context else self._OPENING
        turns = messages
        if messages[0].role == "system":
            opening, turns = messages[0].content, messages[1:]
        yield Piece(opening)
        for message in turns:
            if message.role == "assistant":
                yield Piece("\n\n### Response:\n")
                yield Piece(message.content, supervised=True)
                continue
            yield Piece(f"{self.next_turn}{message.content}")
            if message.context:
                yield Piece(f"\n\n### Input:\n{message.context}")


_TEMPLATES: dict[str, Template] = {Alpaca.name: Alpaca()}


def template_named(name: str) -> Template:
    """The template of that name.

    Raises:
        UserError: There is none.
    """
    if name not in _TEMPLATES:
        raise UserError(
            f'There is no chat template "{name}".{did_you_mean(name, _TEMPLATES)}',
            fix=f"Known: {', '.join(_TEMPLATES)}.",
        )
    return _TEMPLATES[name]


def render(template: Template, messages: Sequence[Message]) -> str:
    """The whole conversation as text."""
    return "".join(piece.text for piece in template.pieces(messages))


def render_prompt(template: Template, messages: Sequence[Message]) -> str:
    """The conversation up to where the assistant's next words begin.

    Args:
        template: The one that the model was trained with.
        messages: The last of them is the user's.
    """
    return render(template, (*messages, Message("assistant", "")))
