"""What interrupts a run, and what must not: signals, and updates that would poison the weights."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from types import FrameType

from fromscratch.foundation.errors import UserError

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


@dataclass
class UpdateGuard:
    """Counts updates that were refused because loss or gradient was not finite.

    Attributes:
        patience: Refusals in a row after which the run ends.
        in_a_row: Refusals since the last update that was made.
    """

    patience: int = 10
    in_a_row: int = 0

    def see(self, *, applied: bool, step: int) -> None:
        """Takes note of one step.

        Raises:
            UserError: Too many refusals in a row: the run is not learning any more.
        """
        self.in_a_row = 0 if applied else self.in_a_row + 1
        if self.in_a_row >= self.patience:
            raise UserError(
                f"Loss or gradient was not finite in {self.patience} steps in a row, up to step "
                f"{step}; no update was made from them and the weights are those before.",
                fix="Lower optim.lr, check the data of the last steps (events.jsonl names the "
                "windows), and resume.",
            )
