"""One thread that works while training goes on, on one thing at a time.

Always true: whoever starts a second piece of work, or ends, has waited for the first. Waiting wakes
up regularly, so that a signal (a second Ctrl-C) is heard meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

_HEARING_SECONDS = 0.2


class Background:
    """Does one piece of work at a time, in a thread that starts with the first."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._work: Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether work is under way, or its end has not been collected yet."""
        return self._work is not None

    @property
    def done(self) -> bool:
        """Whether work has ended that was not collected yet."""
        return self._work is not None and self._work.done()

    def start(self, work: Callable[[], None]) -> None:
        """Begins a piece of work; the one before has been collected."""
        assert self._work is None, "two at a time"
        self._work = self._executor.submit(work)

    def collect(self) -> BaseException | None:
        """Waits for the work under way; returns what it raised."""
        assert self._work is not None, "nothing to collect"
        while not self._work.done():
            wait([self._work], timeout=_HEARING_SECONDS)
        error = self._work.exception()
        self._work = None
        return error

    def close(self) -> None:
        """Ends the thread once its work is done."""
        self._executor.shutdown(wait=True)
