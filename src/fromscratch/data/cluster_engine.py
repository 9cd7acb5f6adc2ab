"""A plan on datatrove's executors: this machine, Slurm, Ray.

In: a `Plan`. Out: its parts, prepared; of Slurm, the jobs that will. This module imports datatrove,
and is imported only where tasks are started, and in the tasks themselves.
"""

from __future__ import annotations

import math
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any

from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from loguru import logger

from fromscratch.data.cluster import Cluster
from fromscratch.data.cluster_plan import Plan
from fromscratch.data.processes import Died, Say, run_in_processes
from fromscratch.data.watching import Advance, Remark, Watch
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.names import PARTS_JOINING_LOGS, PARTS_LOGS

_GB = 1_000_000_000
_TELL_SECONDS = 0.5


class PreparePart(PipelineStep):  # type: ignore[misc]
    """The step of a task: its part of the plan.

    Attributes:
        plan: The same for all tasks.
        say: Where the task has a listener: told how the part advances, and of a user's mistake.
    """

    type = "fromscratch"
    name = "prepare a part"

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.say: Say | None = None

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Does task number `rank`; takes and gives no documents of datatrove's."""
        assert world_size == self.plan.tasks
        if self.say is None:
            self.plan.prepare_part(rank)
            return
        try:
            self.plan.prepare_part(rank, _now_and_then(self.say))
        except UserError as error:
            self.say(error)
            raise SystemExit(2) from None  # datatrove would print a traceback of anything else


class JoinParts(PipelineStep):  # type: ignore[misc]
    """The last step: all parts into one.

    Attributes:
        plan: That the parts are of.
    """

    type = "fromscratch"
    name = "join the parts"

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Joins them."""
        self.plan.join()


@dataclass(frozen=True)
class _Task:
    """A task of an executor, as a call in a process of its own."""

    executor: LocalPipelineExecutor

    def __call__(self, rank: int, say: Say) -> None:
        step: PreparePart = self.executor.pipeline[0]
        step.say = say
        # Hugging Face's tokenizers start threads of their own, one for each core of the machine.
        os.environ.setdefault("RAYON_NUM_THREADS", str(step.plan.threads))
        # Of a task that is not the first of its machine, datatrove prints no more than errors.
        self.executor._run_for_rank(rank, local_rank=1)


def run_here(plan: Plan, cluster: Cluster, hear: Callable[[int, Advance | Remark], None]) -> None:
    """Does the tasks on this machine; those that are completed stay as they are.

    datatrove's executor knows which those are, logs and counts. Its own pool of processes is not
    used: it waits for ever for a task whose process was killed.

    Args:
        plan: For all tasks.
        cluster: How many at a time.
        hear: Told how the tasks advance, by their number.

    Raises:
        UserError: A task met a mistake, or was killed.
    """
    executor = LocalPipelineExecutor(
        [PreparePart(plan)],
        tasks=plan.tasks,
        workers=cluster.at_once,
        logging_dir=str(plan.parts / PARTS_LOGS),
    )
    executor.save_executor_as_json()
    try:
        run_in_processes(
            _Task(executor),
            executor.get_incomplete_ranks(),
            at_once=cluster.at_once,
            hear=hear,  # type: ignore[arg-type]  # steps say nothing else
        )
    except Died as died:
        if died.exit_code >= 0:
            raise
        raise UserError(
            f"Task {died.number} of {plan.tasks} was killed ({Signals(-died.exit_code).name}).",
            fix="If memory ran out, take fewer --workers. The same command goes on where the tasks "
            "stopped.",
        ) from None


def run_on_ray(plan: Plan, cluster: Cluster) -> None:
    """Does the tasks on the Ray cluster that `RAY_ADDRESS` names, or on a new one of this machine.

    Raises:
        UserError: Not all tasks came to their end.
    """
    executor = RayPipelineExecutor(
        [PreparePart(plan)],
        tasks=plan.tasks,
        workers=cluster.workers or -1,
        cpus_per_task=cluster.cores,
        mem_per_cpu_gb=_gb_per_core(cluster),
        logging_dir=str(plan.parts / PARTS_LOGS),
    )
    executor.run()
    unfinished = executor.get_incomplete_ranks()
    if unfinished:
        log = plan.parts / PARTS_LOGS / "logs" / f"task_{unfinished[0]:05d}.log"
        raise UserError(
            f"{len(unfinished)} of {plan.tasks} tasks did not come to their end; {log} says why.",
            fix="The same command goes on where the tasks stopped.",
        )


def queue_on_slurm(plan: Plan, cluster: Cluster) -> tuple[str | None, str]:
    """Queues the tasks, and a last job that joins the parts when all of them are done.

    Returns:
        What Slurm calls the two jobs; the first is None where no task is left to do.

    Raises:
        UserError: Slurm does not take them.
    """
    tasks = _slurm(PreparePart(plan), cluster, plan, PARTS_LOGS, tasks=plan.tasks)
    joining = _slurm(JoinParts(plan), cluster, plan, PARTS_JOINING_LOGS, depends=tasks)
    logger.disable("datatrove")
    try:
        joining.launch_job()
    except subprocess.CalledProcessError as error:
        raise UserError(
            f"Slurm did not take the job (sbatch ended with {error.returncode}).",
            fix="What it said stands above. Partition, time and --sbatch account=... are the usual "
            "reasons.",
        ) from None
    finally:
        logger.enable("datatrove")
    return (None if tasks.job_id == -1 else tasks.job_id), joining.job_id


def _slurm(
    step: PipelineStep, cluster: Cluster, plan: Plan, logs: str, *, tasks: int = 1, **more: Any
) -> SlurmPipelineExecutor:
    return SlurmPipelineExecutor(
        [step],
        tasks=tasks,
        time=cluster.time,
        partition=cluster.partition,
        cpus_per_task=cluster.cores,
        mem_per_cpu_gb=_gb_per_core(cluster),
        workers=cluster.workers or -1,
        job_name=f"{plan.data.name}-{step.name.split()[0]}",
        qos=None,  # not every cluster has the one called normal; --sbatch qos=... names one
        # The jobs need this environment's commands; its other variables they get from Slurm.
        env_command=f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
        sbatch_args=cluster.sbatch,
        logging_dir=str(plan.parts / logs),
        **more,
    )


def _gb_per_core(cluster: Cluster) -> int:
    return math.ceil(cluster.memory / cluster.cores / _GB)


def _now_and_then(say: Say) -> Watch:
    """Passes remarks on, and progress often enough for a person."""
    last = 0.0

    def watch(event: Advance | Remark) -> None:
        nonlocal last
        if isinstance(event, Advance):
            if time.monotonic() - last < _TELL_SECONDS:
                return
            last = time.monotonic()
        say(event)

    return watch
