"""Ctrl-C while a model writes: the text stops, the program does not.

The first is noted, and looked at between two tokens, so that no token is half done; a second one,
for a model that is stuck in a long computation, interrupts it wherever it is.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether somebody asked to stop.

    Attributes:
        asked: So it is.
    """

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signal's handler."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """A Ctrl-C that comes too late, when the text has just ended, does nothing.

    What is inside takes it as a key, or notes it itself (`stopped_by_ctrl_c`).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def stopped_by_ctrl_c() -> Iterator[Stop]:
    """Yields what notes Ctrl-C as long as the block lasts."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python gives signals to the main thread alone
        return
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
