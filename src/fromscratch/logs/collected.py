"""Rows of many sessions as one run, in order of steps, with memory that does not grow.

In: items, in the order in which the logs tell them. Out: per step one row. Of a step that was
logged twice the one with the newest time wins; without times, the one read last. What holds: rows
lie in a database beside the result, so a log of any length needs the same memory.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fromscratch.foundation.files import dump_json
from fromscratch.logs.items import (
    Event,
    Item,
    LogFormat,
    Samples,
    ScoreRow,
    SessionStart,
    StepRow,
    Text,
    ValidationRow,
)

TRAINING = "0"  # sorts before the others, as an update comes before what is measured after it
SCORE = "2"
_VALIDATION = "1:"
_BATCH = 2000

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -32000;
CREATE TABLE rows (
    part INT, step INT, kind TEXT, time TEXT, session INT, format TEXT, content TEXT, details TEXT,
    again INT, PRIMARY KEY (part, step, kind)
) WITHOUT ROWID;
CREATE TABLE samples (
    part INT, step INT, time TEXT, session INT, texts TEXT, PRIMARY KEY (part, step)
) WITHOUT ROWID;
CREATE TABLE events (
    number INTEGER PRIMARY KEY, part INT, kind TEXT, step INT, message TEXT, time TEXT, details TEXT
);
"""
_NEWER = "(n.session = rows.session OR n.time IS NULL OR rows.time IS NULL OR n.time >= rows.time)"
# What the same session, or another kind of log, says of the same step is said of the same update.
_TOGETHER = (
    "(n.session = rows.session OR n.format <> rows.format OR n.content NOT LIKE '%\"loss\"%')"
)
_ADD_ROW = f"""
INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)
ON CONFLICT (part, step, kind) DO UPDATE SET
    content = CASE WHEN NOT {_NEWER} THEN content
        WHEN {_TOGETHER} THEN json_patch(content, n.content) ELSE n.content END,
    details = CASE WHEN {_NEWER} AND n.details <> '{{}}' THEN n.details ELSE details END,
    time = CASE WHEN {_NEWER} THEN coalesce(n.time, time) ELSE time END,
    session = CASE WHEN {_NEWER} THEN n.session ELSE session END,
    format = CASE WHEN {_NEWER} THEN n.format ELSE format END,
    again = again + (n.session <> session AND n.format = format)
""".replace("n.", "excluded.")


_ENCODER = json.JSONEncoder(allow_nan=False)  # what json.dumps would make anew for each row


def encoded(values: Mapping[str, Any]) -> str:
    """Values as JSON; a non-finite number becomes its name, as `dump_json` has it."""
    try:
        return _ENCODER.encode(values)
    except ValueError:
        return dump_json(values)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the run.

    Attributes:
        step: As the log numbers it.
        kind: TRAINING, SCORE, or a validation, whose set is then named.
        set: The validation set; empty for others.
        time: ISO 8601, if known.
        session: Which one logged it; equal for rows of one.
        values: By the names of metrics.jsonl and those of the clock.
        details: What only the original's own files show.
    """

    step: int
    kind: str
    set: str
    time: str | None
    session: int
    values: dict[str, Any]
    details: dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One of several runs that stand in one log, one after the other."""

    number: int
    rows: int
    first_step: int
    last_step: int


class Collected:
    """Rows, samples and events that have been read.

    Args:
        path: Where the database goes; it must not exist.
    """

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.executescript(_TABLES)
        self._database.execute("BEGIN")
        self._waiting: list[tuple[Any, ...]] = []
        self._session = 0
        self._start: SessionStart | None = None
        self._undecided = False
        self._held: list[Event] = []
        self._part = 1
        self._began = False  # whether the part has a row
        self._first: dict[tuple[str, str], int] = {}

    def open_file(self, log_format: LogFormat) -> None:
        """What follows was read from another file of this format."""
        self._format = log_format
        self._new_session(SessionStart())

    def add(self, item: Item) -> None:
        """Takes an item in; what is no row, sample or event is passed over."""
        if isinstance(item, StepRow):
            self._row(TRAINING, item, item.details)
        elif isinstance(item, ValidationRow):
            self._row(_VALIDATION + item.set, item, {})
        elif isinstance(item, ScoreRow):
            self._row(SCORE, item, {})
        elif isinstance(item, Samples):
            self._samples(item)
        elif isinstance(item, Event):
            self._event(item)
        elif isinstance(item, SessionStart):
            self._new_session(item)

    def close_file(self) -> None:
        """The file is over; events that waited for its first row are taken as they are."""
        self._undecided = False
        held, self._held = self._held, []
        for event in held:
            self._event(event)

    def close(self) -> None:
        """Closes the database."""
        self._database.close()

    # --- what came out ----------------------------------------------------------------------------

    def parts(self) -> list[Part]:
        """The runs that the logs hold, in their order."""
        self._flush()
        found = self._database.execute(
            "SELECT part, count(*), min(step), max(step) FROM rows GROUP BY part ORDER BY part"
        )
        return [Part(*row) for row in found]

    def rows(self, part: int) -> Iterator[Row]:
        """The part's rows by ascending step; of a step training first."""
        self._flush()
        found = self._database.execute(
            "SELECT step, kind, time, session, content, details FROM rows "
            "WHERE part = ? ORDER BY step, kind",
            (part,),
        )
        for step, kind, time, session, content, details in found:
            name = kind.removeprefix(_VALIDATION) if kind.startswith(_VALIDATION) else ""
            kind = _VALIDATION if name or kind == _VALIDATION else kind
            yield Row(step, kind, name, time, session, json.loads(content), json.loads(details))

    def samples(self, part: int) -> Iterator[Samples]:
        """The part's samples by ascending step."""
        found = self._database.execute(
            "SELECT step, time, texts FROM samples WHERE part = ? ORDER BY step", (part,)
        )
        for step, time, texts in found:
            yield Samples(step, tuple(Text(*text) for text in json.loads(texts)), time)

    def events(self, part: int) -> Iterator[Event]:
        """The part's events in the order of the logs."""
        found = self._database.execute(
            "SELECT kind, step, message, time, details FROM events WHERE part = ? ORDER BY number",
            (part,),
        )
        for kind, step, message, time, details in found:
            yield Event(kind, step, message, time, json.loads(details))

    def count(self, part: int, kind: str) -> int:
        """How many rows of a kind a part has."""
        self._flush()
        pattern = f"{kind}%" if kind == _VALIDATION else kind
        query = "SELECT count(*) FROM rows WHERE part = ? AND kind LIKE ?"
        return int(self._database.execute(query, (part, pattern)).fetchone()[0])

    def logged_again(self, part: int) -> int:
        """How many steps of training another session logged as well."""
        self._flush()
        query = "SELECT count(*) FROM rows WHERE part = ? AND kind = ? AND again > 0"
        return int(self._database.execute(query, (part, TRAINING)).fetchone()[0])

    # --- what goes in -----------------------------------------------------------------------------

    def _new_session(self, start: SessionStart) -> None:
        # A parser that names its session right after the file's own start means that one.
        if not (self._undecided and self._start is not None and not self._start.message):
            self._session += 1
        self._start, self._undecided = start, True

    def _row(self, kind: str, item: StepRow | ValidationRow | ScoreRow, details: Any) -> None:
        if self._undecided:
            self._decide(kind, item)
        self._first.setdefault((self._format.name, kind), item.step)
        self._began = True
        content, more = encoded(item.values), encoded(details) if details else "{}"
        self._waiting.append(
            (
                *(self._part, item.step, kind, item.time, self._session, self._format.name),
                *(content, more),
            )
        )
        if len(self._waiting) >= _BATCH:
            self._flush()

    def _decide(self, kind: str, item: StepRow | ValidationRow | ScoreRow) -> None:
        """With the session's first row: does it go on with the run, or begin another one?"""
        first = self._first.get((self._format.name, kind))
        if self._began and first is None:
            return  # a log of something else, which can tell nothing; a later row may
        start, self._undecided = self._start, False
        assert start is not None, "a session has begun"
        time = start.time or item.time
        again = first is not None and item.step <= first
        if again and self._format.restart == "another run":
            self._part += 1
            self._first, self._began = {}, False
        if not self._began:
            self._store(Event("started", item.step, start.message, time))
        elif self._format.restart == "another run" or start.message:
            self._store(Event("resumed", item.step, start.message, time))
        self.close_file()

    def _samples(self, item: Samples) -> None:
        key = (self._part, item.step)
        texts = [(t.prompt, t.text, t.time, t.original) for t in item.texts]
        found = self._database.execute(
            "SELECT time, session, texts FROM samples WHERE part = ? AND step = ?", key
        ).fetchone()
        if found is not None:
            time, session, before = found
            if session == self._session:
                texts = [*json.loads(before), *texts]
            elif item.time is not None and time is not None and item.time < time:
                return
        self._database.execute(
            "INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?, ?)",
            (*key, item.time, self._session, dump_json(texts)),
        )

    def _event(self, event: Event) -> None:
        if self._undecided:
            self._held.append(event)
        else:
            self._store(event)

    def _store(self, event: Event) -> None:
        self._database.execute(
            "INSERT INTO events (part, kind, step, message, time, details) VALUES (?,?,?,?,?,?)",
            (
                *(self._part, event.kind, event.step, event.message, event.time),
                dump_json(dict(event.details)),
            ),
        )

    def _flush(self) -> None:
        self._database.executemany(_ADD_ROW, self._waiting)
        self._waiting = []
