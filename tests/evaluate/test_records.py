"""evals.jsonl: what is appended is read back, whatever lies around it."""

from __future__ import annotations

import math
from pathlib import Path

from fromscratch.evaluate.records import (
    EvalRecord,
    EvaluatedData,
    EvaluatedModel,
    Metric,
    append_record,
    read_records,
)

RECORD = EvalRecord(
    kind="loss",
    model=EvaluatedModel("runs/a", "ab" * 32, step=500, tokens=1_000, parameters=10),
    data=EvaluatedData("valid.txt", "cd" * 32, n_documents=3, n_bytes=900),
    metrics={"loss": Metric(3.25, stderr=0.01, n=3, reference={"GPT-2 124M": 3.1})},
    settings={"context": 1024, "stride": 512},
    seconds=1.5,
)


def test_a_record_is_read_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "evals.jsonl"
    append_record(path, RECORD)
    append_record(path, RECORD)
    assert list(read_records(path)) == [RECORD, RECORD]


def test_half_a_line_swallows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "evals.jsonl"
    append_record(path, RECORD)
    path.write_bytes(path.read_bytes() + b'{"kind": "lo')
    append_record(path, RECORD)
    assert list(read_records(path)) == [RECORD, RECORD]


def test_what_is_no_record_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "evals.jsonl"
    path.write_text('[1]\n{"kind": "loss"}\n{"kind": "loss", "model": 1, "metrics": 3}\n\n')
    append_record(path, RECORD)
    assert list(read_records(path)) == [RECORD]


def test_numbers_that_are_not_finite_come_back(tmp_path: Path) -> None:
    path = tmp_path / "evals.jsonl"
    append_record(path, EvalRecord("loss", RECORD.model, RECORD.data, {"loss": Metric(math.inf)}))
    assert next(read_records(path)).metrics["loss"].value == math.inf
