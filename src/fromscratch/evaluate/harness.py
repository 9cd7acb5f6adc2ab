"""lm-evaluation-harness (Gao et al. 2021) on a model of ours: the real one, by `simple_evaluate`.

In: a model and names of tasks, the harness's own or those of a folder of YAML files. Out: a record
for each task and each group of tasks. Always true: the numbers are the harness's; here they are
only carried over.

Code is never taken from the hub: data sets there are read as data (the harness drops
`trust_remote_code`, and `datasets` has no loading scripts from version 4 on), and tasks that would
run what a model wrote are refused. A folder that the user names may hold Python beside its YAML,
which runs as in the harness itself.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.evaluate.records import EvalRecord, EvaluatedData, EvaluatedModel, Metric
from fromscratch.foundation.errors import UserError, did_you_mean

EXTRA = "pip install 'fromscratch[eval]'"


def refuse_missing_harness() -> None:
    """Checks that the harness is installed.

    Raises:
        UserError: It is not.
    """
    if find_spec("lm_eval") is None:
        raise UserError(
            "--tasks needs the package lm_eval (lm-evaluation-harness), which is not installed.",
            fix=EXTRA,
        )


def harness_records(
    bundle: ModelBundle,
    model: EvaluatedModel,
    tasks: Sequence[str],
    *,
    batch_tokens: int,
    limit: int | None = None,
    shots: int | None = None,
    include_path: Path | None = None,
    report: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> list[EvalRecord]:
    """Runs tasks.

    Args:
        bundle: The model.
        model: Which weights it has.
        tasks: Names of tasks, groups or tags.
        batch_tokens: Positions in memory at a time.
        limit: The first so many documents of each task; None for all.
        shots: Examples before each question, where the task does not forbid it; None for each
            task's own number.
        include_path: A folder with tasks of one's own.
        report: Told what is under way, how many requests of it are answered, and of how many.

    Raises:
        UserError: The harness is not installed, does not know a task, or cannot have its data.
    """
    refuse_missing_harness()
    from lm_eval import simple_evaluate

    from fromscratch.evaluate.harness_model import HarnessModel

    begin = time.perf_counter()
    manager = _task_manager(include_path, tasks)
    for task in tasks:
        _refuse_unknown(task, manager.all_tasks)
    results = simple_evaluate(
        model=HarnessModel(bundle, batch_tokens=batch_tokens, report=report),
        tasks=list(tasks),
        num_fewshot=shots,
        limit=limit,
        task_manager=manager,
    )
    assert results is not None
    seconds = time.perf_counter() - begin
    return [
        _record(name, results, model, limit=limit, context=bundle.model.config.context, of=seconds)
        for name in results["results"]
    ]


def _task_manager(include_path: Path | None, tasks: Sequence[str]) -> Any:
    """The harness's index of tasks, with errors that say what to do.

    Its own tasks are some 15,000 files, which take seconds to list: they are left out where all
    that is asked for stands in the user's folder.
    """
    from lm_eval.tasks import TaskManager

    if include_path is not None and not include_path.is_dir():
        raise UserError(
            f"{include_path} is not a folder.",
            fix="--include-path names a folder with the YAML files of your tasks.",
        )

    class Tasks(TaskManager):  # type: ignore[misc]
        def load(self, task_list: Any) -> Any:
            try:
                return super().load(task_list)
            except UserError:
                raise
            except Exception as error:  # of the hub, of a data set's reader, of a task's own code
                names = task_list if isinstance(task_list, str) else ", ".join(map(str, task_list))
                first = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise UserError(
                    f"The data of {names} cannot be had ({type(error).__name__}: {first[:300]}).",
                    fix="Most tasks read theirs from the Hugging Face hub: check the connection, "
                    "or define the task over a local file and name its folder with "
                    "--include-path.",
                ) from error

    if include_path is None:
        return Tasks()
    own = Tasks(include_path=str(include_path), include_defaults=False)
    # A group there may name tasks of the harness.
    return own if set(tasks) <= set(own.all_subtasks) else Tasks(include_path=str(include_path))


def _refuse_unknown(task: str, known: Sequence[str]) -> None:
    if task not in known:
        raise UserError(
            f'lm-evaluation-harness knows no task "{task}".{did_you_mean(task, known)}',
            fix="Its tasks: lm-eval ls tasks. Your own: --include-path FOLDER.",
        )


# --- its results as records -----------------------------------------------------------------------


def _record(
    name: str,
    results: Mapping[str, Any],
    model: EvaluatedModel,
    *,
    limit: int | None,
    context: int,
    of: float,
) -> EvalRecord:
    counted = results.get("n-samples", {}).get(name)
    samples = (results.get("samples") or {}).get(name, [])
    # With several filters, each document stands there once for each of them.
    hashes = {sample["doc_id"]: sample["doc_hash"] for sample in samples}
    digest = hashlib.sha256("\n".join(hashes[i] for i in sorted(hashes)).encode())
    n = None if counted is None else int(counted["effective"])
    settings = {
        "shots": results.get("n-shot", {}).get(name),
        "version": results.get("versions", {}).get(name),
        "limit": limit,
        "subtasks": (results.get("group_subtasks") or {}).get(name) or None,
        "context": context,
        "lm_eval": results.get("lm_eval_version"),
        "seconds_of_all_tasks": round(of, 3),
    }
    return EvalRecord(
        kind="harness",
        model=model,
        data=EvaluatedData(name, digest.hexdigest() if hashes else "", n_documents=n),
        metrics=_metrics(results["results"][name], n),
        settings={key: value for key, value in settings.items() if value is not None},
        seconds=of,
    )


def _metrics(row: Mapping[str, Any], n: int | None) -> dict[str, Metric]:
    """The harness's `acc,none` and `acc_stderr,none` as one metric `acc`; other filters by name."""
    metrics = {}
    for key, value in row.items():
        metric, comma, which = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        stderr = row.get(f"{metric}_stderr,{which}")
        metrics[metric if which == "none" else f"{metric} ({which})"] = Metric(
            value=float(value),
            # "N/A" where the harness knows none.
            stderr=float(stderr) if isinstance(stderr, int | float) else None,
            n=n,
        )
    return metrics
