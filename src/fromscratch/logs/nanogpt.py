"""nanoGPT's console output, as `python train.py | tee log` keeps it.

    tokens per iteration will be: 491,520
    step 250: train loss 3.9432, val loss 3.9713
    iter 250: loss 3.9655, time 30.12ms, mfu 12.34%

The format: github.com/karpathy/nanoGPT, train.py. Iterations count from 0: `iter N` is the update
after N others, `step N` an estimate before it. Both losses of `step` are means over random batches
in evaluation mode, so that of the training split is a validation of a set `train`. An mfu of
-100% stands for one that is not known yet. Further `, name value` pairs, as many forks print them,
are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fromscratch.logs.items import (
    Event,
    Fact,
    Item,
    Progress,
    Restart,
    SessionStart,
    StepRow,
    ValidationRow,
)
from fromscratch.logs.keys import VALIDATION, our_name
from fromscratch.logs.lines import Line, LineParser, lines
from fromscratch.logs.numerals import NUMBER, has_decimals

TRAIN_ESTIMATE = "train"

_BEFORE = r"(?:^|[\s\]:|>])"
_ITER = re.compile(
    _BEFORE + rf"iter\s+(\d{{1,15}}):\s*loss\s+({NUMBER}),\s*time\s+({NUMBER})\s*(ms|s)\b(.*)", re.I
)
_STEP = re.compile(
    _BEFORE + rf"step\s+(\d{{1,15}}):\s*train loss\s+({NUMBER}),\s*val loss\s+({NUMBER})", re.I
)
_MORE = re.compile(rf"([A-Za-z][\w/ ]*?)[\s:=]+({NUMBER})\s*(%?)", re.I)
_TOKENS = re.compile(r"tokens per iteration will be:\s*([\d,]{1,20})(?![\d,])")
_SAVING = re.compile(r"saving checkpoint to (\S.*)")
_FACTS = (
    re.compile(r"(number of parameters):\s*(\S+)"),
    re.compile(r"(num decayed parameter tensors):\s*(\S.*)"),
)
_BEGINS = re.compile(r"Initializing a new model from scratch|Resuming training from|Initializing f")
_ALMOST = re.compile(_BEFORE + r"(?:iter\s+\d+\b|step\s+\d+:)|^(?:ite?r?|ste?p?)\s*\d*$", re.I)


class NanoGpt:
    """The format."""

    name = "nanogpt"
    about = "iter 250: loss 3.9655, time 30.12ms, ..."
    first_step = 0
    restart: Restart = "another run"

    def matches(self, path: Path, most_bytes: int | None) -> int:
        found = (line.text for line in lines(path, most_bytes=most_bytes))
        return sum(bool(_ITER.search(text) or _STEP.search(text)) for text in found)

    def read(self, path: Path, progress: Progress) -> Iterator[Item]:
        return _Parser().read(lines(path, progress))


class _Parser(LineParser):
    def __init__(self) -> None:
        self._tokens_per_step: int | None = None
        self._last = -1
        self._saving_at: int | None = None

    def line(self, line: Line) -> Iterator[Item]:
        text = line.text
        row, estimate = _ITER.search(text), _STEP.search(text)
        if row:
            yield from self._session(int(row[1]))
            yield self._iteration(row)
        elif estimate and (line.whole or has_decimals(estimate[3], 4)):
            step = int(estimate[1])
            yield from self._session(step)
            for name, loss in ((TRAIN_ESTIMATE, estimate[2]), (VALIDATION, estimate[3])):
                yield ValidationRow(step, name, {"val_loss": float(loss.replace(",", ""))})
        elif tokens := _TOKENS.search(text):
            self._tokens_per_step = int(tokens[1].replace(",", ""))
            yield Fact("tokens_per_step", self._tokens_per_step)
        elif saved := _SAVING.search(text):
            yield Event("checkpoint", max(self._last, 0), "", None, {"path": saved[1].strip()})
        elif begins := _BEGINS.search(text):
            self._last = -1
            yield SessionStart(text[begins.start() :].strip())
        elif fact := next((f for form in _FACTS if (f := form.search(text))), None):
            yield Fact(fact[1], fact[2])
        elif text.strip():
            damaged = bool(_ALMOST.search(text.strip()))
            why = "a record that is cut off or overwritten" if damaged else "no record"
            yield line.unread(why, damaged=damaged)

    def _iteration(self, row: re.Match[str]) -> StepRow:
        seconds = float(row[3].replace(",", "")) * (1e-3 if row[4].lower() == "ms" else 1)
        values: dict[str, Any] = {"loss": float(row[2].replace(",", "")), "step_seconds": seconds}
        for name, value, percent in _MORE.findall(row[5]):
            amount = float(value.replace(",", ""))
            if our_name(name) == "mfu":
                amount = amount / 100 if percent else amount
                if amount < 0:
                    continue
            values[our_name(name)] = amount
        if self._tokens_per_step is not None and seconds > 0 and "tokens_per_s" not in values:
            values["tokens_per_s"] = self._tokens_per_step / seconds
        return StepRow(int(row[1]), values)

    def _session(self, step: int) -> Iterator[Item]:
        if step < self._last:
            yield SessionStart(f"the steps went back from {self._last:,}")
        self._last = step
