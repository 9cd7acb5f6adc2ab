"""The items of an evaluation set, as texts to look for in training data.

In: a file as evaluation sets are handed round: HellaSwag's JSON lines, a JSON list in Alpaca's
fields, any JSON or JSON lines with named text fields or chat messages, or plain text. Out: one text
per item, with the position in the file that a person would look up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fromscratch.foundation.errors import UserError

Part = Literal["all", "train", "test", "val"]
# Fields that hold an item's text, in the order in which they are joined.
TEXT_FIELDS = (
    "text", "instruction", "input", "context", "passage", "premise", "hypothesis", "sentence",
    "article", "document", "problem", "prompt", "question", "query", "output", "answer", "solution",
    "completion", "response", "chosen", "canonical_solution", "summary",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One item as it stands in its file.

    Attributes:
        value: JSON's value; of a text file the paragraph or line.
        where: Its place for people, as `line 12` or `item 12`.
        number: Its place among the file's items, from 0.
    """

    value: Any
    where: str
    number: int


@dataclass(frozen=True)
class Item:
    """One item: its text, and where it stands, as `line 12` or `item 12`."""

    text: str
    where: str


def load_items(path: Path, *, part: Part = "all") -> list[Item]:
    """The texts of an evaluation set; arguments and errors as for `load_entries`.

    Raises:
        UserError: Besides, an item has no text.
    """
    return [Item(_text_of(e.value, path, e.where), e.where) for e in load_entries(path, part=part)]


def load_entries(path: Path, *, part: Part = "all") -> list[Entry]:
    """Reads an evaluation set.

    Args:
        path: `.json` is one JSON value, `.jsonl` one a line; anything else is taken as the JSON
            that it begins like, or as text: paragraphs, or lines where no line is blank.
        part: Of a file that is split in file order into 85% training, 10% test and the rest
            validation, as the 1,100 instructions of Raschka (2024) are.

    Raises:
        UserError: The file is missing, not UTF-8, not the JSON it looks like, or has no items.
    """
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 at byte {error.start}.",
            fix="Give the evaluation set as JSON, JSON lines or text.",
        ) from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}).",
            fix="Name the file of an evaluation set.",
        ) from None
    read = _reader(path, content)(path, content)
    entries = _part([Entry(value, where, n) for n, (value, where) in enumerate(read)], part)
    if not entries:
        raise UserError(
            f"{path} has no items{'' if part == 'all' else f' in its {part} part'}.",
            fix="Give an evaluation set with at least one text.",
        )
    return entries


def _reader(path: Path, content: str) -> Callable[[Path, str], Iterator[tuple[Any, str]]]:
    start = content.lstrip()[:1]
    if path.suffix == ".jsonl":
        return _json_lines
    if path.suffix == ".json" or start in ("{", "["):
        # JSON lines are often called .json, too.
        first_line = content.lstrip().partition("\n")[0]
        return _json_lines if not _is_json(content) and _is_json(first_line) else _json
    return _text


def _part(items: list[Entry], part: Part) -> list[Entry]:
    train, test = int(len(items) * 0.85), int(len(items) * 0.1)
    bounds = {
        "all": (0, len(items)),
        "train": (0, train),
        "test": (train, train + test),
        "val": (train + test, len(items)),
    }
    return items[slice(*bounds[part])]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _json_lines(path: Path, content: str) -> Iterator[tuple[Any, str]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            where = f"line {number}"
            try:
                value = json.loads(line)
            except ValueError as error:
                raise UserError(
                    f"{path} {where} is not JSON ({error}).", fix="Mend or remove the line."
                ) from None
            yield value, where


def _json(path: Path, content: str) -> Iterator[tuple[Any, str]]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}).") from None
    if isinstance(value, dict):  # {"version": ..., "data": [...]}: the list is what is meant
        lists = [v for v in value.values() if isinstance(v, list) and v]
        value = lists[0] if len(lists) == 1 else [value]
    if not isinstance(value, list):
        raise UserError(
            f"{path} holds a JSON {type(value).__name__}, not a list of items.",
            fix="Give a list of objects with text fields.",
        )
    for number, entry in enumerate(value):
        yield entry, f"item {number}"


def _text(path: Path, content: str) -> Iterator[tuple[Any, str]]:
    lines = content.replace("\r\n", "\n").split("\n")
    paragraphs = "" in [line.strip() for line in lines[:-1]]
    held: list[str] = []
    for number, line in enumerate([*lines, ""], start=1):
        if line.strip():
            held.append(line)
        if held and (not paragraphs or not line.strip()):
            first = number - len(held) + (1 if line.strip() else 0)
            yield "\n".join(held), f"line {first}"
            held = []


def _text_of(value: Any, path: Path, where: str) -> str:
    """The text of one item.

    HellaSwag's is the context with the right ending: that is what a model must not have read.
    """
    if isinstance(value, str) and value.strip():
        return value
    texts: list[str] = []
    if isinstance(value, dict):
        if isinstance(value.get("ctx"), str) and isinstance(value.get("endings"), list):
            return f"{value['ctx']} {_right_ending(value)}"
        texts += [v for f in TEXT_FIELDS if isinstance(v := value.get(f), str) and v.strip()]
        turns = value.get("messages") or value.get("conversations") or []
        for turn in turns if isinstance(turns, list) else []:
            said = turn.get("content", turn.get("value")) if isinstance(turn, dict) else None
            texts += [said] if isinstance(said, str) and said.strip() else []
    if not texts:
        fields = ", ".join(sorted(value)) if isinstance(value, dict) else type(value).__name__
        raise UserError(
            f"{path} {where} has no text that could be looked for (it has: {fields}).",
            fix=f"Name its fields like one of: {', '.join(TEXT_FIELDS[:4])}, ctx and endings, "
            "question, answer, messages.",
        )
    return "\n".join(texts)


def _right_ending(value: dict[str, Any]) -> str:
    """The ending that the label names; nothing where the label is held back, as in test sets."""
    label = value.get("label", "")
    endings: list[Any] = value["endings"]
    if str(label).isdecimal() and int(label) < len(endings):
        return str(endings[int(label)])
    return ""
