"""Training time and tokens of each row, from what its log says of them.

In: a run's rows by ascending step. Out: `seconds`, a sum over sessions that never falls, and
`tokens`. A log says the time in one of four ways; what is worked out is exact in the first two:

- `seconds`, which may begin anew: what falls is added to what was before;
- `session_seconds`, which begin anew with each session;
- `step_seconds`, of the logged steps: those between are taken as long as the median of the 21
  logged steps before, because the step after an evaluation is often logged with its time;
- the time of day: within a session its differences; a pause, and a clock that was set back, are
  counted at the pace of the steps before.
"""

from __future__ import annotations

import math
from collections import deque
from datetime import datetime
from statistics import median
from typing import Any

from fromscratch.logs.collected import TRAINING, Row

_RECENT = 21


class Clock:
    """Follows a run from row to row.

    Args:
        tokens_per_step: If known.
        first_step: The number that the log gives to the first update.

    Attributes:
        seconds: Up to the last row; None if the log says nothing of time.
        estimated: Whether any of it was not said but worked out.
    """

    def __init__(self, *, tokens_per_step: int | None, first_step: int) -> None:
        self.seconds: float | None = None
        self.estimated = False
        self._tokens_per_step = tokens_per_step
        self._first_step = first_step
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._before: Row | None = None
        self._reading: float | None = None
        self._moment: datetime | None = None

    def tell(self, row: Row) -> dict[str, Any]:
        """What the row's moment is: `tokens` and `seconds`, as far as they are known."""
        if row.kind == TRAINING:
            self._advance(row)
        known: dict[str, Any] = {}
        if "tokens" not in row.values and self._tokens_per_step is not None:
            # A log that counts from 0 numbers an update by those before it.
            done = row.step + (1 - self._first_step if row.kind == TRAINING else 0)
            known["tokens"] = done * self._tokens_per_step
        if self.seconds is not None:
            known["seconds"] = round(self.seconds, 3)
        return known

    def _advance(self, row: Row) -> None:
        before = self._before
        steps = max(1, row.step - before.step) if before is not None else 1
        same_session = before is not None and before.session == row.session
        spent = self._spent(row, steps, same_session)
        if spent is not None:
            self.seconds = (self.seconds or 0.0) + spent
        self._before = row

    def _spent(self, row: Row, steps: int, same_session: bool) -> float | None:
        """Seconds since the row before."""
        for name in ("seconds", "session_seconds"):
            reading = _finite(row.values.get(name))
            if reading is not None:
                last, self._reading = self._reading, reading
                goes_on = last is not None and reading >= last
                if name == "session_seconds":
                    goes_on = goes_on and same_session
                return reading - last if goes_on and last is not None else reading
        own = _finite(row.values.get("step_seconds"))
        if own is not None:
            self._recent.append(own)
            self.estimated |= steps > 1
            return own + (steps - 1) * median(self._recent)
        return self._by_the_time_of_day(row, steps, same_session)

    def _by_the_time_of_day(self, row: Row, steps: int, same_session: bool) -> float | None:
        if row.time is None:
            return None
        last, self._moment = self._moment, datetime.fromisoformat(row.time)
        if last is None:
            return 0.0
        if same_session and (last.tzinfo is None) == (self._moment.tzinfo is None):
            passed = (self._moment - last).total_seconds()
            if passed >= 0:
                self._recent.append(passed / steps)
                return passed
        self.estimated = True
        return steps * median(self._recent) if self._recent else 0.0


def _finite(value: object) -> float | None:
    """A clock's reading, None for what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None
