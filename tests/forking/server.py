"""A process that has imported what commands import, and forks one for each that asks.

A process of its own costs a command a second and a half, nearly all of it imports, and the tests
run hundreds. The child takes arguments, folder, environment and standard streams from whoever asks
(client.py), and ends as any process ends. What depends on importing, that `plan` loads no torch
say, is tested with a process of its own.

    python server.py SOCKET
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import termios
import traceback
from typing import Any

from fromscratch.cli.main import main

# Nothing here may start a thread: a fork would take none of them along.
IMPORTED = (
    "torch",
    "torch._dynamo",  # which both ways of training on several ranks import
    "fromscratch.runs.assemble",
    "fromscratch.report.build",
    "fromscratch.cli.chat_console",
    "fromscratch.cli.chat_lines",
    "fromscratch.cli.generate_work",
    "fromscratch.cli.opened_model",
)


def run(job: dict[str, Any], streams: list[int]) -> int:
    """One command in this process; returns its exit code."""
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["environment"])
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    if job["terminal"]:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    sys.argv = ["fromscratch", *job["arguments"]]
    code: object = 0
    try:
        if "before" in job:
            runpy.run_path(job["before"], run_name="__main__")
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return code if isinstance(code, int) else int(code is not None)


def answer(connection: socket.socket) -> None:
    """Runs what a client asks for in a child, and tells the client how it ended."""
    size = int.from_bytes(connection.recv(8, socket.MSG_WAITALL), "big")
    message, streams, _, _ = socket.recv_fds(connection, size, 3)
    while len(message) < size:
        message += connection.recv(size - len(message))
    child = os.fork()
    if child == 0:
        connection.close()
        os._exit(run(json.loads(message), streams))
    connection.sendall(child.to_bytes(8, "big"))
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):  # who started it may have ended
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def serve(path: str) -> None:
    """Answers until standard input, which the tests hold, is closed."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the handlers
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            answer(connection)
            os._exit(0)
        connection.close()


if __name__ == "__main__":
    serve(sys.argv[1])
