"""Evaluation sets as they are handed round, and what is wrong with some of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fromscratch.data.evaluation_items import load_items
from fromscratch.foundation.errors import UserError


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


class TestFormats:
    def test_hellaswag_is_the_context_with_its_right_ending(self, shared_data: Path) -> None:
        path = shared_data / "hellaswag" / "hellaswag_val_600.jsonl"
        items = load_items(path)
        assert len(items) == 600
        assert items[0].where == "line 1"
        assert items[0].text == (
            "Pole vault is a sport where you run with a pole and stop and swing your body. "
            "a few women are in the gym practicing to do this pole vault, trying to do their best."
        )

    def test_a_label_that_is_held_back_leaves_the_context(self, tmp_path: Path) -> None:
        line = json.dumps({"ctx": "A man", "endings": ["sits.", "runs."], "label": ""})
        labelled = json.dumps({"ctx": "A man", "endings": ["sits.", "runs."], "label": "1"})
        items = load_items(written(tmp_path, "h.jsonl", f"{line}\n\n{labelled}\n"))
        assert [(i.text.strip(), i.where) for i in items] == [
            ("A man", "line 1"),
            ("A man runs.", "line 3"),
        ]

    def test_the_usual_parts_of_the_1_100_instructions(self, shared_data: Path) -> None:
        path = shared_data / "instructions" / "instruction_data_1100.json"
        parts = {part: load_items(path, part=part) for part in ("train", "test", "val")}  # type: ignore[arg-type]
        assert {part: len(items) for part, items in parts.items()} == {
            "train": 935,
            "test": 110,
            "val": 55,
        }
        assert [i for items in parts.values() for i in items] == load_items(path)
        entry = json.loads(path.read_text())[935]
        assert parts["test"][0].where == "item 935"
        for key in ("instruction", "input", "output"):
            assert entry[key] in parts["test"][0].text

    @pytest.mark.parametrize(
        ("name", "content", "expected"),
        [
            ("a.jsonl", '{"question": "Q", "answer": "A", "id": 3}', [("Q\nA", "line 1")]),
            ("a.json", '{"data": [{"prompt": "P"}], "version": 1}', [("P", "item 0")]),
            ("a.json", '{"text": "one"}\n{"text": "two"}', [("one", "line 1"), ("two", "line 2")]),
            ("a.json", '["one", "two"]', [("one", "item 0"), ("two", "item 1")]),
            ("a", '[{"messages": [{"content": "hi"}, {"content": "yo"}]}]', [("hi\nyo", "item 0")]),
            ("a.txt", "one\ntwo\n", [("one", "line 1"), ("two", "line 2")]),
            ("a.txt", "one\ntwo\n\n\nthree", [("one\ntwo", "line 1"), ("three", "line 5")]),
            ("a.txt", "\ufeffone\r\n\r\ntwo\r\n", [("one", "line 1"), ("two", "line 3")]),
        ],
    )
    def test_other_files(
        self, tmp_path: Path, name: str, content: str, expected: list[tuple[str, str]]
    ) -> None:
        items = load_items(written(tmp_path, name, content))
        assert [(i.text, i.where) for i in items] == expected


@pytest.mark.parametrize(
    ("name", "content", "fragments"),
    [
        ("x.jsonl", '{"text": "a"}\n{"text": ', ["line 2 is not JSON"]),
        ("x.json", "[1, 2", ["is not JSON"]),
        ("x.json", "3", ["holds a JSON int"]),
        ("x.jsonl", '{"text": "a"}\n{"id": 1}', ["line 2 has no text", "it has: id", "question"]),
        ("x.json", "[7]", ["item 0 has no text", "it has: int"]),
        ("x.txt", b"abc\xff", ["not UTF-8 at byte 3"]),
        ("x.txt", "\n\n", ["has no items"]),
        ("x.jsonl", "", ["has no items"]),
    ],
)
def test_what_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: str | bytes, fragments: list[str]
) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(UserError) as caught:
        load_items(path)
    for fragment in (str(path), *fragments):
        assert fragment in str(caught.value)


def test_a_part_may_be_empty(tmp_path: Path) -> None:
    path = written(tmp_path, "x.txt", "one\ntwo")
    with pytest.raises(UserError, match="no items in its test part"):
        load_items(path, part="test")
