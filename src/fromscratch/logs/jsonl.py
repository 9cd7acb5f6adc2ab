"""One JSON object a line, with a step in it: the commonest log of all.

The names of the values are looked up in keys.py. Rows of training, validation and samples may stand
in one file or in several. Where the step goes back, another session has appended to the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from fromscratch.logs.items import Item, Progress, Restart, Samples, SessionStart
from fromscratch.logs.keys import is_record, plain, rows_of, step_in
from fromscratch.logs.lines import Line, LineParser, lines


class JsonLines:
    """The format."""

    name = "jsonl"
    about = '{"step": 100, "train_loss": 4.1, ...} on each line'
    first_step = 1
    restart: Restart = "another run"

    def matches(self, path: Path, most_bytes: int | None) -> int:
        found = 0
        for line in lines(path, most_bytes=most_bytes):
            row = _row(line)
            found += row is not None and is_record(row)
        return found

    def read(self, path: Path, progress: Progress) -> Iterator[Item]:
        return _Parser().read(lines(path, progress))


class _Parser(LineParser):
    def __init__(self) -> None:
        self._last = -1

    def line(self, line: Line) -> Iterator[Item]:
        if not line.text.strip():
            return
        row = _row(line)
        if row is None:
            why = "no JSON object" if line.whole else "a last line that is cut off"
            yield line.unread(why, damaged=line.text.lstrip().startswith(("{", '"')))
            return
        items = list(rows_of(row))
        step = step_in({plain(name): value for name, value in row.items()})
        if step is None:
            yield line.unread("no usable step", damaged=False)
        elif not items:
            yield line.unread("nothing that a log of training has", damaged=False)
        elif not all(isinstance(item, Samples) for item in items):
            if step < self._last:
                yield SessionStart(f"the steps went back from {self._last:,}")
            self._last = step
        yield from items


def _row(line: Line) -> dict[str, object] | None:
    if not line.text.lstrip().startswith("{"):
        return None
    try:
        row = json.loads(line.text)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
