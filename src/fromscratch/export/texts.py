"""Whether two programs give the same ids for texts of all kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from fromscratch.chat.conversations import Message
from fromscratch.export.quiet import silent
from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.self_test import nasty_texts
from fromscratch.tokenizer.tokenizer import Tokenizer

_TEXTS = 60
_WORDS = 1000


def check_texts(
    tokenizer: Tokenizer, theirs: Callable[[str], Sequence[int]], who: str = "transformers"
) -> None:
    """Raises a UserError where another program encodes a text otherwise."""
    texts = list(plain_texts(tokenizer))
    with silent():  # a text longer than the context is no reason for a remark
        found = [theirs(text) for text in texts]
    for text, ids in zip(texts, found, strict=True):
        check_ids(text, tokenizer.encode(text), ids, who)


def plain_texts(tokenizer: Tokenizer) -> Iterator[str]:
    """Texts that the tokenizer can encode and in which no special token is spelled.

    Other programs take such a spelling for the token. What each id stands for is among them, so
    that each merge counts.
    """
    nasty = nasty_texts()
    ids = range(tokenizer.vocab_size)
    spelled = (
        " ".join(tokenizer.decode([i]) for i in ids[start : start + _WORDS])
        for start in range(0, len(ids), _WORDS)
    )
    for text in chain(nasty[:: max(1, len(nasty) // _TEXTS)], spelled):
        plain = text.replace("\x00", "")  # the end of a text, to programs written in C
        for name in tokenizer.special_ids:
            plain = plain.replace(name, "")
        try:
            tokenizer.encode(plain)
        except UserError:  # a vocabulary of characters lacks most of them
            continue
        yield plain


def check_ids(text: str, ours: Sequence[int], theirs: Sequence[int], who: str) -> None:
    """Raises a UserError where another program's ids of a text are not ours."""
    if list(ours) != list(theirs):
        raise UserError(
            f"What was written has another tokenizer: {who} encodes {text[:40]!r} as "
            f"{list(theirs)[:8]}, not {list(ours)[:8]}. Nothing was kept.",
            fix="Please report this with the model's tokenizer.json.",
        )


def as_dicts(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Messages as other programs take them."""
    return [{"role": message.role, "content": message.content} for message in messages]
