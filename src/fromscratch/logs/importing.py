"""Other people's logs into a run folder.

In: files and folders. Out: a folder that `report` shows like one of ours, and import.json in it.
What always holds: the folder is whole or absent, an earlier import in its place stays as it was
until the new one is complete, and nothing else is ever replaced. Nothing inside a log makes an
import fail; what could not be read is counted and listed.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import sha256_of_file, write_atomically
from fromscratch.foundation.names import IMPORT_DATABASE, IMPORTED_PICTURE, RunPaths
from fromscratch.logs.clock import Clock
from fromscratch.logs.collected import TRAINING, Collected, Part
from fromscratch.logs.formats import FORMATS, first_line, format_named, format_of
from fromscratch.logs.items import (
    Fact,
    Item,
    LogFormat,
    Samples,
    ScoreRow,
    StepRow,
    Unread,
    ValidationRow,
)
from fromscratch.logs.picture import picture
from fromscratch.logs.placing import placed
from fromscratch.logs.published import write_published
from fromscratch.logs.rangeflow import RangeFlow
from fromscratch.logs.record import ImportRecord, NotRead, ReadFile, is_import
from fromscratch.logs.trainer_state import TrainerState
from fromscratch.logs.writing import Written, write_run

_LISTED = 20
# Lines before the first row in which its time is looked for.
_LOOKED_AT = 100_000

Progress = Callable[[int, int], None]
"""Told (bytes read, bytes in all)."""


@dataclass(frozen=True)
class ImportOptions:
    """What can be said about an import.

    Attributes:
        format: A format's name, or `auto`.
        name: What the run is called; None for the folder's name.
        tokens_per_step: Tokens that each update trained on, where the log does not say it.
        part: Of a log that holds several runs, which one, from 1; None for the last.
        picture: Whether to draw the four panels, which takes longer than to read a small log.
    """

    format: str = "auto"
    name: str | None = None
    tokens_per_step: int | None = None
    part: int | None = None
    picture: bool = True


def import_logs(
    sources: Sequence[Path],
    out: Path,
    options: ImportOptions | None = None,
    *,
    progress: Progress = lambda done, total: None,
) -> ImportRecord:
    """Reads logs into the run folder `out`.

    Args:
        sources: Files, and folders whose files are looked through.
        out: Made; or replaced, if it is an import.
        options: What cannot be found out.
        progress: Told how far it is.

    Raises:
        UserError: A source is not there, nothing in them can be read, `out` is something else or
            cannot be written.
    """
    options = options or ImportOptions()
    forced = format_named(options.format)
    if options.tokens_per_step is not None and options.tokens_per_step < 1:
        raise UserError(f"--tokens-per-step {options.tokens_per_step} is not a number of tokens.")
    _refuse_foreign(out)
    reading = _Reading()
    logs = _in_order(list(_formats_of(_files(sources, out), forced, reading)))
    if not logs:
        raise _nothing(reading)
    try:
        with placed(out) as folder:
            record = _import_into(folder, out, logs, reading, options, progress)
    except (OSError, sqlite3.OperationalError) as error:  # the logs' own errors were caught
        why = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{out} cannot be written ({why}).", fix="Name another --out, or make room."
        ) from None
    return record


def _import_into(
    folder: Path,
    out: Path,
    logs: list[tuple[Path, LogFormat]],
    reading: _Reading,
    options: ImportOptions,
    progress: Progress,
) -> ImportRecord:
    database = folder / IMPORT_DATABASE
    collected = Collected(database)
    try:
        _read_all(logs, collected, reading, progress)
        parts = collected.parts() or _of_samples_alone(reading)
        if not parts:
            raise _nothing(reading)
        record = _write(folder, out, collected, parts, logs, reading, options)
    finally:
        collected.close()
        database.unlink(missing_ok=True)
    write_atomically(RunPaths(folder).imported, record.to_json())
    return record


# --- which files, in which format -----------------------------------------------------------------


def _refuse_foreign(out: Path) -> None:
    if out.is_dir() and (is_import(out) or not any(out.iterdir())):
        return
    if out.exists() or out.is_symlink():
        raise UserError(
            f"{out} is there already, and is no import of logs.",
            fix="Name another folder with --out.",
        )


def _files(sources: Sequence[Path], out: Path) -> Iterator[Path]:
    """The files to look at: those named in their order, those of a folder by name."""
    seen = set()
    for source in sources:
        if not source.exists():
            raise UserError(f"{source} does not exist.")
        inside = sorted(source.rglob("*"), key=_natural) if source.is_dir() else [source]
        for path in inside:
            hidden = any(p.startswith(".") for p in path.relative_to(source).parts)
            ours = out.resolve() in path.resolve().parents
            if path.is_file() and not hidden and not ours and path.resolve() not in seen:
                seen.add(path.resolve())
                yield path


def _natural(path: Path) -> list[tuple[int, str]]:
    """A key by which 9 comes before 10."""
    return [(int(d) if d else -1, w) for d, w in re.findall(r"(\d+)|(\D+)", str(path))]


def _formats_of(
    files: Iterator[Path], forced: LogFormat | None, reading: _Reading
) -> Iterator[tuple[Path, LogFormat]]:
    for path in files:
        try:
            if path.stat().st_size == 0:
                reading.skipped.append(NotRead(str(path), None, "is empty"))
                continue
            found = forced or format_of(path)
            if found is None:
                why = "no known log"
                reading.skipped.append(NotRead(str(path), None, why, first_line(path)))
                continue
        except OSError as error:
            why = f"cannot be opened ({error.strerror})"
            reading.skipped.append(NotRead(str(path), None, why))
            continue
        yield path, found


def _in_order(logs: list[tuple[Path, LogFormat]]) -> list[tuple[Path, LogFormat]]:
    """By their first time, if all of them tell one; states of one run by how far they went."""
    whens = [_when(path, log_format) for path, log_format in logs]
    if any(when is None for when in whens):
        return logs
    keyed = [(when or ("", 0), log) for when, log in zip(whens, logs, strict=True)]
    return [log for _, log in sorted(keyed, key=lambda pair: pair[0])]


def _when(path: Path, log_format: LogFormat) -> tuple[str, int] | None:
    """What a file is sorted by: a time, or a number of steps; None if it tells neither."""
    of_states = isinstance(log_format, TrainerState)
    last: int | None = None
    try:
        for n, item in enumerate(log_format.read(path, lambda _: None)):
            if isinstance(item, (StepRow, ValidationRow)):
                if not of_states:
                    return None if item.time is None else (item.time, 0)
                last = item.step
            if n > _LOOKED_AT and not of_states:
                return None
    except OSError:
        return None
    return None if last is None else ("", last)


def _nothing(reading: _Reading) -> UserError:
    known = "; ".join(f"{one.name} ({one.about})" for one in FORMATS)
    listed = "; ".join(
        f"{skipped.file} {skipped.why}" + (f" (it begins: {skipped.text})" if skipped.text else "")
        for skipped in reading.skipped[:5]
    )
    more = len(reading.skipped) - 5
    what = "No log of training was found"
    if listed:
        what += f": {listed}" + (f"; and {more:,} more files" if more > 0 else "")
    elif reading.files:
        names = ", ".join(read.path for read in reading.files[:5])
        what += f": {names} read as {reading.files[0].format} has no row"
    return UserError(what + ".", fix=f"Formats, which --format can force: {known}.")


# --- reading --------------------------------------------------------------------------------------


class _Reading:
    """What an import meets on its way."""

    def __init__(self) -> None:
        self.skipped: list[NotRead] = []
        self.files: list[ReadFile] = []
        self.facts: dict[str, Any] = {}
        self.not_read: list[NotRead] = []
        self.not_recognised: list[NotRead] = []
        self.counts: Counter[str] = Counter()

    def take(self, path: Path, item: Item) -> None:
        """Counts an item, and keeps what is no row."""
        if isinstance(item, StepRow):
            self.counts["steps"] += 1
        elif isinstance(item, (ValidationRow, ScoreRow)):
            self.counts["validations"] += 1
        elif isinstance(item, Samples):
            self.counts["samples"] += len(item.texts)
        elif isinstance(item, Fact):
            self.facts[item.name] = item.value
        elif isinstance(item, Unread):
            self.counts["damaged" if item.damaged else "other"] += 1
            listed = self.not_read if item.damaged else self.not_recognised
            if len(listed) < _LISTED:
                listed.append(NotRead(str(path), item.line, item.why, item.text))


def _read_all(
    logs: list[tuple[Path, LogFormat]], collected: Collected, reading: _Reading, progress: Progress
) -> None:
    sizes = [path.stat().st_size for path, _ in logs]
    done = 0

    def more(read: int) -> None:
        nonlocal done
        done += read
        progress(done, sum(sizes))

    for (path, log_format), size in zip(logs, sizes, strict=True):
        before = reading.counts.copy()
        collected.open_file(log_format)
        try:
            for item in log_format.read(path, more):
                reading.take(path, item)
                collected.add(item)
            sha256 = sha256_of_file(path)
        except OSError as error:
            reading.skipped.append(NotRead(str(path), None, f"cannot be read ({error.strerror})"))
            sha256 = ""
        collected.close_file()
        names = ("steps", "validations", "samples", "damaged", "other")
        counts = {name: reading.counts[name] - before[name] for name in names}
        reading.files.append(ReadFile(str(path), log_format.name, size, sha256, **counts))


def _of_samples_alone(reading: _Reading) -> list[Part]:
    return [Part(1, 0, 0, 0)] if reading.counts["samples"] else []


# --- writing --------------------------------------------------------------------------------------


def _write(
    folder: Path,
    out: Path,
    collected: Collected,
    parts: list[Part],
    logs: list[tuple[Path, LogFormat]],
    reading: _Reading,
    options: ImportOptions,
) -> ImportRecord:
    part = parts[-1].number if options.part is None else options.part
    if part not in [one.number for one in parts]:
        raise UserError(f"--which {part}: the logs hold {_runs(len(parts))}.", fix="Count from 1.")
    facts = reading.facts
    if options.tokens_per_step is not None:
        facts["tokens_per_step"] = options.tokens_per_step
    name = options.name or out.resolve().name
    clock = Clock(tokens_per_step=facts.get("tokens_per_step"), first_step=logs[0][1].first_step)
    planned = facts.get("planned_steps")
    written = write_run(RunPaths(folder), collected, part, clock, planned_steps=planned)
    if any(isinstance(log_format, RangeFlow) for _, log_format in logs):
        write_published(folder, collected, part)
    if written.steps and options.picture:
        rows = _pictured(collected, part)
        write_atomically(folder / IMPORTED_PICTURE, picture(rows, written.steps, name))
    return _record(name, collected, parts, part, reading, written)


def _pictured(collected: Collected, part: int) -> Iterator[tuple[int, Mapping[str, Any], bool]]:
    saved = {e.step for e in collected.events(part) if e.kind == "checkpoint"}
    for row in collected.rows(part):
        if row.kind == TRAINING and "loss" in row.values:
            marked = row.step in saved or bool(row.details.get("checkpoint_saved"))
            yield row.step, row.values, marked


def _record(
    name: str,
    collected: Collected,
    parts: list[Part],
    part: int,
    reading: _Reading,
    written: Written,
) -> ImportRecord:
    return ImportRecord(
        name=name,
        files=tuple(reading.files),
        formats=tuple(dict.fromkeys(read.format for read in reading.files)),
        **asdict(written),
        logged_again=collected.logged_again(part),
        parts=tuple(
            {"rows": p.rows, "first_step": p.first_step, "last_step": p.last_step} for p in parts
        ),
        part=part,
        facts=reading.facts,
        damaged=reading.counts["damaged"],
        other=reading.counts["other"],
        not_read=tuple(reading.not_read),
        not_recognised=tuple(reading.not_recognised),
        skipped=tuple(reading.skipped),
    )


def _runs(n: int) -> str:
    return "one run" if n == 1 else f"{n} runs"
