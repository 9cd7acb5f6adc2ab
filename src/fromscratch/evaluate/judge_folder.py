"""The folder of a judgement: settings, answers, scores; and what makes it go on after a kill.

An answer and a reply are each one line, appended and forced to the disk as soon as they are there.
`settings.json` says what they belong to: weights, test file, how answers were made, which judge and
prompt. Other settings are refused (they need another folder), so nothing is ever mixed. Of several
lines about the same, the last one counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fromscratch.evaluate.judge_address import JudgeAddress
from fromscratch.evaluate.judge_prompt import PROMPT, PROMPT_SHA256
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import (
    append_json_line,
    dump_json,
    read_json,
    read_json_lines,
    write_atomically,
)
from fromscratch.foundation.names import (
    JUDGE_ANSWERS,
    JUDGE_LOCK,
    JUDGE_RESULT,
    JUDGE_SCORES,
    JUDGE_SETTINGS,
)

_FORMAT = 1


@dataclass(frozen=True)
class AnswerSettings:
    """How models answer, as in sampling; and in which chat template, None: each in its own."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 50
    top_p: float = 1.0
    seed: int = 0
    template: str | None = None


@dataclass(frozen=True)
class JudgeSettings:
    """All that changes an answer or a score.

    Attributes:
        test_sha256: Of the test file's bytes.
        models: sha256 of each model's weights, sorted.
        answers: How they are made; its seed is also that of the order in which they are shown.
        address: Who judges.
    """

    test_sha256: str
    models: tuple[str, ...]
    answers: AnswerSettings
    address: JudgeAddress

    def flat(self) -> dict[str, Any]:
        """The settings by the name that a sentence would call them."""
        return {
            "format": _FORMAT,
            "test file": self.test_sha256,
            "models": list(self.models),
            **{name.replace("_", "-"): value for name, value in asdict(self.answers).items()},
            "judge": self.address.url,
            "judge's model": self.address.model,
            "prompt": PROMPT_SHA256,
        }

    @property
    def sha256(self) -> str:
        return hashlib.sha256(dump_json(self.flat()).encode()).hexdigest()


@dataclass(frozen=True)
class Answer:
    """What a model answered.

    Attributes:
        text: Without white space around it.
        tokens: New ones.
        ended: `end` at end-of-text, `turn` where it began another turn, `limit` cut off.
    """

    text: str
    tokens: int
    ended: str


@dataclass(frozen=True)
class ScoredItem:
    """What the judge said about an item.

    Attributes:
        question: sha256 of what it was asked.
        order: Who was shown, in order: sha256 of a model's weights, or the reference.
        scores: By the same keys, 0 to 100.
        unparsed: Of the others, why there is none.
        reply: What the judge wrote.
        refusal: Why the endpoint would not answer; then there is no reply.
        usage: Tokens as the endpoint counted them.
        options: Options of the request that it accepted.
    """

    question: str
    order: list[str]
    scores: dict[str, float]
    unparsed: dict[str, str]
    reply: str
    refusal: str | None = None
    usage: dict[str, int] = field(default_factory=dict)
    options: list[str] = field(default_factory=list)


class JudgeFolder:
    """An opened folder of a judgement.

    Args:
        root: It.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.result = root / JUDGE_RESULT

    def answers(self) -> dict[tuple[str, int], Answer]:
        """By the sha256 of the weights and the item's number."""
        found = {}
        for row in read_json_lines(self.root / JUDGE_ANSWERS):
            key = (row["model"], row["item"])
            found[key] = Answer(row["answer"], row["tokens"], row["ended"])
        return found

    def add_answer(self, model: str, item: int, answer: Answer) -> None:
        """Keeps an answer."""
        row = {
            "item": item,
            "model": model,
            "answer": answer.text,
            "tokens": answer.tokens,
            "ended": answer.ended,
        }
        append_json_line(self.root / JUDGE_ANSWERS, row)

    def scores(self) -> dict[int, ScoredItem]:
        """By the item's number."""
        rows = read_json_lines(self.root / JUDGE_SCORES)
        return {row.pop("item"): ScoredItem(**row) for row in rows}

    def add_scores(self, item: int, scored: ScoredItem) -> None:
        """Keeps a reply."""
        append_json_line(self.root / JUDGE_SCORES, {"item": item, **asdict(scored)})


@contextmanager
def opened(
    root: Path, settings: JudgeSettings, names: Mapping[str, str], test: str
) -> Iterator[JudgeFolder]:
    """Opens a folder, new or begun with the same settings, for this process alone.

    Args:
        root: Made if absent.
        settings: What is judged and how.
        names: Of the models, by the sha256 of their weights: for people.
        test: The test file's name: for people.

    Raises:
        UserError: What is there is something else, was made with other settings, or is in use.
    """
    path = root / JUDGE_SETTINGS
    if root.is_dir() and any(root.iterdir()) and not path.is_file():
        only_lock = {entry.name for entry in root.iterdir()} == {JUDGE_LOCK}
        if not only_lock:
            raise UserError(
                f"{root} has files in it that no judgement made.",
                fix="Name another folder with --out.",
            )
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / JUDGE_LOCK)
    try:
        with lock.acquire(timeout=0):
            wanted = settings.flat()
            if path.is_file():
                _compare(root, read_json(path), wanted, names)
            else:
                content = {"settings": wanted, "test": test, "names": dict(names)}
                content["prompt"] = PROMPT
                write_atomically(path, dump_json(content, indent=2) + "\n")
            yield JudgeFolder(root)
    except Timeout:
        raise UserError(
            f"Another process works in {root}.", fix="Wait for it, or name another --out."
        ) from None


def _compare(root: Path, there: Any, wanted: dict[str, Any], names: Mapping[str, str]) -> None:
    """Refuses a folder that was made with other settings, and says which."""
    settings = there.get("settings") if isinstance(there, dict) else None
    if not isinstance(settings, dict):
        raise UserError(f"{root / JUDGE_SETTINGS} is not a judgement's settings.")
    called = {**(there.get("names") or {}), **names}
    said = [
        f"{name} was {_said(settings.get(name), called)} and is {_said(value, called)} now"
        for name, value in wanted.items()
        if settings.get(name) != value
    ]
    if said:
        raise UserError(
            f"{root} holds a judgement made with other settings: {'; '.join(said)}.",
            fix="Name another folder with --out, or say what was said then: answers and scores "
            "of different settings are not mixed.",
        )


def _said(value: Any, names: Mapping[str, str]) -> str:
    if isinstance(value, list):
        return " + ".join(_said(v, names) for v in value)
    text = str(value)
    if len(text) == 64:  # a sha256
        return f"{names[text]} ({text[:8]})" if text in names else text[:8]
    return text
