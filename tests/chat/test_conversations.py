"""Four kinds of records become the same messages; what is none of them says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fromscratch.chat.conversations import (
    RECORD_FIELDS,
    Message,
    NotAConversation,
    looks_like_a_conversation,
    messages_of,
)

USER, ASSISTANT = Message("user", "Hi"), Message("assistant", "Hello.")

SAME: dict[str, dict[str, Any]] = {
    "chat messages": {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
        ]
    },
    "ShareGPT": {
        "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]
    },
    "ShareGPT's field with chat's keys": {
        "conversations": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
        ]
    },
    "Alpaca": {"instruction": "Hi", "input": "", "output": "Hello.", "text": "Below is ..."},
    "Alpaca without input": {"instruction": "Hi", "input": None, "output": "Hello."},
    "prompt and completion": {"prompt": "Hi", "completion": "Hello."},
}


@pytest.mark.parametrize("kind", SAME)
def test_every_kind_gives_the_same_messages(kind: str) -> None:
    assert looks_like_a_conversation(SAME[kind])
    assert messages_of(SAME[kind]) == (USER, ASSISTANT)
    # A table may be read by these columns alone.
    only = {name: value for name, value in SAME[kind].items() if name in RECORD_FIELDS}
    assert messages_of(only) == (USER, ASSISTANT)


def test_an_input_stays_apart_from_its_instruction() -> None:
    record = {"instruction": "Add.", "input": "1 1", "output": "2", "system": "Be brief."}
    assert messages_of(record) == (
        Message("system", "Be brief."),
        Message("user", "Add.", context="1 1"),
        Message("assistant", "2"),
    )


def test_real_records_are_all_understood(shared_data: Path) -> None:
    files = sorted((shared_data / "instructions").glob("*.json"))
    assert len(files) >= 3
    for file in files:
        for record in json.loads(file.read_text()):
            user, assistant = messages_of(record)
            assert (user.content, user.context) == (record["instruction"], record["input"])
            assert assistant.content == record["output"]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "another kind": ({"question": "?", "answer": "!"}, "its fields are question, answer; known"),
    "no fields": ({}, "its fields are none"),
    "no turns": ({"messages": []}, 'no list of turns in "messages"'),
    "no list": ({"conversations": "Hi"}, 'no list of turns in "conversations"'),
    "no object": ({"messages": ["Hi"]}, r"messages\[0\] is not an object with role and content"),
    "an unknown role": (
        {"messages": [{"role": "tool", "content": "x"}]},
        r"messages\[0\] has the role 'tool'; known are system",
    ),
    "no role": ({"messages": [{"content": "x"}]}, "has the role None"),
    "a role that is no text": ({"messages": [{"role": ["user"], "content": "x"}]}, "has the role"),
    "no content": (
        {"messages": [{"role": "user", "content": None}]},
        r'messages\[0\] has nothing as "content"',
    ),
    "content in parts": (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        'has no text but list as "content"',
    ),
    "a late system": (
        {"conversations": [{"from": "human", "value": "x"}, {"from": "system", "value": "y"}]},
        r"conversations\[1\] is the system's",
    ),
    "an answer that is no text": ({"instruction": "x", "output": 3}, 'no text but int as "output"'),
    "no answer": ({"instruction": "x", "output": None}, 'has nothing as "output"'),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_is_wrong_is_named(bad: str) -> None:
    record, message = BAD[bad]
    with pytest.raises(NotAConversation, match=message):
        messages_of(record)
