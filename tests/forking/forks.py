"""The process that forks, from a test's side."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import shlex
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.forking.client import begin, ended

HERE = Path(__file__).parent
PLAIN = {"NO_COLOR": "1", "COLUMNS": "200"}
"""What of the environment is looked at while importing, and so is the same for all commands."""


@dataclass
class Answer:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


class Process:
    """A command that runs, as far as `subprocess.Popen` has the same."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self._connection = connection
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended."""
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("fromscratch", timeout or 0.0)
            self.returncode = ended(self._connection)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """As the system would."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it without warning."""
        self.send_signal(signal.SIGKILL)


@functools.cache
def shared_forks() -> Forks:
    """The one of this process, for those that no fixture reaches; the session's end closes it."""
    return Forks()


class Forks:
    """Runs commands in forks of one process, which is started when it is needed."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._server: subprocess.Popen[str] | None = None
        self._starting = threading.Lock()  # several ranks may be the first to ask, at once

    @property
    def socket(self) -> str:
        """The address; there is somebody listening."""
        path = str(Path(self._folder.name, "socket"))
        with self._starting:
            if self._server is None:
                self._server = subprocess.Popen(
                    [sys.executable, str(HERE / "server.py"), path],
                    env=os.environ | PLAIN,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                assert self._server.stdout is not None
                assert self._server.stdout.readline() == "ready\n"
        return path

    def run(
        self,
        *arguments: str,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        before: Path | None = None,
    ) -> Answer:
        """Runs one command to its end, without anything on its standard input.

        Args:
            arguments: Of `fromscratch`.
            cwd: Where it runs.
            environment: What it sees besides this process's.
            before: A program in Python that the process runs first; it may end the process.
        """
        with (
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
            open(os.devnull, "rb") as nothing,
        ):
            running, _ = begin(
                self.socket,
                arguments,
                cwd=str(cwd),
                environment=os.environ | PLAIN | dict(environment or {}),
                before=before,
                streams=[file.fileno() for file in (nothing, out, err)],
            )
            code = ended(running)
            said = []
            for file in (out, err):
                file.seek(0)
                said.append(file.read().decode("utf-8").replace("\r\n", "\n"))
        return Answer(code, *said)

    def start(
        self,
        *arguments: str | Path,
        cwd: Path,
        stderr: IO[bytes] | None = None,
        before: Path | None = None,
    ) -> Process:
        """Starts one command; what it says, but for errors, goes nowhere. Else as `run`."""
        with open(os.devnull, "r+b") as nothing:
            files = (nothing, nothing, stderr or nothing)
            streams = [file.fileno() for file in files]
            running, process = begin(
                self.socket,
                [str(argument) for argument in arguments],
                cwd=str(cwd),
                environment=os.environ | PLAIN,
                before=before,
                streams=streams,
            )
            return Process(running, process)

    def program(self, path: Path) -> None:
        """Makes `path` an executable that does what `fromscratch` does."""
        client = [sys.executable, "-S", "-E", str(HERE / "client.py"), self.socket]
        path.write_text(f'#!/bin/sh\nexec {shlex.join(client)} "$@"\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def close(self) -> None:
        """Ends the process that forks."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        self._folder.cleanup()
