"""The bundle of CORE's tasks as it is handed round (nanochat's `eval_bundle`), read and checked.

In: a folder with `core.yaml` (the tasks), `eval_meta_data.csv` (what guessing gives) and
`eval_data/` (their questions as JSON lines). Out: tasks whose questions all have one form:
contexts, continuations, and which of them is right.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.names import CORE_BASELINES, CORE_DATA, CORE_TASKS

TaskType = Literal["multiple_choice", "schema", "language_modeling"]
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "multiple_choice": ("query", "choices", "gold"),
    "schema": ("context_options", "continuation", "gold"),
    "language_modeling": ("context", "continuation"),
}


@dataclass(frozen=True)
class CoreItem:
    """A question: one context and several continuations, or the other way round, or one of each.

    Attributes:
        contexts: What stands first.
        continuations: What follows.
        gold: Number of the right context or continuation.
    """

    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    gold: int = 0


@dataclass(frozen=True)
class CoreTask:
    """A task.

    Attributes:
        label: Its name.
        type: How its answers are found.
        shots: Examples before each question.
        delimiter: Between context and continuation.
        chance: The accuracy of guessing, 0 to 1.
        items: Its questions, in file order.
        sha256: Of its file.
    """

    label: str
    type: TaskType
    shots: int
    delimiter: str
    chance: float
    items: Sequence[CoreItem]
    sha256: str


@dataclass(frozen=True)
class CoreBundle:
    """The tasks, and the sha256 over those of their files."""

    tasks: Sequence[CoreTask]
    sha256: str


def read_bundle(folder: Path) -> CoreBundle:
    """Reads a bundle, every question of it.

    Raises:
        UserError: A file is missing or is not what it should be; says which, and where.
    """
    listed = _tasks(folder / CORE_TASKS)
    chances = _chances(folder / CORE_BASELINES)
    tasks = [_task(folder, entry, chances) for entry in listed]
    digest = hashlib.sha256("".join(f"{t.label} {t.sha256}\n" for t in tasks).encode())
    return CoreBundle(tasks, digest.hexdigest())


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UserError(
            f"{path} cannot be read ({why}).",
            fix=f"--core names the folder eval_bundle, with {CORE_TASKS}, {CORE_BASELINES} and "
            f"{CORE_DATA}/ in it.",
        ) from None


def _tasks(path: Path) -> list[dict[str, Any]]:
    try:
        import yaml
    except ImportError:
        raise UserError(
            "CORE's list of tasks is YAML, and no package that reads it is installed.",
            fix="pip install 'fromscratch[eval]'",
        ) from None
    try:
        content = yaml.safe_load(_text(path))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML ({error}).") from None
    listed = content.get("icl_tasks") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not listed:
        raise UserError(f'{path} has no list "icl_tasks".')
    for entry in listed:
        needed = ("label", "icl_task_type", "dataset_uri", "num_fewshot")
        lacking = [key for key in needed if not isinstance(entry, dict) or key not in entry]
        if lacking:
            raise UserError(f"{path}: a task lacks {', '.join(lacking)}.")
    return cast(list[dict[str, Any]], listed)


def _chances(path: Path) -> dict[str, float]:
    """By task, what guessing gives, 0 to 1."""
    rows = csv.DictReader(_text(path).splitlines())
    try:
        return {row["Eval Task"]: 0.01 * float(row["Random baseline"]) for row in rows}
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(
            f'{path} line {rows.line_num}: it should have "Eval Task" and a number as "Random '
            f'baseline" ({error}).'
        ) from None


def _task(folder: Path, entry: Mapping[str, Any], chances: Mapping[str, float]) -> CoreTask:
    label, kind = str(entry["label"]), entry["icl_task_type"]
    if kind not in _FIELDS:
        raise UserError(
            f'{folder / CORE_TASKS}: {label} has the type "{kind}", which is none of '
            f"{', '.join(_FIELDS)}."
        )
    if label not in chances:
        raise UserError(f"{folder / CORE_BASELINES} has no random baseline for {label}.")
    if not chances[label] < 1:
        raise UserError(f"{folder / CORE_BASELINES}: guessing cannot be perfect in {label}.")
    shots = entry["num_fewshot"]
    shots = shots[0] if isinstance(shots, list) and shots else shots
    if not isinstance(shots, int) or shots < 0:
        raise UserError(f"{folder / CORE_TASKS}: num_fewshot of {label} is not a number.")
    path = folder / CORE_DATA / str(entry["dataset_uri"])
    content = _text(path)
    items = [
        _item(line, kind, f"{path} line {number}")
        for number, line in enumerate(content.split("\n"), start=1)
        if line.strip()
    ]
    if not items:
        raise UserError(f"{path} has no questions.")
    return CoreTask(
        label=label,
        type=kind,
        shots=shots,
        delimiter=str(entry.get("continuation_delimiter", " ")),
        chance=chances[label],
        items=items,
        sha256=hashlib.sha256(content.encode()).hexdigest(),
    )


def _item(line: str, kind: TaskType, where: str) -> CoreItem:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where} is not JSON ({error}).") from None
    lacking = [key for key in _FIELDS[kind] if not isinstance(row, dict) or key not in row]
    if lacking:
        raise UserError(f"{where} lacks {', '.join(lacking)}, which a {kind} question has.")
    if kind == "language_modeling":
        item = CoreItem((str(row["context"]),), (str(row["continuation"]),))
        many: Sequence[str] = item.continuations
    elif kind == "schema":
        many = tuple(map(str, row["context_options"]))
        item = CoreItem(tuple(many), (str(row["continuation"]),), row["gold"])
    else:
        many = tuple(map(str, row["choices"]))
        item = CoreItem((str(row["query"]),), tuple(many), row["gold"])
    if not isinstance(item.gold, int) or not 0 <= item.gold < len(many):
        raise UserError(f"{where}: gold = {item.gold!r} is none of its {len(many)} answers.")
    return item
