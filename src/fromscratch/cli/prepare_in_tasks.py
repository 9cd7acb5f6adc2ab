"""`fromscratch prepare --parts N`: where they are made, and what is told of those that wait."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fromscratch.cli.show import parse_size, print_json, say
from fromscratch.foundation.errors import UserError

if TYPE_CHECKING:
    from fromscratch.data.cluster import Cluster, Queued


class Executor(Enum):
    """Where tasks run."""

    local = "local"
    slurm = "slurm"
    ray = "ray"


@dataclass(frozen=True)
class TaskOptions:
    """What the command line says of tasks; what it does not say is None or empty."""

    parts: int | None
    executor: Executor | None
    workers: int | None
    cores: int | None
    memory: str | None
    slurm_partition: str | None
    slurm_time: str | None
    sbatch: list[str]

    def check(self, part: str | None) -> None:
        """Raises a UserError where an option would have no effect."""
        given = [f.name for f in fields(self) if getattr(self, f.name) not in (None, [])]
        if self.parts is None and given:
            raise UserError(
                f"{_option(given[0])} is said of parts, and there are none.",
                fix="Say how many: --parts 8.",
            )
        if self.parts is not None and part is not None:
            raise UserError(
                "--parts makes all parts, and --part makes one.", fix="Leave one of them out."
            )
        of_slurm = ("slurm_partition", "slurm_time", "sbatch")
        foreign = {
            Executor.slurm: (),
            Executor.ray: of_slurm,
            Executor.local: (*of_slurm, "cores", "memory"),
        }[self.executor or Executor.local]
        for name in given:
            if name in foreign:
                raise UserError(
                    f"{_option(name)} has no effect here.",
                    fix="Name the cluster that it is for: --executor slurm"
                    + (" or ray." if name in ("cores", "memory") else "."),
                )

    def cluster(self) -> Cluster:
        """As the data room takes it.

        Raises:
            UserError: A value is none.
        """
        from fromscratch.data.cluster import Cluster

        assert self.parts is not None
        said: dict[str, Any] = {
            "executor": self.executor and self.executor.value,
            "workers": self.workers,
            "cores": self.cores,
            "memory": self.memory and parse_size(self.memory),
            "partition": self.slurm_partition,
            "time": self.slurm_time,
            "sbatch": dict(_setting(text) for text in self.sbatch),
        }
        if self.workers is not None and self.workers < 1:
            raise UserError(f"--workers {self.workers}: at least one is needed.")
        return Cluster(self.parts, **{k: v for k, v in said.items() if v is not None})


def tell_queued(queued: Queued, to: Path, *, as_json: bool) -> None:
    """What waits in Slurm's queue, and what to do when it is done."""
    if as_json:
        jobs = {"tasks_job": queued.tasks_job, "joining_job": queued.joining_job}
        print_json({"parts": str(queued.parts)} | jobs)
        return
    if queued.tasks_job is None:
        say(f"All tasks are done. Slurm's job {queued.joining_job} will join their parts.")
    else:
        say(f"Queued: Slurm's job {queued.tasks_job} prepares the parts, and")
        say(f"job {queued.joining_job} joins them when all are there.")
    say(f"Logs: {queued.parts}. If a task fails, the same command queues what is left.")
    say("When both are done:")
    say(f"  fromscratch data show {shlex.quote(str(to))}")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _setting(text: str) -> tuple[str, str]:
    """Name and value of `account=NAME`; the value may be missing, as in `exclusive`."""
    name, _, value = text.removeprefix("--").partition("=")
    if not name.strip():
        raise UserError(f'--sbatch "{text}" names no option.', fix="Write --sbatch account=NAME.")
    return name, value
