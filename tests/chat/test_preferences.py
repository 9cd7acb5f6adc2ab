"""Every published form of preference data becomes the same prompt and answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.chat.conversations import Message, NotAConversation
from fromscratch.chat.preferences import (
    PREFERENCE_FIELDS,
    looks_like_a_preference,
    preference_of,
)


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


GOOD, BAD = [turn("assistant", "Hello.")], [turn("assistant", "What?")]

SAME: dict[str, dict[str, Any]] = {
    "Alpaca": {"instruction": "Hi", "input": "", "output": "x", "chosen": "Hello."},
    "prompt": {"prompt": "Hi", "chosen": "Hello."},
    "Intel/orca_dpo_pairs": {"system": "", "question": "Hi", "chosen": "Hello."},
    "TRL, with the prompt apart": {"prompt": [turn("user", "Hi")], "chosen": GOOD},
    "a prompt as text, answers as messages": {"prompt": "Hi", "chosen": GOOD},
    "ultrafeedback_binarized": {
        "prompt": "Hi",
        "prompt_id": "6d",
        "chosen": [turn("user", "Hi"), *GOOD],
        "messages": [turn("user", "Hi"), *GOOD],
        "score_chosen": 8.0,
    },
    "hh-rlhf": {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello."},
}
SAME["Alpaca"]["rejected"] = SAME["prompt"]["rejected"] = "What?"
SAME["Intel/orca_dpo_pairs"]["rejected"] = "What?"
SAME["TRL, with the prompt apart"]["rejected"] = BAD
SAME["a prompt as text, answers as messages"]["rejected"] = BAD
SAME["ultrafeedback_binarized"]["rejected"] = [turn("user", "Hi"), *BAD]
SAME["hh-rlhf"]["rejected"] = "\n\nHuman: Hi\n\nAssistant: What?"


@pytest.mark.parametrize("kind", SAME)
def test_every_kind_gives_the_same(kind: str) -> None:
    record = SAME[kind]
    assert looks_like_a_preference(record)
    only = {name: value for name, value in record.items() if name in PREFERENCE_FIELDS}
    for fields in (record, only):  # a table may be read by these columns alone
        preference = preference_of(fields)
        assert preference.prompt == (Message("user", "Hi"),)
        assert preference.chosen == (Message("assistant", "Hello."),)
        assert preference.rejected == (Message("assistant", "What?"),)
        assert not preference.is_tie


def test_system_and_input_stay_apart() -> None:
    record = {"system": "Be brief.", "instruction": "Add.", "input": "1 1"}
    preference = preference_of(record | {"chosen": "2", "rejected": "3"})
    assert preference.prompt == (
        Message("system", "Be brief."),
        Message("user", "Add.", context="1 1"),
    )


@given(
    shared=st.lists(st.text(max_size=9), min_size=0, max_size=4),
    answers=st.tuples(st.text(max_size=9), st.text(max_size=9)),
)
def test_conversations_part_at_their_last_answer(
    shared: list[str], answers: tuple[str, str]
) -> None:
    """Whatever was said before, alike or not, belongs to the prompt if both sides have it."""
    begin = [turn(role, text) for text in shared for role in ("user", "assistant")] + [
        turn("user", "?")
    ]
    sides = [[*begin, turn("assistant", answer)] for answer in answers]
    preference = preference_of({"chosen": sides[0], "rejected": sides[1]})
    assert [(m.role, m.content) for m in preference.prompt] == [
        (t["role"], t["content"]) for t in begin
    ]
    assert (preference.chosen[0].content, preference.rejected[0].content) == answers
    assert preference.is_tie == (answers[0] == answers[1])


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no sides": ({"prompt": "Hi", "completion": "Ho"}, "its fields are prompt, completion"),
    "no prompt": ({"chosen": "a", "rejected": "b"}, 'has text as "chosen" and no prompt'),
    "a number": ({"prompt": "Hi", "chosen": "a", "rejected": 2}, "but int"),
    "nothing": ({"prompt": "Hi", "chosen": None, "rejected": "b"}, 'has nothing as "chosen"'),
    "a prompt of another kind": ({"prompt": 3, "chosen": "a", "rejected": "b"}, 'int as "prompt"'),
    "a strange role": (
        {"prompt": "Hi", "chosen": [turn("tool", "x")], "rejected": BAD},
        "chosen[0] has the role 'tool'",
    ),
    "differing questions": (
        {"chosen": [turn("user", "a"), *GOOD], "rejected": [turn("user", "b"), *BAD]},
        "does not begin with a turn of the assistant",
    ),
    "one goes on": (
        {
            "chosen": [turn("user", "a"), *GOOD],
            "rejected": [turn("user", "a"), *GOOD, turn("user", "b"), *BAD],
        },
        'a "chosen" that ends where the other goes on',
    ),
    "a question at the end": (
        {"prompt": "Hi", "chosen": GOOD, "rejected": [*BAD, turn("user", "b")]},
        "does not end with a turn of the assistant",
    ),
    "answers to nothing": ({"chosen": GOOD, "rejected": BAD}, "has no turn of the user"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_none_says_why(name: str) -> None:
    record, expected = WRONG[name]
    with pytest.raises(NotAConversation) as raised:
        preference_of(record)
    assert expected in str(raised.value)


def test_the_real_file(shared_data: Path) -> None:
    text = (shared_data / "preferences/instruction_data_with_preference.json").read_text("utf-8")
    preferences = [preference_of(record) for record in json.loads(text)]
    assert len(preferences) == 1100
    assert sum(preference.is_tie for preference in preferences) == 6
