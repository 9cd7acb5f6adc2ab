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
from fromscratch.cli.show import err, print_warning, say
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
    models: list[str] = typer.Argument(
        ...,
        help="Runs, checkpoints, Hugging Face folders, or names on the hub such as "
        "openai-community/gpt2.",
    ),
    data: list[str] = typer.Option(
        [],
        help="What to measure the loss on: prepared data, a run (its validation data), or any "
        "text that `prepare` takes; NAME=... gives it a name; may be repeated. [the first "
        "model's own validation data]",
    ),
    split: Split = typer.Option(Split.val, help="Which side of prepared data."),
    context: int = typer.Option(None, min=1, help="Tokens of a window [the model's context]."),
    stride: int = typer.Option(
        None, min=1, help="Tokens between the starts of windows; less than --context overlaps."
    ),
    separate: bool = typer.Option(
        False, "--separate", help="Each document by itself, not after the one before."
    ),
    batch_size: int = typer.Option(None, min=1, help="Windows at a time [by the device]."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, cuda:1 or mps."),
    precision: Precision = typer.Option(Precision.fp32, help="What the model computes in."),
    limit_documents: int = typer.Option(
        None, min=1, help="Of each text, the first so many documents."
    ),
    documents: Documents = typer.Option(
        Documents.file, help="What a document of plain text is; as for `prepare`."
    ),
    field: str = typer.Option("text", help="The field of JSON and Parquet records."),
    render: str = typer.Option(
        None, help="Records are conversations: render them by this chat template (alpaca)."
    ),
    on_bad: OnBad = typer.Option(OnBad.stop, help="At what cannot be read: stop, or skip it."),
    tasks: str = typer.Option(
        "", help="Tasks of lm-evaluation-harness, such as hellaswag,arc_easy,piqa."
    ),
    hellaswag: str = typer.Option(
        None, help="HellaSwag: its file, or hf:Rowan/hellaswag for the hub's."
    ),
    core: Path = typer.Option(None, help="nanochat's evaluation bundle, a folder."),
    shots: int = typer.Option(None, min=0, help="Worked examples before each item of --tasks."),
    limit: int = typer.Option(None, min=1, help="Of each task, so many items."),
    include_path: Path = typer.Option(None, help="A folder with tasks of your own."),
    out: Path = typer.Option(None, help="A file to append the results to, as JSON lines."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON for a program."),
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
    from fromscratch.foundation.files import dump_json

    report = measured.report
    if as_json:
        content = eval_table.as_json(measured.records, measured.differences)
        content |= {"n_skipped": report.n_skipped, "skipped": report.skipped, "notes": report.notes}
        typer.echo(dump_json(content, indent=2))
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
