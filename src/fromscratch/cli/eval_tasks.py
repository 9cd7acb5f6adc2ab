"""The benchmarks of `fromscratch eval`: HellaSwag, CORE, and lm-evaluation-harness's tasks.

In: a model and what to evaluate it on. Out: records, in the order in which they were asked for.
What can be found wrong before the first batch is: files are read, packages looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.cli.progress import Report, items_a_second, progress
from fromscratch.evaluate.core import core_records, n_questions
from fromscratch.evaluate.core_bundle import read_bundle
from fromscratch.evaluate.harness import harness_records, refuse_missing_harness
from fromscratch.evaluate.hellaswag import HellaSwag, hellaswag_record
from fromscratch.evaluate.hellaswag_items import choose, read_hellaswag
from fromscratch.evaluate.hellaswag_references import Style
from fromscratch.evaluate.records import EvalRecord, EvaluatedModel
from fromscratch.foundation.errors import UserError

BOTH_STYLES: tuple[Style, ...] = ("completion", "harness")

# Positions in the network at a time.
_TOKENS_ON_CPU = 8_192
_TOKENS_ON_GPU = 16_384


def task_records(
    bundle: ModelBundle,
    model: EvaluatedModel,
    *,
    tasks: Sequence[str],
    hellaswag: str | None,
    core: Path | None,
    limit: int | None,
    batch_size: int | None,
    shots: int | None,
    include_path: Path | None = None,
    styles: Sequence[Style] = BOTH_STYLES,
) -> list[EvalRecord]:
    """Evaluates a model on benchmarks.

    Args:
        bundle: The model, on the device on which it is to run.
        model: Which weights it has, for the records.
        tasks: Names that lm-evaluation-harness knows.
        hellaswag: A file of HellaSwag's or its name on the hub; None for none.
        core: The folder of CORE's tasks; None for none.
        limit: So many items of each benchmark; None for all. HellaSwag's and CORE's are the first
            of a shuffle that is always the same, the harness's the first of each task.
        batch_size: Windows of the model's whole context in memory at a time; None for what suits
            the device.
        shots: Examples before each question in the harness's tasks; None for each task's own.
        include_path: A folder with tasks for the harness.
        styles: How HellaSwag's items become text; a record for each.

    Raises:
        UserError: Something of that cannot be read, is not known, or is not installed.
    """
    _check(tasks, limit, batch_size, shots, include_path)
    items = None if hellaswag is None else read_hellaswag(hellaswag)
    core_bundle = None if core is None else read_bundle(core)
    context = bundle.model.config.context
    if batch_size is None:
        usual = _TOKENS_ON_CPU if bundle.model.device.type == "cpu" else _TOKENS_ON_GPU
        batch_tokens = max(context, usual)
    else:
        batch_tokens = batch_size * context
    records: list[EvalRecord] = []
    with progress(items_a_second, counts=True) as report:
        if items is not None:
            assert hellaswag is not None
            for style in styles:
                data = HellaSwag(
                    choose(items, limit), style, bundle.tokenizer, hellaswag, len(items)
                )
                total = sum(len(item.endings) for item in data.items)
                count = _counter(report, f"HellaSwag ({style})", total)
                records.append(
                    hellaswag_record(
                        bundle.model, model, data, batch_tokens=batch_tokens, on_passages=count
                    )
                )
        if core_bundle is not None:
            records += core_records(
                bundle,
                model,
                core_bundle,
                batch_tokens=batch_tokens,
                limit=limit,
                on_questions=_counter(report, "CORE", n_questions(core_bundle, limit)),
            )
        if tasks:
            records += harness_records(
                bundle,
                model,
                tasks,
                batch_tokens=batch_tokens,
                limit=limit,
                shots=shots,
                include_path=include_path,
                report=report,
            )
    return records


def _check(
    tasks: Sequence[str],
    limit: int | None,
    batch_size: int | None,
    shots: int | None,
    include_path: Path | None,
) -> None:
    for name, value, least in (
        ("--limit", limit, 1),
        ("--batch-size", batch_size, 1),
        ("--shots", shots, 0),
    ):
        if value is not None and value < least:
            raise UserError(f"{name} {value} is less than {least}.")
    if tasks:
        refuse_missing_harness()
    elif shots is not None or include_path is not None:
        option = "--shots" if shots is not None else "--include-path"
        raise UserError(
            f"{option} is for tasks of lm-evaluation-harness, and none is named.",
            fix="Name some: --tasks hellaswag,arc_easy. HellaSwag by --hellaswag has no examples, "
            "and CORE's tasks have numbers of their own.",
        )


# --- what is seen meanwhile -----------------------------------------------------------------------


def _counter(report: Report, stage: str, total: int) -> Callable[[int], None]:
    """Adds up what is done of a stage."""
    done = 0

    def count(n: int) -> None:
        nonlocal done
        done += n
        report(stage, done, total)

    return count
