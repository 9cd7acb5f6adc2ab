"""The command line, in this process and in processes of its own."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fromscratch.cli.main import main


@dataclass
class Answer:
    code: int
    out: str
    err: str


def call(*arguments: str | Path) -> Answer:
    """The command line, in this process."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(a) for a in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
    return Answer(code, out.getvalue(), err.getvalue())


def environment() -> dict[str, str]:
    """One thread: as many as the tests in this process use, and they do not fight for cores."""
    return os.environ | {"NO_COLOR": "1", "COLUMNS": "200"}


def start(
    *arguments: str | Path,
    cwd: Path,
    stderr: int | Any = subprocess.DEVNULL,
    threads: int = 1,
    **more: Any,
) -> subprocess.Popen[bytes]:
    """The command line, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "fromscratch", *map(str, arguments)],
        cwd=cwd,
        env=environment() | {"OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        **more,
    )


def send(number: signal.Signals) -> Callable[[], None]:
    """An action: this process receives a signal."""
    return lambda: os.kill(os.getpid(), number)
