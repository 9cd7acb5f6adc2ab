"""Records of the common kinds of instruction data, as conversations.

In: a record (a JSON object, a row of a Parquet file). Out: its messages. Four kinds are known, by
their fields: `messages` (role, content), ShareGPT's `conversations` (from, value), Alpaca's
`instruction`, `input` and `output`, and `prompt` with `completion`.

Always true of what comes out: there is at least one message; only the first may be the system's;
every content is a string, exactly as the record has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
}

# The fields by which a kind is known, in the order in which they are looked for. The text that
# Alpaca's own files also carry in `text` is a rendering by somebody else, and is not read.
_KINDS: dict[str, tuple[str, ...]] = {
    "chat messages": ("messages",),
    "ShareGPT": ("conversations",),
    "Alpaca": ("instruction", "output"),
    "prompt and completion": ("prompt", "completion"),
}
RECORD_FIELDS = (
    "messages",
    "conversations",
    "instruction",
    "input",
    "output",
    "prompt",
    "completion",
    "system",
)
"""Every field that `messages_of` looks at: of a wide table, no other column need be read."""


class NotAConversation(ValueError):  # noqa: N818  (says what is wrong, as a sentence without a subject)
    """A record that is no conversation of a known kind; the message says why, without the place."""


@dataclass(frozen=True)
class Message:
    """One turn.

    Attributes:
        role: Who speaks.
        content: What is said, exactly.
        context: Alpaca's `input`: what the instruction is to be applied to; empty for none.
    """

    role: Role
    content: str
    context: str = ""


def looks_like_a_conversation(fields: Mapping[str, Any]) -> bool:
    """Whether a record (or a table's schema) has the fields of a known kind."""
    return _kind_of(fields) is not None


def messages_of(record: Mapping[str, Any]) -> tuple[Message, ...]:
    """The messages of one record.

    Raises:
        NotAConversation: The record is of no known kind, or something in it is not as its kind
            demands; the message names the field.
    """
    kind = _kind_of(record)
    if kind == "chat messages":
        return turns_of(record["messages"], "messages", role_key="role", content_key="content")
    if kind == "ShareGPT":
        turns = record["conversations"]
        if isinstance(turns, list) and turns and isinstance(turns[0], dict) and "role" in turns[0]:
            return turns_of(turns, "conversations", role_key="role", content_key="content")
        return turns_of(turns, "conversations", role_key="from", content_key="value")
    if kind == "Alpaca":
        return (
            *_system(record),
            Message("user", _text(record, "instruction"), _optional_text(record, "input")),
            Message("assistant", _text(record, "output")),
        )
    if kind == "prompt and completion":
        return (
            *_system(record),
            Message("user", _text(record, "prompt")),
            Message("assistant", _text(record, "completion")),
        )
    known = "; ".join(f"{name} ({', '.join(fields)})" for name, fields in _KINDS.items())
    raise NotAConversation(
        f"is no conversation of a known kind: its fields are {_named(record)}; known are {known}"
    )


def _kind_of(fields: Mapping[str, Any]) -> str | None:
    for kind, required in _KINDS.items():
        if all(name in fields for name in required):
            return kind
    return None


def _system(record: Mapping[str, Any]) -> tuple[Message, ...]:
    text = _optional_text(record, "system")
    return (Message("system", text),) if text else ()


def turns_of(
    turns: Any, field: str, *, role_key: str = "role", content_key: str = "content"
) -> tuple[Message, ...]:
    """The messages of a list of turns.

    Args:
        turns: What a record has as `field`.
        field: For messages about what is wrong.
        role_key: Of a turn, who speaks.
        content_key: Of a turn, what is said.

    Raises:
        NotAConversation: It is no list of turns, or one of them is not as it should be.
    """
    if not isinstance(turns, list) or not turns:
        raise NotAConversation(f'has no list of turns in "{field}"')
    messages = []
    for number, turn in enumerate(turns):
        place = f"{field}[{number}]"
        if not isinstance(turn, dict):
            raise NotAConversation(f"{place} is not an object with {role_key} and {content_key}")
        name, content = turn.get(role_key), turn.get(content_key)
        role = _ROLES.get(name) if isinstance(name, str) else None
        if role is None:
            raise NotAConversation(
                f"{place} has the {role_key} {name!r}; known are {', '.join(_ROLES)}"
            )
        if not isinstance(content, str):
            raise NotAConversation(f'{place} has {_kind_word(content)} as "{content_key}"')
        if role == "system" and number:
            raise NotAConversation(f"{place} is the system's, which only the first turn may be")
        messages.append(Message(role, content))
    return tuple(messages)


def _text(record: Mapping[str, Any], field: str) -> str:
    value = record[field]
    if not isinstance(value, str):
        raise NotAConversation(f'has {_kind_word(value)} as "{field}"')
    return value


def _optional_text(record: Mapping[str, Any], field: str) -> str:
    return "" if record.get(field) is None else _text(record, field)


def _kind_word(value: Any) -> str:
    return "nothing" if value is None else f"no text but {type(value).__name__}"


def _named(record: Mapping[str, Any]) -> str:
    names = [str(name) for name in record]
    return ", ".join(names[:12]) + (" ..." if len(names) > 12 else "") if names else "none"
