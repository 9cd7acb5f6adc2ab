"""Asks the process that forks (server.py) for a command, and ends as that ended.

python client.py SOCKET ARGUMENT...
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence


def begin(
    path: str,
    arguments: Sequence[str],
    *,
    cwd: str,
    environment: Mapping[str, str],
    streams: Sequence[int],
    before: object = None,
) -> tuple[socket.socket, int]:
    """Starts a command; returns where its end will be told, and its process.

    Args:
        path: The server's socket.
        arguments: Of `fromscratch`.
        cwd: Where it runs.
        environment: What it sees.
        streams: Descriptors of its standard input, output and error.
        before: The path of a program in Python that it runs first.
    """
    job: dict[str, object] = {
        "arguments": list(arguments),
        "cwd": cwd,
        "environment": dict(environment),
    }
    if before is not None:
        job["before"] = str(before)
    message = json.dumps(job).encode()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    connection.sendall(len(message).to_bytes(8, "big"))
    sent = socket.send_fds(connection, [message], list(streams))
    connection.sendall(message[sent:])
    return connection, int.from_bytes(connection.recv(8, socket.MSG_WAITALL), "big")


def ended(connection: socket.socket) -> int:
    """The exit code of a command that was started; negative: the signal that ended it."""
    with connection:
        code = connection.recv(16)
    assert code, "the process that forks has ended"
    return int(code)


if __name__ == "__main__":
    here = os.getcwd()  # noqa: PTH109 (pathlib would take longer to import than all the rest)
    running, _ = begin(
        sys.argv[1], sys.argv[2:], cwd=here, environment=os.environ, streams=(0, 1, 2)
    )
    code = ended(running)
    sys.exit(code if code >= 0 else 128 - code)
