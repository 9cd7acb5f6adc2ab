"""Real processes on this machine's CPU: started by torchrun as a person would, or by a fork."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch.distributed.run

from tests.forking.forks import Answer, Forks

PATIENCE = 240.0
"""Seconds after which processes that do nothing are taken for a failure."""


def torchrun(
    *arguments: str | Path, processes: int = 2, restarts: int = 0, cwd: Path, log: Path
) -> subprocess.Popen[bytes]:
    """Starts processes that train together, one thread each; what they say goes into `log`."""
    with open(log, "wb") as said:
        return subprocess.Popen(
            [
                sys.executable, "-m", torch.distributed.run.__name__, "--standalone",
                "--nproc-per-node", str(processes), "--max-restarts", str(restarts),
                *map(str, arguments),
            ],
            cwd=cwd,
            env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200"},
            stdout=said,
            stderr=said,
        )  # fmt: skip


def forked(
    forks: Forks, *arguments: str | Path, cwd: Path, before: Path | None = None, processes: int = 2
) -> list[Answer]:
    """How processes end that were told what torchrun tells its own, and need not import anything.

    Args:
        forks: Where they come from.
        arguments: Of `fromscratch`.
        cwd: Where they run.
        before: A program that each runs first.
        processes: How many.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}

    def run(rank: int) -> Answer:
        mine = world | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
        words = map(str, arguments)
        return forks.run(*words, cwd=cwd, environment=mine, before=before)

    with ThreadPoolExecutor(processes) as pool:
        return list(pool.map(run, range(processes)))


def process_of(launcher: subprocess.Popen[bytes], rank: int) -> int:
    """The process that has this rank."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    for child in children:
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        if f"RANK={rank}".encode() in variables:
            return int(child)
    raise AssertionError(f"no process of rank {rank} among {children}")


def wait_until(launcher: subprocess.Popen[bytes], happened: Callable[[], bool], log: Path) -> None:
    """Returns once something has happened."""
    begin = time.monotonic()
    while not happened():
        assert launcher.poll() is None, f"ended before:\n{log.read_text()[-3000:]}"
        assert time.monotonic() - begin < PATIENCE, f"nothing happens:\n{log.read_text()[-3000:]}"
        time.sleep(0.005)
