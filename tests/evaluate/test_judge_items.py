"""Instruction files as they are handed round: what is asked, and what the reference is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fromscratch.chat.conversations import Message
from fromscratch.evaluate.judge_items import fingerprint, load_judge_items
from fromscratch.foundation.errors import UserError


def written(folder: Path, name: str, *rows: object) -> Path:
    path = folder / name
    text = "\n".join(map(json.dumps, rows)) if name.endswith(".jsonl") else json.dumps(rows)
    path.write_text(text)
    return path


def test_the_usual_test_part_of_the_1_100_instructions(shared_data: Path):
    path = shared_data / "instructions" / "instruction_data_1100.json"
    items = load_judge_items(path, part="test")
    assert [item.number for item in items] == list(range(935, 1045))
    entry = json.loads(path.read_text())[935]
    assert items[0].row() == {"item": 935, **entry}
    assert list(items[0].texts()) == [
        ("instruction", entry["instruction"]),
        ("input", entry["input"]),
    ]
    assert load_judge_items(path, part="test", limit=3) == items[:3]
    assert fingerprint(items) != fingerprint(items[:3])


def test_alpaca_in_lines_with_and_without_answers(tmp_path: Path):
    rows = [
        {"instruction": "A?", "input": "x", "output": "B"},
        {"instruction": "C?"},
        {"instruction": "D?", "output": " \n"},
        {"prompt": "E?", "completion": "F"},
    ]
    items = load_judge_items(written(tmp_path, "a.jsonl", *rows))
    assert [item.reference for item in items] == ["B", None, None, "F"]
    assert items[0].messages == (Message("user", "A?", context="x"),)


def test_the_last_answer_of_a_chat_is_the_reference(tmp_path: Path):
    turns = [("system", "S"), ("user", "A?"), ("assistant", "B"), ("user", "C?")]
    messages = [{"role": role, "content": text} for role, text in turns]
    end = {"role": "assistant", "content": "D"}
    path = written(tmp_path, "a.json", {"messages": [*messages, end]}, {"messages": messages})
    with_reference, without = load_judge_items(path)
    assert with_reference.messages == without.messages
    assert (with_reference.reference, without.reference) == ("D", None)
    assert [name for name, _ in without.texts()] == [
        "system message", "instruction", "earlier answer", "instruction",
    ]  # fmt: skip
    assert without.row()["messages"][0] == {"role": "system", "content": "S"}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("words", "is no record but str"),
        ({"text": "words"}, "is no conversation of a known kind"),
        ({"instruction": 3, "output": "x"}, 'no text but int as "instruction"'),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "asks nothing"),
    ],
)
def test_what_asks_nothing_is_named(tmp_path: Path, row: object, problem: str):
    path = written(tmp_path, "a.jsonl", {"instruction": "fine"}, row)
    with pytest.raises(UserError, match=f"a.jsonl line 2.*{problem}"):
        load_judge_items(path)
