"""What a run's rows can be drawn against: steps, tokens, hours.

What always holds: each axis ascends, so that a curve never runs back over itself. A clock that was
set back stands still until it has caught up; an axis that the files do not tell is None.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fromscratch.report.record import FloatArray, RunRecord, Table
from fromscratch.report.series import IntArray

_HOUR = 3600.0


@dataclass(frozen=True, eq=False)
class Course:
    """Where some rows lie on each axis.

    Attributes:
        step: Shape (n,), ascending.
        tokens: Trained on by then, never falling; None if unknown.
        hours: Of training by then, never falling; None if unknown.
    """

    step: FloatArray
    tokens: FloatArray | None = None
    hours: FloatArray | None = None

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.step)

    def at(self, rows: IntArray) -> Course:
        """The same of some of the rows, by ascending index."""
        return Course(
            self.step[rows],
            None if self.tokens is None else self.tokens[rows],
            None if self.hours is None else self.hours[rows],
        )


@dataclass(frozen=True)
class Clock:
    """What a run's training rows say about tokens and hours, for rows that do not say it."""

    training: Course

    @classmethod
    def of(cls, record: RunRecord) -> Clock:
        """The clock of a run."""
        table = record.training
        return cls(
            Course(
                table.step,
                _ascending(table.step, table.column("tokens")),
                _hours(table.step, table.column("seconds")),
            )
        )

    def course(self, table: Table) -> Course:
        """The course of another table's rows: what they say themselves, else what training says."""
        tokens = _ascending(table.step, table.column("tokens"))
        if tokens is None:
            tokens = self._between(table.step, self.training.tokens)
        # Through the training rows: a clock that was set back is put right once, for all alike.
        hours = self._between(table.step, self.training.hours)
        if hours is None:
            hours = _hours(table.step, table.column("seconds"))
        return Course(table.step, tokens, hours)

    def _between(self, step: FloatArray, values: FloatArray | None) -> FloatArray | None:
        """Straight lines between the training rows; before the first one, on from the origin."""
        known = self.training.step
        if values is None or not len(known):
            return None
        if known[0] > 0:
            known, values = np.append(0.0, known), np.append(0.0, values)
        return np.interp(step, known, values)


def _ascending(step: FloatArray, values: FloatArray) -> FloatArray | None:
    """The values without gaps and without falls; None if most are missing."""
    known = np.isfinite(values) & (np.abs(values) < 1e18)
    if len(values) == 0 or known.mean() < 0.5:
        return None
    return np.interp(step, step[known], np.maximum.accumulate(values[known]))


def _hours(step: FloatArray, seconds: FloatArray) -> FloatArray | None:
    """Hours so far; where the clock was set back it goes on from what it said before."""
    known = np.isfinite(seconds) & (np.abs(seconds) < 1e12)
    if len(seconds) == 0 or known.mean() < 0.5:
        return None
    clock = seconds[known]
    gone = max(float(clock[0]), 0.0) + np.append(0.0, np.cumsum(np.maximum(np.diff(clock), 0.0)))
    return np.asarray(np.interp(step, step[known], gone) / _HOUR)
