"""What a log comes down to, whoever wrote it.

A format reads a file and yields these, in the order in which the file tells them. Steps keep the
numbers that the log gives them. What a log does not say is absent, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

Progress = Callable[[int], None]
"""Told how many bytes more have been read."""


@dataclass(frozen=True, slots=True)
class StepRow:
    """What was logged of one update.

    Attributes:
        step: Its number in the log.
        values: By the names of metrics.jsonl: `loss`, `lr`, `grad_norm`, `tokens`, `tokens_per_s`,
            `mfu` (a share), `memory_gb`, `seconds`. Besides, for the clock (clock.py):
            `session_seconds`, which begin anew with each session, and `step_seconds`, of this step.
        time: When, ISO 8601, with an offset only if it is known.
        details: What only the original's own files show.
    """

    step: int
    values: Mapping[str, Any]
    time: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ValidationRow:
    """A loss on text that was not trained on: `val_loss`, `val_ppl`, `val_bpb` of one set."""

    step: int
    set: str
    values: Mapping[str, Any]
    time: str | None = None


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A benchmark's score during training: `hellaswag_acc_norm`."""

    step: int
    values: Mapping[str, Any]
    time: str | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """What the model wrote after a prompt; `text` does not repeat the prompt."""

    prompt: str
    text: str
    time: str | None = None
    original: str | None = None  # as the log has it, where that is something else


@dataclass(frozen=True, slots=True)
class Samples:
    """What it wrote at one step."""

    step: int
    texts: tuple[Text, ...]
    time: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: `checkpoint`, `stopped`, `finished`."""

    kind: str
    step: int | None
    message: str = ""
    time: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionStart:
    """From here on another process may be writing: the clock, and even the steps, begin anew.

    Attributes:
        message: How the log shows it.
        time: When.
    """

    message: str = ""
    time: str | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """Something about the whole run.

    Attributes:
        name: `tokens_per_step`, `planned_steps`, or any other.
        value: Of these two a whole number.
    """

    name: str
    value: Any


@dataclass(frozen=True, slots=True)
class Unread:
    """A line that gave nothing.

    Attributes:
        line: Its number, from 1; None where a file has no lines.
        why: A few words.
        text: Its beginning.
        damaged: Whether it looks like a record that was cut or overwritten; otherwise it is chatter
            that the format has no place for.
    """

    line: int | None
    why: str
    text: str
    damaged: bool


Item = StepRow | ValidationRow | ScoreRow | Samples | Event | SessionStart | Fact | Unread

Restart = Literal["another run", "the same run"]


class LogFormat(Protocol):
    """A way in which some trainer writes its log.

    Attributes:
        name: What `--format` calls it.
        about: How it looks, in a few words.
        first_step: The number that the log gives to the first update: 0 or 1.
        restart: What it means when steps begin anew at or before the first one: that another run
            was written into the same log, or that sessions of one run overlap.
    """

    name: str
    about: str
    first_step: int
    restart: Restart

    def matches(self, path: Path, most_bytes: int | None) -> int:
        """How many records of this format the file's first bytes hold; 0: it is another's."""

    def read(self, path: Path, progress: Progress) -> Iterator[Item]:
        """The file's items, a bounded piece in memory at a time.

        Raises:
            OSError: The file cannot be read.
        """
