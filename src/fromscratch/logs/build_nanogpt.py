"""build-nanogpt: its log.txt, and what it prints.

    250 val 5.9533
    250 hella 0.2438
    250 train 5.893372

and, one line a step, with validation, HellaSwag and samples printed before the step they belong to:

    validation loss: 5.9533
    HellaSwag accuracy: 2448/10042=0.2438
    rank 0 sample 0: Hello, I'm a language model, ...
    step   250 | loss: 5.893372 | lr 2.1007e-04 | norm: 0.8213 | dt: 338.87ms | tok/sec: 1547172.65

The format: github.com/karpathy/build-nanogpt, train_gpt2.py. Steps count from 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fromscratch.logs.items import (
    Fact,
    Item,
    Progress,
    Restart,
    Samples,
    ScoreRow,
    SessionStart,
    StepRow,
    Text,
    ValidationRow,
)
from fromscratch.logs.keys import VALIDATION
from fromscratch.logs.lines import Line, LineParser, lines
from fromscratch.logs.numerals import NUMBER, has_decimals

_SHORT = re.compile(rf"\s*(\d{{1,15}})\s+(train|val|hella)\s+({NUMBER})\s*", re.I)
_DECIMALS = {"train": 6, "val": 4, "hella": 4}
_STEP = re.compile(rf"(?:^|[\s\]:>])step\s+(\d{{1,15}})\s*\|\s*loss:?\s*({NUMBER})\s*\|(.*)", re.I)
_PAIR = re.compile(rf"(lr|norm|dt|tok/sec):?\s*({NUMBER})\s*(ms|s)?", re.I)
_VALIDATION = re.compile(rf"^validation loss:\s*({NUMBER})\s*$", re.I)
_HELLASWAG = re.compile(r"^HellaSwag accuracy:\s*(\d{1,9})/(\d{1,9})=(\d\.\d+)\s*$", re.I)
_SAMPLE = re.compile(r"^(rank \d+ sample \d+):\s?(.*)$")
_BATCH = re.compile(r"total desired batch size:\s*([\d,]{1,20})(?![\d,])")
_KNOWN = re.compile(
    r"=> calculated gradient accumulation|num (?:non-)?decayed parameter|using fused AdamW|"
    r"found \d+ shards|using device:|loaded \d+ tokens|1 epoch = "
)
_ALMOST = re.compile(
    r"^\s*\d+ (?:tr?a?i?n?|va?l?|he?l?l?a?)\b|\bstep\s+\d+\s*\||^HellaSwag|^valida"
)


class BuildNanoGpt:
    """The format."""

    name = "build-nanogpt"
    about = "250 val 5.9533, or step 250 | loss: 5.893372 | ..."
    first_step = 0
    restart: Restart = "another run"

    def matches(self, path: Path, most_bytes: int | None) -> int:
        found = (line.text for line in lines(path, most_bytes=most_bytes))
        return sum(bool(_SHORT.fullmatch(text) or _STEP.search(text)) for text in found)

    def read(self, path: Path, progress: Progress) -> Iterator[Item]:
        return _Parser().read(lines(path, progress))


class _Parser(LineParser):
    def __init__(self) -> None:
        self._last = -1
        self._before: list[tuple[str, dict[str, Any]]] = []  # printed, but their step is not yet
        self._texts: list[tuple[str, list[str]]] = []

    def line(self, line: Line) -> Iterator[Item]:
        text = line.text
        short, row = _SHORT.fullmatch(text), _STEP.search(text)
        validation, score = _VALIDATION.match(text), _HELLASWAG.match(text)
        if short and (line.whole or has_decimals(short[3], _DECIMALS[short[2].lower()])):
            yield from self._session(int(short[1]))
            yield _short(int(short[1]), short[2].lower(), float(short[3]))
        elif row and (line.whole or _complete(row[3])):
            step = int(row[1])
            yield from self._session(step)
            yield from self._printed_before(step)
            yield StepRow(step, _values(row))
        elif validation:
            self._before.append((VALIDATION, {"val_loss": float(validation[1])}))
        elif score:
            values = {"hellaswag_acc_norm": int(score[1]) / max(1, int(score[2]))}
            self._before.append(("score", values | {"hellaswag_n": int(score[2])}))
        elif sample := _SAMPLE.match(text):
            self._texts.append((sample[1], [sample[2]]))
        elif batch := _BATCH.search(text):
            yield Fact("tokens_per_step", int(batch[1].replace(",", "")))
        elif _ALMOST.search(text):
            yield line.unread("a record that is cut off or overwritten")
        elif self._texts:
            self._texts[-1][1].append(text)
        elif text.strip() and not _KNOWN.search(text):
            yield line.unread("no record", damaged=False)

    def end(self) -> Iterator[Item]:
        # A run that was killed while it evaluated: the step that it was about to make.
        yield from self._printed_before(self._last + 1)

    def _printed_before(self, step: int) -> Iterator[Item]:
        for name, values in self._before:
            yield (ScoreRow(step, values) if name == "score" else ValidationRow(step, name, values))
        if self._texts:
            # Their prompt is in the script only; what tells them apart is their number.
            texts = [Text(f"({name}) ", "\n".join(parts)) for name, parts in self._texts]
            yield Samples(step, tuple(texts))
        self._before, self._texts = [], []

    def _session(self, step: int) -> Iterator[Item]:
        if step < self._last:
            yield SessionStart(f"the steps went back from {self._last:,}")
        self._last = step


def _short(step: int, kind: str, value: float) -> Item:
    if kind == "train":
        return StepRow(step, {"loss": value})
    if kind == "val":
        return ValidationRow(step, VALIDATION, {"val_loss": value})
    return ScoreRow(step, {"hellaswag_acc_norm": value})


def _values(row: re.Match[str]) -> dict[str, Any]:
    values: dict[str, Any] = {"loss": float(row[2].replace(",", ""))}
    ours = {"lr": "lr", "norm": "grad_norm", "tok/sec": "tokens_per_s"}
    for name, said, unit in _PAIR.findall(row[3]):
        amount = float(said.replace(",", ""))
        if name.lower() == "dt":
            values["step_seconds"] = amount * (1e-3 if unit == "ms" else 1)
        else:
            values[ours[name.lower()]] = amount
    return values


def _complete(rest: str) -> bool:
    """Whether a line without an end has all of its last number."""
    return "tok/sec" not in rest or has_decimals(rest, 2)
