"""`fromscratch eval`: how good models are, on any text and on tasks."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fromscratch.cli.prepare_verb import Documents, OnBad
from fromscratch.cli.show import err, print_json, print_warning, say
from fromscratch.cli.vocabulary import argument, option
from fromscratch.foundation.errors import UserError

if TYPE_CHECKING:
    from fromscratch.cli.eval_work import Measured


class Split(Enum):
    """A side of prepared data."""

    val = "val"
    train = "train"


class Precision(Enum):
    """What the model computes in."""

    auto = "auto"
    fp32 = "fp32"
    tf32 = "tf32"
    bf16 = "bf16"
    fp16 = "fp16"


def run(
    models: list[str] = argument("MODELS"),
    data: list[str] = option(
        "data",
        [],
        of="as `prepare` takes it, prepared data, or a run's held-out text; NAME=SOURCE gives it "
        "a name; may be repeated",
        show_default="what the first model's run held out",
    ),
    split: Split = option("split", Split.val, of="prepared data's"),
    context: int = option("context", min=1, show_default="the model's context"),
    stride: int = option("stride", min=1, show_default="--context"),
    separate: bool = option("separate", False),
    batch_size: int = option("batch-size", min=1, show_default="by the device"),
    device: str = option("device", "auto"),
    precision: Precision = option("precision", Precision.fp32),
    limit_documents: int = option("limit-documents", min=1),
    documents: Documents = option("documents", Documents.file),
    field: str = option("field", "text"),
    render: str = option("render"),
    on_bad: OnBad = option("on-bad", OnBad.stop),
    tasks: str = option("tasks", ""),
    hellaswag: str = option("hellaswag"),
    core: Path = option("core"),
    shots: int = option("shots", min=0),
    limit: int = option("limit", min=1, of="of each task"),
    include_path: Path = option("include-path"),
    out: Path = option("out", of="a file to append the results to, as JSON lines"),
    as_json: bool = option("json", False),
) -> None:
    """Measures models: loss, perplexity and bits per byte on any text, and scores on tasks.

    Results of a run's checkpoints are appended to its evals.jsonl, and shown by `report`.

    Example: fromscratch eval runs/try openai-community/gpt2 --data my-texts/
    """
    from fromscratch.cli.eval_work import TaskWish, TextWish, measure, own_texts
    from fromscratch.data.reading import Reading
    from fromscratch.runs.eval_data import eval_texts

    wish = TaskWish(
        tuple(filter(None, tasks.split(","))), hellaswag, core, limit, shots, include_path
    )
    reading = Reading(documents.value, field, render, on_bad.value)
    _check_options(context, stride, out)
    with _until_interrupted(), _standard_input(data) as spooled:
        if data:
            texts = eval_texts(data, split=split.value, reading=reading, spooled=spooled)
        else:
            texts = [] if wish else own_texts(models, split.value)
        measured = measure(
            models,
            TextWish(
                texts,
                context=context,
                stride=stride,
                separate=separate,
                limit=limit_documents,
                precision=precision.value,
            ),
            wish,
            device=device,
            batch_size=batch_size,
            out=out,
        )
    _print(measured, as_json=as_json)


def _check_options(context: int | None, stride: int | None, out: Path | None) -> None:
    if context is not None and stride is not None and stride > context:
        raise UserError(
            f"--stride {stride} is more than --context {context}: text between the windows would "
            "be left out.",
            fix=f"Use --stride {context}, which overlaps nothing, or less.",
        )
    if out is not None and not out.absolute().parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}.")
    if out is not None and out.is_dir():
        raise UserError(f"--out {out} is a folder; it names a file of JSON lines.")


@contextmanager
def _until_interrupted() -> Iterator[None]:
    """Ctrl-C ends the work with one line, and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        err.print("Interrupted; models that were measured to the end are recorded, no other.")
        raise typer.Exit(130) from None


@contextmanager
def _standard_input(specs: list[str]) -> Iterator[Path | None]:
    """Keeps standard input in a file while it is read, once for each model."""
    from fromscratch.data.folder import spool
    from fromscratch.data.sources import parse_sources

    if not any(source.is_standard_input for source in parse_sources(specs)):
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        yield spool(sys.stdin.buffer, Path(folder) / "stdin")


def _print(measured: Measured, *, as_json: bool) -> None:
    from fromscratch.cli import eval_table

    report = measured.report
    if as_json:
        content = eval_table.as_json(measured.records, measured.differences)
        content |= {"n_skipped": report.n_skipped, "skipped": report.skipped, "notes": report.notes}
        print_json(content)
        return
    eval_table.print_evaluation(measured.records, measured.differences)
    for sentence in measured.sentences:
        say(sentence)
    if report.n_skipped:
        print_warning(f"{report.n_skipped:,} files or records were skipped:")
        for place, reason in report.skipped[:10]:
            say(f"  {place}: {reason}")
    for place, remark in report.notes[:10]:
        say(f"Please note: {place}: {remark}")
    for path in measured.written:
        say(f"appended to {path}")
