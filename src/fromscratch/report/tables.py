"""Rows of numbers on their way into a `Table`, one by one, in any order.

What always holds: of two rows for the same step the later one counts, whole; nothing is mixed from
the two. A key whose values were never numbers is no column.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fromscratch.report.record import Table, number

# A file that is no log of ours could name a column in every row.
_COLUMNS = 600


class TableBuilder:
    """Collects rows; `table` may be asked for at any time."""

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._row_of: dict[int, int] = {}
        # A column is as long as the last row that has it; the rest is missing.
        self._columns: dict[str, list[float]] = {}

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._steps)

    def add(self, step: int, values: Mapping[str, Any]) -> bool:
        """Takes a row; returns whether there was one for the step, which it replaces."""
        row = self._row_of.get(step)
        repeated = row is not None
        if row is None:
            row = len(self._steps)
            self._row_of[step] = row
            self._steps.append(step)
        else:
            for column in self._columns.values():
                if row < len(column):
                    column[row] = math.nan
        for key, value in values.items():
            if type(value) is float:
                self._put(row, key, value)
            elif isinstance(value, Mapping):
                name = "{}_lr" if key == "lrs" else f"{key.replace('{', '')}/{{}}"
                for inner, item in value.items():
                    self._put_any(row, name.replace("{}", str(inner)), item)
            elif key != "step":
                self._put_any(row, key, value)
        return repeated

    def _put_any(self, row: int, key: str, value: object) -> None:
        found = None if isinstance(value, Mapping) else number(value)
        if found is not None:
            self._put(row, key, found)

    def _put(self, row: int, key: str, value: float) -> None:
        column = self._columns.get(key)
        if column is None:
            if len(self._columns) >= _COLUMNS:
                return
            column = self._columns[key] = []
        missing = row - len(column)
        if missing < 0:
            column[row] = value
            return
        if missing:
            column.extend([math.nan] * missing)
        column.append(value)

    def table(self) -> Table:
        """All rows by ascending step."""
        steps = np.array(self._steps, dtype=np.float64)
        ordered = bool(np.all(np.diff(steps) > 0))
        order = None if ordered else np.argsort(steps, kind="stable")
        columns = {}
        for key, values in self._columns.items():
            column = np.full(len(steps), np.nan)
            column[: len(values)] = values
            columns[key] = column if order is None else column[order]
        return Table(steps if order is None else steps[order], columns)
