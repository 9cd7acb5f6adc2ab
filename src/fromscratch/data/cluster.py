"""Preparing in many tasks: on this machine's cores, or on the machines of a cluster.

In: what `prepare` takes, a number of tasks, and where they run. Out: the very bytes that `prepare`
would have written alone. Each task writes one part of the work into a folder beside the result, and
the parts are joined at the end by `merge`. The tasks are started, counted and remembered by
datatrove's executors (extra `cluster`); what is done in a task is ours.

Always holds: all tasks read the same commit of a data set on the hub and encode with the same
tokenizer, both settled before the first one starts; the same command again does only what is not
done, and starts over where the text or a setting has changed; a killed task loses at most what
`prepare` loses.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from fromscratch.data.cluster_plan import Plan, PlannedSource, forget_parts
from fromscratch.data.folder import alone_in, check_folder
from fromscratch.data.job import job_of
from fromscratch.data.options import Part, PrepareOptions, usable_cores
from fromscratch.data.prepare import Prepared
from fromscratch.data.settling import as_documents, check_not_empty, tokenizer_for
from fromscratch.data.sources import Source
from fromscratch.data.watching import Advance, Remark, Watch, unwatched
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import dump_json, read_json, temporary_name, write_atomically
from fromscratch.foundation.names import (
    DATA_LOCK,
    PARTS_JOINING_LOGS,
    PARTS_LOGS,
    PARTS_PLAN,
    PARTS_TOKENIZER,
    parts_folder,
)

Executor = Literal["local", "slurm", "ray"]


@dataclass(frozen=True)
class Cluster:
    """Where the tasks run, and what each of them gets.

    Attributes:
        tasks: Into how many parts the work is cut. It changes nothing in the result.
        executor: `local` for this machine, `slurm` or `ray` for a cluster.
        workers: Tasks at the same time; 0 for as many as there are cores (local) or room (others).
        cores: Of a task, on a cluster.
        memory: Bytes of a task, on a cluster.
        partition: Slurm's.
        time: Slurm's limit for a task, as Slurm writes it: `4:00:00`.
        sbatch: Further options of Slurm's `sbatch` by name, such as `account`.
    """

    tasks: int
    executor: Executor = "local"
    workers: int = 0
    cores: int = 1
    memory: int = 4_000_000_000
    partition: str | None = None
    time: str | None = None
    sbatch: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Raises a UserError where a setting makes no sense or is missing."""
        for option, value in (("parts", self.tasks), ("cores", self.cores)):
            if value < 1:
                raise UserError(f"--{option} {value}: at least one is needed.")
        if self.workers < 0:
            raise UserError(f"--workers {self.workers} is not a number of parts.")
        if self.executor == "slurm" and not (self.partition and self.time):
            raise UserError(
                "Slurm must be told where the tasks run, and how long one may take.",
                fix="Say for example --slurm-partition cpu --slurm-time 4:00:00.",
            )

    @property
    def at_once(self) -> int:
        """Tasks at the same time on this machine."""
        return min(self.tasks, self.workers or usable_cores())

    @property
    def threads(self) -> int:
        """Threads that encode in one task: the tasks of a machine share its cores."""
        if self.executor == "local":
            return max(1, usable_cores() // self.at_once)
        return self.cores


@dataclass(frozen=True)
class Queued:
    """Tasks that a cluster does some time later.

    Attributes:
        parts: The folder of their parts and logs.
        tasks_job: What Slurm calls the tasks; None where all had been done before.
        joining_job: What it calls the last step, which joins the parts.
    """

    parts: Path
    tasks_job: str | None
    joining_job: str


def prepare_in_tasks(
    sources: list[Source],
    folder: Path,
    options: PrepareOptions,
    cluster: Cluster,
    *,
    overwrite: bool = False,
    fast: bool = True,
    watch: Watch = unwatched,
) -> Prepared | Queued:
    """Writes the sources' documents as token shards into `folder`, in many tasks.

    Args:
        sources: As of `prepare`.
        folder: As of `prepare`; the parts lie beside it until they are joined. On a cluster, all
            machines must see it, and the sources, under the same path.
        options: As of `prepare`; a tokenizer that needs training is trained here, once.
        cluster: Number and place of the tasks.
        overwrite: Replace finished data in `folder`.
        fast: As of `prepare`.
        watch: As of `prepare`; documents are counted over all tasks that run here.

    Returns:
        What was prepared; of Slurm, what was queued.

    Raises:
        UserError: As `prepare` and `merge`; a task was killed; datatrove, Slurm or Ray is missing.
    """
    options.check()
    cluster.check()
    _check_installed(cluster)
    if cluster.executor == "slurm" and any(source.is_standard_input for source in sources):
        raise UserError(
            "Standard input is gone by the time that Slurm starts the tasks.",
            fix="Put the text into a file that all machines see, and name that.",
        )
    folder = folder.resolve()
    check_folder(folder, overwrite=overwrite)
    parts = parts_folder(folder)
    _check_parts(parts)
    # Only now, because this imports datatrove.
    from fromscratch.data.cluster_engine import queue_on_slurm, run_here, run_on_ray

    with alone_in(parts):
        plan = _plan(sources, folder, options, cluster, overwrite, fast, watch)
        if cluster.executor == "slurm":
            return Queued(parts, *queue_on_slurm(plan, cluster))
        if cluster.executor == "ray":
            run_on_ray(plan, cluster)
        else:
            run_here(plan, cluster, _Total(plan, watch))
        made = plan.join(watch)
        _remove_logs(parts)
        (parts / PARTS_PLAN).unlink()
    with contextlib.suppress(OSError):  # somebody has put something into it
        parts.rmdir()
    idle = _idle_tasks(sources, cluster.tasks)
    if idle:
        note = f"{idle} of them had nothing to do: a file, or a row group of Parquet, is not cut"
        made = replace(made, notes=[*made.notes, (f"--parts {cluster.tasks}", note)])
    return made


def _idle_tasks(sources: list[Source], tasks: int) -> int:
    sizes = [portion.size for source in sources for portion in source.portions()]
    slices = [Part(index, tasks).slice(sizes) for index in range(tasks)]
    return sum(part.start == part.stop for part in slices)


class _Total:
    """Adds up what several tasks tell of their work; what they all remark is passed on once."""

    def __init__(self, plan: Plan, watch: Watch) -> None:
        self._watch = watch
        self._tasks = plan.tasks
        self._finished = sum(map(plan.is_finished, range(plan.tasks)))
        self._advances: dict[int, Advance] = {}
        self._remarks: set[Remark] = set()

    def __call__(self, task: int, event: Advance | Remark) -> None:
        if isinstance(event, Remark):
            if event not in self._remarks:
                self._remarks.add(event)
                self._watch(event)
            return
        if event.stage != "tokens":
            self._watch(event)
            return
        self._advances[task] = event
        told = self._advances.values()
        share = sum(advance.share or 0.0 for advance in told) + self._finished
        self._watch(
            Advance(
                "tokens",
                sum(advance.documents for advance in told),
                sum(advance.bytes for advance in told),
                share / self._tasks,
            )
        )


def _plan(
    sources: list[Source],
    folder: Path,
    options: PrepareOptions,
    cluster: Cluster,
    overwrite: bool,
    fast: bool,
    watch: Watch,
) -> Plan:
    """Settles what all tasks must agree on; keeps what an earlier run of the same has settled."""
    parts = parts_folder(folder)
    earlier = read_json(parts / PARTS_PLAN) if (parts / PARTS_PLAN).is_file() else {}
    origins = earlier.get("origins", [])
    if len(origins) == len(sources):
        # A data set on the hub that has changed meanwhile is gone on with as it was.
        sources = [s.pinned(whence) for s, whence in zip(sources, origins, strict=True)]
    wanted = {
        "job": job_of(sources, options, None),
        "tasks": cluster.tasks,
        "origins": [source.whence for source in sources],
    }
    if earlier != wanted:
        # Nothing is written or removed before all that can be refused has been.
        check_not_empty(sources)
        read = as_documents(sources, [options.documents] * len(sources))
        tokenizer = tokenizer_for(read, options, watch)
        forget_parts(parts)
        _remove_logs(parts)
        (parts / PARTS_TOKENIZER).mkdir()
        tokenizer.save(parts / PARTS_TOKENIZER)
        write_atomically(parts / PARTS_PLAN, dump_json(wanted))
    return Plan(
        sources=tuple(PlannedSource.of(source) for source in sources),
        options=replace(options, tokenizer=str(parts / PARTS_TOKENIZER)),
        data=folder,
        overwrite=overwrite,
        directory=Path.cwd(),
        tasks=cluster.tasks,
        threads=cluster.threads,
        fast=fast,
    )


def _remove_logs(parts: Path) -> None:
    """Removes what datatrove wrote: logs, and which tasks are completed."""
    for name in (PARTS_LOGS, PARTS_JOINING_LOGS):
        shutil.rmtree(parts / name, ignore_errors=True)


def _check_parts(parts: Path) -> None:
    """Raises a UserError where the folder for parts holds something of somebody else."""
    litter = {DATA_LOCK, temporary_name(PARTS_PLAN)}
    if parts.is_dir() and (parts / PARTS_PLAN).is_file():
        return
    if parts.exists() and (parts.is_file() or {p.name for p in parts.iterdir()} - litter):
        raise UserError(
            f"{parts}, where the parts would be prepared, holds something else; nothing was "
            "touched.",
            fix="Choose another --out.",
        )


def _check_installed(cluster: Cluster) -> None:
    """Raises a UserError where what the executor needs is not there."""
    if importlib.util.find_spec("datatrove") is None:
        raise UserError(
            "Preparing in tasks needs datatrove.", fix="pip install 'fromscratch[cluster]'"
        )
    if cluster.executor == "ray" and importlib.util.find_spec("ray") is None:
        raise UserError("Preparing on a Ray cluster needs ray.", fix="pip install ray")
    if cluster.executor == "slurm" and shutil.which("sbatch") is None:
        raise UserError(
            "Slurm's command sbatch is not on this machine.",
            fix="Run this where you start jobs of the cluster, or leave --executor slurm out.",
        )
