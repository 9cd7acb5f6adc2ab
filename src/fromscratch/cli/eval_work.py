"""What `eval` does with its models, one after the other: measure, record, compare.

Only one model is in memory at a time. What can be found wrong without weights (a context that is
too long, a model that is not there) is found before the first is measured.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fromscratch.checkpoint.bundle import load_bundle, model_folder, read_model_config
from fromscratch.cli.eval_table import Difference
from fromscratch.cli.progress import progress, tokens_a_second
from fromscratch.data.documents import Split
from fromscratch.data.sources import SourceReport
from fromscratch.evaluate.evaluated import evaluated_model, run_of
from fromscratch.evaluate.paired import DocumentLog, bits_per_byte_apart
from fromscratch.evaluate.records import EvalRecord, Metric, append_record
from fromscratch.evaluate.text_data import EvalText
from fromscratch.evaluate.text_eval import EvalOptions, evaluate_texts
from fromscratch.evaluate.text_windows import Protocol
from fromscratch.foundation.accelerators import PrecisionName
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.hardware import resolve_device
from fromscratch.foundation.names import RunPaths
from fromscratch.model.config import ModelConfig
from fromscratch.runs.eval_data import run_texts
from fromscratch.train.precision import choose_precision

if TYPE_CHECKING:
    from typing import Literal

    import torch

_TOKENS_A_BATCH = {"cpu": 4_096, "mps": 16_384, "cuda": 65_536}


@dataclass(frozen=True)
class TextWish:
    """What to measure the loss on, and how; where None stands, the model says.

    Attributes:
        texts: None at all for no loss.
        context: Tokens of a window.
        stride: Between windows.
        separate: Each document by itself.
        limit: The first so many documents of each text.
        precision: Of the forward pass.
    """

    texts: list[EvalText]
    context: int | None = None
    stride: int | None = None
    separate: bool = False
    limit: int | None = None
    precision: PrecisionName | Literal["auto"] = "fp32"

    def protocol(self, config: ModelConfig, name: str) -> Protocol:
        """The windows of one model.

        Raises:
            UserError: They are longer than its context.
        """
        context = self.context or config.context
        if context > config.context:
            raise UserError(
                f"--context {context} is more than the context of {name}, {config.context}: it "
                "has never seen a position beyond.",
                fix=f"Use --context {config.context} or less.",
            )
        stride = self.stride or context
        if stride > context:
            raise UserError(
                f"--stride {stride} is more than the context of {name}, {context}: text between "
                "the windows would be left out.",
                fix=f"Use --stride {context}, which overlaps nothing, or less.",
            )
        return Protocol(context, stride, self.separate)


@dataclass(frozen=True)
class TaskWish:
    """Which tasks to score; see cli/eval_tasks.py."""

    tasks: Sequence[str] = ()
    hellaswag: str | None = None
    core: Path | None = None
    limit: int | None = None
    shots: int | None = None
    include_path: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.tasks) or self.hellaswag is not None or self.core is not None


@dataclass
class Measured:
    """What came of it.

    Attributes:
        records: In the order of the models.
        differences: Between the first model and each other one.
        sentences: What else a person should know.
        report: What was left out of the texts.
        written: The files that records were appended to.
    """

    records: list[EvalRecord] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    report: SourceReport = field(default_factory=SourceReport)
    written: list[Path] = field(default_factory=list)


def own_texts(models: list[str], split: Split) -> list[EvalText]:
    """The validation data of the first model that is a run's.

    Raises:
        UserError: None is.
    """
    for name in models:
        run = run_of(name)
        if run is not None:
            return run_texts(run, split=split)
    model_folder(models[0])  # a name that is misspelt is the first thing to mend
    raise UserError(
        f"{models[0]} is not a run, which would have validation data of its own.",
        fix="Say what to measure on: --data TEXT, --data PREPARED, or --tasks NAMES.",
    )


def measure(
    models: list[str],
    wish: TextWish,
    tasks: TaskWish,
    *,
    device: str = "auto",
    batch_size: int | None = None,
    out: Path | None = None,
) -> Measured:
    """Measures models one after the other, and appends each one's records as soon as it is done.

    Args:
        models: As they were named.
        wish: The loss.
        tasks: The scores.
        device: Where to compute.
        batch_size: Windows, or items, at a time; None to choose by the device.
        out: A file for all records.

    Raises:
        UserError: A mistake in any of it.
    """
    if len(set(models)) < len(models):
        raise UserError("A model is named twice.")
    where = resolve_device(device, setting="--device ")
    folders = {name: model_folder(name) for name in models}
    for name, folder in folders.items():
        wish.protocol(read_model_config(folder), name)
    measured = Measured()
    with ExitStack() as stack:
        logs: dict[str, DocumentLog] = {}
        for name, folder in folders.items():
            if len(models) > 1:
                logs[name] = DocumentLog()
                stack.callback(logs[name].close)
            records = _measure_one(
                name, folder, wish, tasks, where, batch_size, logs.get(name), measured
            )
            measured.records += records
            _append(records, name, out, measured)
        if wish.texts:
            _compare(logs, measured)
    return measured


def _measure_one(
    name: str,
    folder: Path,
    wish: TextWish,
    tasks: TaskWish,
    device: torch.device,
    batch_size: int | None,
    log: DocumentLog | None,
    measured: Measured,
) -> list[EvalRecord]:
    bundle = load_bundle(folder)
    bundle.model.to(device)
    model = evaluated_model(name, bundle)
    records: list[EvalRecord] = []
    if wish.texts:
        protocol = wish.protocol(bundle.model.config, name)
        tokens = _TOKENS_A_BATCH.get(device.type, _TOKENS_A_BATCH["cpu"])
        options = EvalOptions(
            protocol,
            batch_size or max(1, tokens // protocol.context),
            choose_precision(wish.precision, device),
            wish.limit,
        )
        total = sum(text.size for text in wish.texts)
        with progress(tokens_a_second) as report:
            result = evaluate_texts(
                bundle,
                model,
                wish.texts,
                options,
                log=log,
                watch=lambda passed, n_tokens: report(name, passed, total, n_tokens),
            )
        records += result.records
        measured.report = result.report  # the same for every model
        if str(protocol) not in "\n".join(measured.sentences):
            measured.sentences.append(f"Measured on {protocol}.")
    if tasks:
        from fromscratch.cli.eval_tasks import task_records

        records += task_records(
            bundle,
            model,
            tasks=tasks.tasks,
            hellaswag=tasks.hellaswag,
            core=tasks.core,
            limit=tasks.limit,
            batch_size=batch_size,
            shots=tasks.shots,
            include_path=tasks.include_path,
        )
    return records


def _append(records: list[EvalRecord], name: str, out: Path | None, measured: Measured) -> None:
    """Into the run's own file, where the model is a run's, and into the one that was named."""
    run = run_of(name)
    files = [path for path in (run and RunPaths(run).evals, out) if path is not None]
    for path in files:
        try:
            for record in records:
                append_record(path, record)
        except OSError as error:
            fix = "Name another --out." if path == out else None
            raise UserError(
                f"{path} cannot be written ({error.strerror or os.strerror(error.errno or 0)}).",
                fix=fix,
            ) from None
        if path not in measured.written:
            measured.written.append(path)


def _compare(logs: dict[str, DocumentLog], measured: Measured) -> None:
    """Each model against the first one, document by document, where they read the same bytes."""
    texts = {
        name: [r.data.sha256 for r in measured.records if r.model.name == name and r.kind == "loss"]
        for name in logs
    }
    for first, *others in [list(logs)] if logs else []:
        for name in others:
            if texts[name] != texts[first]:
                measured.sentences.append(
                    f"The text changed while {name} was measured: it cannot be held against "
                    f"{first}."
                )
                continue
            apart = bits_per_byte_apart(logs[name], logs[first])
            metric = Metric(apart.ratio, apart.stderr, apart.n)
            measured.differences.append(Difference(name, first, metric))
