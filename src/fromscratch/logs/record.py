"""import.json: that a run folder was made from other people's logs, and from which.

Its presence is what makes a folder an import; `logs import` replaces such a folder and no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import dump_json, read_json
from fromscratch.foundation.names import RunPaths

VERSION = 1
_KEY = "imported"


@dataclass(frozen=True)
class ReadFile:
    """A log that was read.

    Attributes:
        path: As it was named, or found in the folder that was.
        format: Which format it was read as.
        bytes: Its size.
        sha256: Of its content.
        steps: Lines that were rows of training.
        validations: Likewise of validation.
        samples: Texts.
        damaged: Lines that look like a record, and could not be read.
        other: Lines that are no record.
    """

    path: str
    format: str
    bytes: int
    sha256: str
    steps: int
    validations: int
    samples: int
    damaged: int
    other: int


@dataclass(frozen=True)
class NotRead:
    """A line, or a whole file, that gave nothing.

    Attributes:
        file: Where.
        line: Its number; None if it concerns the file.
        why: A few words.
        text: The line's beginning.
    """

    file: str
    line: int | None
    why: str
    text: str = ""


@dataclass(frozen=True)
class ImportRecord:
    """What an import did.

    Attributes:
        name: What the run is called.
        files: The logs it was made from.
        formats: Their formats.
        steps: Training rows of the run, after merging.
        first_step: The first row's; None without rows.
        last_step: The last row's.
        first_time: When the first was logged, ISO 8601; None if the log does not say.
        last_time: When the last was.
        validations: Rows by set.
        scores: Rows with a benchmark's score.
        samples: Texts.
        events: How many by kind.
        logged_again: Steps that several sessions logged; the newest was kept.
        not_finite: Steps whose loss is nan or inf; they were kept.
        without_loss: Steps without a loss, which were not written.
        parts: The runs that the logs hold: their rows, first and last step.
        part: Which of them this is, from 1.
        estimated_seconds: Whether the training time was worked out rather than logged.
        facts: What else the logs say: tokens_per_step, number of parameters.
        damaged: Lines that look like a record, and could not be read.
        other: Lines that are no record.
        not_read: The first of the damaged lines.
        not_recognised: The first of the other lines.
        skipped: Files in which nothing was found.
    """

    name: str
    files: tuple[ReadFile, ...]
    formats: tuple[str, ...]
    steps: int
    first_step: int | None
    last_step: int | None
    first_time: str | None
    last_time: str | None
    validations: Mapping[str, int]
    scores: int
    samples: int
    events: Mapping[str, int]
    logged_again: int
    not_finite: int
    without_loss: int
    parts: tuple[Mapping[str, int], ...]
    part: int
    estimated_seconds: bool
    facts: Mapping[str, Any]
    damaged: int
    other: int
    not_read: tuple[NotRead, ...]
    not_recognised: tuple[NotRead, ...]
    skipped: tuple[NotRead, ...] = field(default=())

    def to_json(self) -> str:
        """The content of import.json."""
        return dump_json({_KEY: VERSION} | asdict(self), indent=2) + "\n"


def is_import(run: Path) -> bool:
    """Whether a folder was made by `logs import`."""
    return imported_from(run) is not None


def imported_from(run: Path) -> dict[str, Any] | None:
    """What a folder's import.json says; None if it has none, or a foreign file of that name."""
    try:
        said = read_json(RunPaths(run).imported)
    except (UserError, OSError, RecursionError):
        return None
    return said if isinstance(said, dict) and _KEY in said else None
