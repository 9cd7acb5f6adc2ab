"""Noticing that another rank is gone, at once and without guessing from the time that passes.

Each rank listens to rank 0, and rank 0 to each, for a farewell on a connection of their own. When a
process dies, however it dies, its system closes its connections, and the listening fails that very
moment. A rank that is only slow, or stopped, or compiling, is never taken for dead. The listening
is done in threads, since the main thread may wait in a GPU kernel that will never end.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import torch
import torch.distributed as dist

GRACE_SECONDS = 10.0
"""For the main thread to notice by itself; torchrun kills what is left after 30."""


class Tripwire:
    """Listens to other ranks until they say farewell or break off.

    Args:
        group: A gloo group that nothing else uses.
        others: Those to listen to.
        news: Called at once with the rank that is gone.
        last_words: Called with the rank that is gone where the main thread has not ended the
            process in time; the process ends afterwards.
    """

    def __init__(
        self,
        group: dist.ProcessGroup,
        others: list[int],
        news: Callable[[int], None],
        last_words: Callable[[int], None],
    ) -> None:
        self._group = group
        self._others = others
        self._news = news
        self._last_words = last_words
        self._tripped = threading.Event()
        self._gone: int | None = None
        self._over = threading.Event()
        self._listeners = [
            threading.Thread(
                target=self._listen, args=(other,), name=f"listens to rank {other}", daemon=True
            )
            for other in others
        ]
        for thread in self._listeners:
            thread.start()

    def gone(self, *, patience: float = 0.0) -> int | None:
        """The rank that broke off without a farewell, or None; waits for that news so long."""
        self._tripped.wait(patience)
        return self._gone

    def farewell(self) -> None:
        """Tells the others that this rank ends as it should, and hears it from them."""
        self._over.set()
        for other in self._others:
            dist.send(torch.zeros(1), dst=other, group=self._group)
        # A thread that comes back from the network while Python ends would take the process down.
        for thread in self._listeners:
            thread.join(GRACE_SECONDS)

    def _listen(self, other: int) -> None:
        try:
            dist.recv(torch.zeros(1), src=other, group=self._group)
            return
        except RuntimeError:  # gloo: the connection is closed
            if self._over.is_set():
                return
        if self._gone is None:
            self._gone = other
        self._tripped.set()
        self._news(other)
        if not self._over.wait(GRACE_SECONDS):
            self._last_words(other)
            os._exit(1)
