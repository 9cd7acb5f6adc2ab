"""Hugging Face's trainer_state.json: the `log_history` of a Trainer.

Each checkpoint holds the history of its run from the start, so of several files the one that went
furthest says it all. `loss` is the mean since the row before. The last row of a finished run, with
`train_loss`, is a mean over the whole run and no step; it is kept as a fact.

The format: transformers, trainer_callback.py (TrainerState) and trainer.py (`log`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fromscratch.logs.items import Event, Fact, Item, Progress, Restart, SessionStart, Unread
from fromscratch.logs.keys import rows_of
from fromscratch.logs.lines import looks_binary
from fromscratch.logs.numerals import step_number

_HISTORY = '"log_history"'
_FACTS = ("num_train_epochs", "train_batch_size", "total_flos", "num_input_tokens_seen")
_SUMMARY = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss")


class TrainerState:
    """The format."""

    name = "trainer-state"
    about = "Hugging Face's trainer_state.json"
    first_step = 1
    restart: Restart = "the same run"

    def matches(self, path: Path, most_bytes: int | None) -> int:
        if looks_binary(path):
            return 0
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            head = file.read(-1 if most_bytes is None else most_bytes)
        return head.count('"step"') or 1 if head.startswith("{") and _HISTORY in head else 0

    def read(self, path: Path, progress: Progress) -> Iterator[Item]:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        progress(path.stat().st_size)
        try:
            state: dict[str, Any] = json.loads(text)
            rows = state.get("log_history") or []
        except (ValueError, RecursionError) as error:
            state, rows = {}, list(_rescued(text))
            line = text.count("\n") + 1
            yield Unread(line, f"the file is cut off or damaged ({error})", text[-80:], True)
        planned = step_number(state.get("max_steps"))
        if planned:
            yield Fact("planned_steps", planned)
        for name in _FACTS:
            if state.get(name):
                yield Fact(name, state[name])
        yield SessionStart()
        for row in rows if isinstance(rows, list) else []:
            yield from _items(row)
        best, folder = (
            step_number(state.get("best_global_step")),
            state.get("best_model_checkpoint"),
        )
        if best is not None and isinstance(folder, str):
            yield Event("best", best, "", None, {"path": folder})
        if planned and step_number(state.get("global_step")) == planned:
            yield Event("finished", planned, "all planned steps were made")


def _items(row: object) -> Iterator[Item]:
    if not isinstance(row, dict) or step_number(row.get("step")) is None:
        yield Unread(None, "a row of log_history without a step", str(row)[:120], True)
        return
    if "train_runtime" in row:
        for name in _SUMMARY:
            if name in row:
                yield Fact(name, row[name])
        return
    yield from rows_of(row)


def _rescued(text: str) -> Iterator[object]:
    """The whole rows of a history that breaks off."""
    decoder = json.JSONDecoder()
    place = text.find("[", text.find(_HISTORY)) + 1
    while place > 0:
        while text[place : place + 1].isspace() or text[place : place + 1] == ",":
            place += 1
        try:
            row, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            return
        yield row
