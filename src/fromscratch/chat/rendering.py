"""The one renderer: a conversation as token ids, with what of it is learned, and where to stop.

In: a template, a tokenizer that has its special tokens, messages. Out: ids. Text between two
special tokens is encoded in one piece, as transformers does with the template's `chat_template`, so
that both give the same ids. No text gives the id of a special token.

A token belongs to whoever has its first byte. Only where a template's own text stands directly
before the assistant's words (`chatml`, `alpaca`), and these begin with white space, can a token
have bytes of both; it is not learned then.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

from fromscratch.chat.conversations import Message
from fromscratch.chat.template import Piece, Template, template_named
from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.marks import MARK
from fromscratch.tokenizer.tokenizer import END_OF_TEXT, Tokenizer

LossOn = Literal["assistant", "all"]


@dataclass(frozen=True)
class Rendered:
    """A conversation as the model reads it.

    Attributes:
        ids: Its token ids.
        supervised: As long as `ids`: whether the model learns to write that token.
    """

    ids: list[int] = field(default_factory=list)
    supervised: list[bool] = field(default_factory=list)


def render_ids(
    template: Template,
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    *,
    loss_on: LossOn = "assistant",
) -> Rendered:
    """A whole conversation.

    Args:
        template: The one that the model is trained with.
        tokenizer: Has the template's special tokens (`with_special_tokens`).
        messages: At least one.
        loss_on: What is learned: what the assistant says, with the token that ends its turn; or
            all of it.

    Raises:
        UserError: The tokenizer lacks a special token, or a character.
    """
    rendered = _encoded(template.pieces(messages), template, tokenizer)
    if loss_on == "all":
        return Rendered(rendered.ids, [True] * len(rendered.ids))
    return rendered


def prompt_ids(template: Template, tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """A conversation up to where the assistant's next words begin.

    Args:
        template: The one that the model was trained with.
        tokenizer: Has the template's special tokens.
        messages: The last of them is the user's.

    Raises:
        UserError: The tokenizer lacks a special token, or a character.
    """
    return _encoded(_prompt(template, messages), template, tokenizer).ids


def stop_ids(template: Template, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The ids that end an answer: of the template's end of turn, and of end-of-text.

    Raises:
        UserError: The tokenizer lacks the template's.
    """
    end = _special_id(template.end_of_turn, template, tokenizer)
    return tuple(dict.fromkeys((end, tokenizer.eot_id)))


def render_text(template: Template, messages: Sequence[Message]) -> str:
    """A conversation as plain text, to be pretrained on: a document, whose end is put behind it.

    Args:
        template: One that marks turns by text (`text_template`).
        messages: At least one.
    """
    return "".join(piece.text for piece in template.pieces(messages) if not piece.special)


def text_template(name: str) -> Template:
    """The template of that name, which must mark turns by text.

    Raises:
        UserError: There is none, or it marks them by special tokens, which no text can hold (R49).
    """
    template = template_named(name)
    roles = [token for token in template.special_tokens if token != END_OF_TEXT]
    if roles:
        raise UserError(
            f'The chat template "{name}" has tokens of its own ({", ".join(roles)}), which text '
            "cannot spell (R49).",
            fix="Render with alpaca to pretrain on conversations; or finetune on them, which takes "
            "any template.",
            regret="R49",
        )
    return template


def _prompt(template: Template, messages: Sequence[Message]) -> Iterator[Piece]:
    """The pieces before the first that the assistant would say now."""
    assert messages[-1].role != "assistant", "it is the assistant's turn"
    pieces = list(template.pieces((*messages, Message("assistant", ""))))
    last = max(n for n, piece in enumerate(pieces) if piece.supervised and not piece.special)
    return iter(pieces[:last])


def _encoded(pieces: Iterable[Piece], template: Template, tokenizer: Tokenizer) -> Rendered:
    rendered = Rendered()
    stretch: list[Piece] = []
    for piece in pieces:
        if not piece.special:
            stretch.append(piece)
            continue
        _add_text(rendered, stretch, tokenizer)
        stretch = []
        rendered.ids.append(_special_id(piece.text, template, tokenizer))
        rendered.supervised.append(piece.supervised)
    _add_text(rendered, stretch, tokenizer)
    return rendered


def _add_text(rendered: Rendered, stretch: Sequence[Piece], tokenizer: Tokenizer) -> None:
    """Encodes neighbouring pieces of text as one; each token is marked as its first byte is."""
    texts = [tokenizer.normalized(piece.text.replace(MARK, "")) for piece in stretch]
    ids = tokenizer.encode("".join(texts))
    rendered.ids.extend(ids)
    if len({piece.supervised for piece, text in zip(stretch, texts, strict=True) if text}) <= 1:
        said = any(piece.supervised for piece, text in zip(stretch, texts, strict=True) if text)
        rendered.supervised.extend([said] * len(ids))
        return
    begins = list(accumulate((len(text.encode()) for text in texts), initial=0))[:-1]
    sizes = tokenizer.bytes_per_id[ids].tolist()
    for at in accumulate(sizes[:-1], initial=0):
        rendered.supervised.append(stretch[bisect_right(begins, at) - 1].supervised)


def _special_id(name: str, template: Template, tokenizer: Tokenizer) -> int:
    try:
        return tokenizer.special_ids[name]
    except KeyError:
        raise UserError(
            f'The tokenizer has no special token "{name}", which the chat template '
            f'"{template.name}" needs.',
            fix="Finetune the model with this template, which adds its tokens, or choose the "
            "template that the model was finetuned with.",
        ) from None
