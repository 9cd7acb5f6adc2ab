"""Real processes, started by torchrun as a person would, on this machine's CPU."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch.distributed.run

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
