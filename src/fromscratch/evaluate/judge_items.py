"""The items that models answer and a judge scores: what is asked, and a reference answer.

In: an instruction file (Alpaca's list or JSON lines, chat messages, or any kind that
chat/conversations.py knows). Out: items in the file's order. The last answer of a record is its
reference; a record without one is judged without.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fromscratch.chat.conversations import Message, NotAConversation, messages_of
from fromscratch.data.evaluation_items import Part, load_entries
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import dump_json

# What names the answer of a record that asks something; a file of bare questions lacks it.
_ANSWERS = {"instruction": "output", "prompt": "completion"}


@dataclass(frozen=True)
class JudgeItem:
    """One item.

    Attributes:
        number: Its place in the file, from 0, whatever part of the file is judged.
        messages: What is asked; the last message is the user's.
        reference: The answer that the file has; None without one.
    """

    number: int
    messages: tuple[Message, ...]
    reference: str | None

    def texts(self) -> Iterator[tuple[str, str]]:
        """What is asked, as (name, text), in order; a name may come more than once."""
        for message in self.messages:
            if message.role == "system":
                yield "system message", message.content
            elif message.role == "assistant":
                yield "earlier answer", message.content
            else:
                yield "instruction", message.content
                if message.context:
                    yield "input", message.context

    def row(self) -> dict[str, Any]:
        """The item as Alpaca's fields, which people know; a longer conversation as messages."""
        if len(self.messages) == 1:
            message = self.messages[0]
            row: dict[str, Any] = {"instruction": message.content, "input": message.context}
        else:
            row = {"messages": [{"role": m.role, "content": m.content} for m in self.messages]}
        return {"item": self.number, **row, "output": self.reference}


def load_judge_items(
    path: Path, *, part: Part = "all", limit: int | None = None
) -> list[JudgeItem]:
    """Reads an instruction file.

    Args:
        path: JSON or JSON lines.
        part: As for `load_entries`.
        limit: The first so many of the part; None for all.

    Raises:
        UserError: The file cannot be read, or an item of the part asks nothing.
    """
    entries = load_entries(path, part=part)[:limit]
    return [_item(entry.value, entry.number, f"{path} {entry.where}") for entry in entries]


def _item(value: Any, number: int, where: str) -> JudgeItem:
    fix = "Give records with instruction, input and output, or with chat messages."
    if not isinstance(value, dict):
        raise UserError(f"{where} is no record but {type(value).__name__}.", fix=fix)
    record = dict(value)
    for asked, answer in _ANSWERS.items():
        if asked in record and record.get(answer) is None:
            record[answer] = ""
    try:
        messages = messages_of(record)
    except NotAConversation as error:
        raise UserError(f"{where} {error}.", fix=fix) from None
    reference = None
    if messages[-1].role == "assistant":
        reference = messages[-1].content if messages[-1].content.strip() else None
        messages = messages[:-1]
    if not messages or messages[-1].role != "user":
        raise UserError(f"{where} asks nothing: there is no user's message to answer.", fix=fix)
    return JudgeItem(number, messages, reference)


def fingerprint(items: Sequence[JudgeItem]) -> str:
    """sha256 over the items as they are judged."""
    digest = hashlib.sha256()
    for item in items:
        digest.update((dump_json(item.row()) + "\n").encode("utf-8"))
    return digest.hexdigest()
