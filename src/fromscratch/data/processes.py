"""Numbered calls, each in a process of its own, some at the same time.

In: a call and the numbers to make it with. Out: all of them done, or the first trouble. What a call
says on the way arrives here.

Always holds: a process that is killed is noticed at once (a pool of `multiprocessing` waits for it
for ever); when this function ends in whatever way, no process of it is left, and when the program
that called it is killed, its processes end too.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from fromscratch.foundation.errors import UserError

Say = Callable[[object], None]
Call = Callable[[int, Say], None]


@dataclass(frozen=True)
class Died(Exception):  # noqa: N818  (what happened, to be put into words by the caller)
    """A process did not end well, and not by a user's mistake.

    Attributes:
        number: Of the call.
        exit_code: Negative: the signal that killed it. Else it has printed its traceback.
    """

    number: int
    exit_code: int


def run_in_processes(
    call: Call, numbers: Iterable[int], *, at_once: int, hear: Callable[[int, object], None]
) -> None:
    """Makes `call(number, say)` for every number.

    Args:
        call: Can be pickled.
        numbers: Begun in this order.
        at_once: So many processes at the same time.
        hear: Called here with a number and what its call said.

    Raises:
        UserError: As raised by a call; the other processes are ended.
        Died: A process died; the others are ended.
    """
    # Not forked: a copy of a process that has threads may hang.
    context = multiprocessing.get_context("spawn")
    waiting = deque(numbers)
    running: dict[Connection, tuple[int, SpawnProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                number = waiting.popleft()
                here, there = context.Pipe(duplex=False)
                process = context.Process(target=_in_the_child, args=(call, number, there))
                process.start()
                there.close()  # so that its end is seen here when the process has ended
                running[here] = number, process
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                number, process = running[connection]
                try:
                    said = connection.recv()
                except EOFError:
                    process.join()
                    del running[connection]
                    if process.exitcode:
                        raise Died(number, process.exitcode) from None
                    continue
                if isinstance(said, UserError):
                    raise said
                hear(number, said)
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()


def _in_the_child(call: Call, number: int, connection: Connection) -> None:
    # Ctrl-C reaches all processes of a terminal; the first one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, name="parent", daemon=True).start()
    try:
        call(number, connection.send)
    except UserError as error:
        connection.send(error)


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
