"""What an evaluation leaves behind: one line of RUN/evals.jsonl.

A line says what was measured, of which weights (by their sha256, R46), on which data (by its
fingerprint, R44), with which settings. So two lines can be compared, or a reader told why not.
Lines are only ever appended; a half-written one is passed over by whoever reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from fromscratch.foundation.files import append_json_line, read_json_lines

Kind = Literal["loss", "multiple_choice", "harness", "core", "judge", "preference"]


@dataclass(frozen=True)
class Metric:
    """A number with what it is worth.

    Attributes:
        value: The number, in the unit that its name says.
        stderr: Standard error of the mean; None where none can be said.
        n: Over how many items (documents, questions, answers) it is a mean.
        reference: Published values of other models under the same protocol, by name.
    """

    value: float
    stderr: float | None = None
    n: int | None = None
    reference: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluatedModel:
    """Which weights.

    Attributes:
        name: As it was named: a folder, a hub name.
        sha256: Of the weights' file or files.
        step: Updates behind it; None if it is not a checkpoint of ours.
        tokens: Tokens trained on; None likewise.
        parameters: Counted from the built model.
        tokenizer: The tokenizer's fingerprint.
    """

    name: str
    sha256: str
    step: int | None = None
    tokens: int | None = None
    parameters: int | None = None
    tokenizer: str | None = None


@dataclass(frozen=True)
class EvaluatedData:
    """On what.

    Attributes:
        name: What a person calls it: "hellaswag", "wikitext2/valid.txt", a source of a mixture.
        sha256: Fingerprint of the very items or bytes that were scored.
        n_documents: Documents or items; None where they are not counted.
        n_bytes: UTF-8 bytes of text; None where they are not counted.
    """

    name: str
    sha256: str
    n_documents: int | None = None
    n_bytes: int | None = None


@dataclass(frozen=True)
class EvalRecord:
    """One evaluation of one model on one data set.

    Attributes:
        kind: What sort of evaluation.
        model: Which weights.
        data: On what.
        metrics: By name, the names of the field: `loss`, `perplexity`, `bits_per_byte`, `acc`,
            `acc_norm`, `score`, `centered`.
        settings: All that changes the numbers: context, stride, shots, judge, prompt.
        seconds: Wall time.
        written: When, ISO 8601 in UTC.
    """

    kind: Kind
    model: EvaluatedModel
    data: EvaluatedData
    metrics: Mapping[str, Metric]
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    written: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def row(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> EvalRecord:
        """The record of a line; keys that it does not know are passed over.

        Raises:
            KeyError, TypeError, ValueError: The line is no record.
        """
        metrics = {
            str(name): Metric(
                value=float(m["value"]),
                stderr=None if m.get("stderr") is None else float(m["stderr"]),
                n=m.get("n"),
                reference={str(k): float(v) for k, v in (m.get("reference") or {}).items()},
            )
            for name, m in row["metrics"].items()
        }
        return cls(
            kind=row["kind"],
            model=EvaluatedModel(**_known(EvaluatedModel, row["model"])),
            data=EvaluatedData(**_known(EvaluatedData, row["data"])),
            metrics=metrics,
            settings=dict(row.get("settings") or {}),
            seconds=float(row.get("seconds", 0.0)),
            written=str(row.get("written", "")),
        )


def _known(kind: type[EvaluatedModel | EvaluatedData], row: Mapping[str, Any]) -> dict[str, Any]:
    return {f.name: row[f.name] for f in fields(kind) if f.name in row}


def append_record(path: Path, record: EvalRecord) -> None:
    """Adds a line to a file of records and forces it to the disk.

    Args:
        path: RUN/evals.jsonl, or any file; made if absent, its folder not.
        record: What was measured.
    """
    append_json_line(path, record.row())


def read_records(path: Path) -> Iterator[EvalRecord]:
    """The records of a file, oldest first; what is no record is passed over."""
    for row in read_json_lines(path):
        try:
            yield EvalRecord.from_row(row)
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
