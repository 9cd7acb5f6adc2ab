"""What ends a run from outside: Ctrl-C, SIGTERM, a closed terminal."""

from __future__ import annotations

import os
import signal
from types import FrameType

# SIGHUP is what closing the terminal sends; Windows has none.
_SIGNALS = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class StopSignal:
    """Turns SIGINT, SIGTERM and SIGHUP into a request to save and end.

    A second Ctrl-C ends at once. Under `nohup`, a closed terminal stays ignored.

    A context manager: the handlers before it are restored afterwards. Outside the main thread (a
    notebook's server, say) signals cannot be caught, and the request is never made.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self._ctrl_c = 0
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> StopSignal:
        for number in _SIGNALS:
            if number.name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN:
                continue
            try:
                self._before[number] = signal.signal(number, self._handle)
            except ValueError:  # not the main thread
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.requested is not None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._ctrl_c += number == signal.SIGINT
        if self._ctrl_c == 2:
            os._exit(130)
        self.requested = signal.Signals(number).name
