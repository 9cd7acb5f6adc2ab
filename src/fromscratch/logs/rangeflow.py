"""RangeFlow's trainer: one line for every tenth step, checkpoints, blocks of samples.

    [2025-11-18 07:38:15] Step    700 | Loss: 5.9037 | LR: 2.40e-04 | Tokens/s: 8,361 | GPU: 14.8GB | Time: 1547s

The format and what its own tool makes of it: github.com/dheeren-tejani/mini-lm-124m (the logger in
its notebook, metadata/postprocess_logs.py). An event belongs to the step line before it. `Time`
begins anew with each session, and a session may begin without a word.
"""  # noqa: E501

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fromscratch.logs.items import (
    Event,
    Item,
    Progress,
    Restart,
    Samples,
    SessionStart,
    StepRow,
    Text,
)
from fromscratch.logs.lines import Line, LineParser, lines

_STAMP = r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\]\s+"
_STEP = re.compile(
    _STAMP + r"Step\s+(\d{1,15})\s*\|\s*Loss:\s*([-+\w.]+)\s*\|\s*LR:\s*([-+\w.]+)\s*\|\s*"
    r"Tokens/s:\s*([\d,]{1,20}|nan|inf)\s*\|\s*GPU:\s*([\d.]+)\s*GB\s*\|\s*Time:\s*(\d{1,12})s",
    re.IGNORECASE,
)
_STAMPED = re.compile(_STAMP + r"(.*)", re.DOTALL)
_PAIR = re.compile(r"(.*?)\s+\u2192(?:\s+(.*)|$)", re.DOTALL)
_SAVED = re.compile(r"Checkpoint saved:\s*(\S.*)")
_REMOVED = re.compile(r"Removed old checkpoint:\s*(\S.*)")
_DIVIDER = re.compile(r"=+\s*")
_FILE_SEEN = re.compile(r"File\s+#-?\d+\s*\|\s*Seen:")
# A sample may well speak of interruptions; the trainer says it in these words.
_INTERRUPTED = re.compile(r"\W*Interrupted\b")
_INTERRUPTED_AMONG_SAMPLES = re.compile(r"\W*Interrupted(?:!| by user)")
_BEGINS = re.compile(r"training started|starting training", re.IGNORECASE)
# Said once a session, of no consequence for curves.
_KNOWN = re.compile(r"Building model|Loading:|Resumed from step|Checkpoint from compiled")


class RangeFlow:
    """The format."""

    name = "rangeflow"
    about = "[TIME] Step 700 | Loss: 5.9037 | LR: 2.40e-04 | ..."
    first_step = 1
    restart: Restart = "the same run"

    def matches(self, path: Path, most_bytes: int | None) -> int:
        return sum(bool(_STEP.match(line.text)) for line in lines(path, most_bytes=most_bytes))

    def read(self, path: Path, progress: Progress) -> Iterator[Item]:
        return _Parser().read(lines(path, progress))


class _Parser(LineParser):
    def __init__(self) -> None:
        self._row: dict[str, Any] | None = None  # the step line that events still belong to
        self._events: list[Event] = []
        self._elapsed = 0
        self._step = 0
        self._block: _Block | None = None
        self._time: str | None = None  # of the last line that has one

    def line(self, line: Line) -> Iterator[Item]:
        text = line.text
        row = _STEP.search(text)
        if row:
            yield from self._close_block()
            yield from self._flush()
            try:
                yield from self._step_line(row)
            except ValueError:
                yield line.unread("a number that is none")
            return
        if _DIVIDER.fullmatch(text.strip()):
            yield from self._close_block()
            return
        stamped = _STAMPED.match(text)
        if stamped is not None:
            self._time = stamped[1]
        yield from self._message(line, stamped[2].strip() if stamped else text.strip(), stamped)

    def end(self) -> Iterator[Item]:
        yield from self._close_block()
        yield from self._flush()

    def _step_line(self, found: re.Match[str]) -> Iterator[Item]:
        stamp, step, loss, lr, speed, memory, elapsed = found.groups()
        self._time, time = stamp, stamp.replace(" ", "T")
        values = {
            "loss": float(loss),
            "lr": float(lr),
            "tokens_per_s": float(speed) if speed[0] in "niNI" else int(speed.replace(",", "")),
            "memory_gb": float(memory),
            "session_seconds": int(elapsed),
        }
        if self._row is not None and int(elapsed) < self._elapsed:
            yield SessionStart("the trainer's clock began anew", time)
        elif self._row is not None and int(step) <= self._step:
            yield SessionStart(f"the steps went back from {self._step:,}", time)
        self._step, self._elapsed = int(step), int(elapsed)
        self._row = {
            "time": time,
            "values": values,
            "checkpoint_saved": None,
            "checkpoint_removed": None,
            "interrupted": False,
            "given": False,
        }

    def _flush(self) -> Iterator[Item]:
        """The last step with what the lines since then say of it."""
        row = self._row
        if row is not None and not row["given"]:
            row["given"] = True
            marks = ("checkpoint_saved", "checkpoint_removed", "interrupted")
            details = {key: row[key] for key in marks}
            yield StepRow(self._step, row["values"], row["time"], details)
        yield from self._events
        self._events = []

    def _message(self, line: Line, said: str, stamped: re.Match[str] | None) -> Iterator[Item]:
        moment = None if self._time is None else self._time.replace(" ", "T")
        saved, removed = _SAVED.search(said), _REMOVED.search(said)
        interrupted = _INTERRUPTED if self._block is None else _INTERRUPTED_AMONG_SAMPLES
        # Only a line with a time begins a sample: an arrow in its text does not.
        pair = _PAIR.match(said) if stamped and self._block is not None else None
        if _DIVIDER.fullmatch(said):
            yield from self._close_block()
        elif pair is not None and self._block is not None:
            self._block.begin(pair[1].strip(), pair[2] or "", moment)
        elif _BEGINS.search(said):
            yield from self._close_block()
            yield from self._flush()
            self._row = None
            yield SessionStart(said, moment)
        elif stamped and "SAMPLES" in said:
            yield from self._close_block()
            number = re.search(r"\bstep (\d{1,15})(?!\d)", said)
            self._block = _Block(int(number[1]) if number else self._step_or_none(), moment)
        elif saved or removed or interrupted.match(said):
            # A checkpoint may come before the samples of its step or after them.
            yield from self._close_block()
            self._mark(moment, said, saved, removed)
        elif "TRAINING COMPLETE" in said.upper():
            self._events.append(Event("finished", self._step_or_none(), said, moment))
        elif re.search(r"\bStep\s+\d+\s*\|", said) or (stamped and said.startswith("Step ")):
            yield line.unread("a step that is cut off or overwritten")
        elif self._block is not None:
            self._block.more("" if _FILE_SEEN.search(said) else said)
        elif said.startswith("["):
            yield line.unread("a line that is cut off or overwritten")
        elif said and not _FILE_SEEN.search(said) and not _KNOWN.search(said):
            yield line.unread("no record of this format", damaged=False)

    def _mark(
        self,
        time: str | None,
        said: str,
        saved: re.Match[str] | None,
        removed: re.Match[str] | None,
    ) -> None:
        row = self._row if self._row is not None else {}
        if saved:
            row["checkpoint_saved"] = saved[1].strip()
            number = re.search(r"step_(\d{1,15})(?!\d)", saved[1])
            step = int(number[1]) if number else self._step_or_none()
            details: dict[str, Any] = {"path": saved[1].strip()}
            self._events.append(Event("checkpoint", step, "", time, details))
        elif removed:
            row["checkpoint_removed"] = removed[1].strip()
        else:
            row["interrupted"] = True
            self._events.append(Event("stopped", self._step_or_none(), said, time))

    def _close_block(self) -> Iterator[Item]:
        block, self._block = self._block, None
        if block is not None and block.pairs and block.step is not None:
            yield Samples(block.step, block.texts(), block.time)

    def _step_or_none(self) -> int | None:
        return self._step if self._row is not None else None


class _Block:
    """A block of samples that is being read."""

    def __init__(self, step: int | None, time: str | None) -> None:
        self.step = step
        self.time = time
        self.pairs: list[tuple[str, list[str], str | None]] = []

    def begin(self, prompt: str, start: str, time: str | None) -> None:
        self.pairs.append((prompt, [start.strip()], time))

    def more(self, text: str) -> None:
        if self.pairs:
            self.pairs[-1][1].append(text)

    def texts(self) -> tuple[Text, ...]:
        found = []
        for prompt, parts, time in self.pairs:
            original = " ".join(part for part in parts if part).strip()
            text = "\n".join(parts).strip("\n")
            found.append(Text(prompt, text.removeprefix(prompt), time, original))
        return tuple(found)
