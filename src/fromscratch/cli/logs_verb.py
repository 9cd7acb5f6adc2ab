"""`fromscratch logs import`: other people's logs as a run of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from fromscratch.cli.show import print_json, print_warning, say
from fromscratch.cli.verb_group import Verbal
from fromscratch.cli.vocabulary import argument, option

if TYPE_CHECKING:
    from fromscratch.logs.record import ImportRecord, NotRead

app = Verbal()

_SHOWN = 20


@app.callback()
def _group() -> None:
    """Reads logs that other trainers wrote.

    Example: fromscratch logs import logs/*.log --out runs/theirs
    """


@app.command("import")
def import_(
    sources: list[Path] = argument("FILE_OR_FOLDER"),
    out: Path = option("out", ..., of="the run's folder"),
    log_format: str = option("format", "auto"),
    name: str = option("name", of="the run", show_default="the folder's name"),
    tokens_per_step: int = option("tokens-per-step"),
    which: int = option("which", show_default="the last"),
    no_picture: bool = option("no-picture", False),
    as_json: bool = option("json", False),
) -> None:
    """Turns logs of any trainer into a run folder that `report` can show and compare.

    Example: fromscratch logs import out/train.log --out runs/nanogpt
    """
    from fromscratch.cli.progress import bytes_a_second, progress
    from fromscratch.logs.importing import ImportOptions, import_logs

    options = ImportOptions(log_format, name, tokens_per_step, which, not no_picture)
    with progress(bytes_a_second) as report:
        record = import_logs(
            sources, out, options, progress=lambda done, total: report("reading", done, total)
        )
    if as_json:
        print_json(json.loads(record.to_json()))
        return
    _print(record, out)


def _print(record: ImportRecord, out: Path) -> None:
    read = len(record.files)
    say(f"read {read:,} file{'s' * (read != 1)} as {', '.join(record.formats)}")
    for line in _content(record):
        say(f"  {line}")
    if len(record.parts) > 1:
        runs = "; ".join(
            f"{n}: {p['rows']:,} rows, steps {p['first_step']:,} to {p['last_step']:,}"
            for n, p in enumerate(record.parts, start=1)
        )
        print_warning(
            f"The logs hold {len(record.parts)} runs, one after the other ({runs}). "
            f"This is number {record.part}; --which takes another."
        )
    if record.damaged:
        say(f"could not be read: {record.damaged:,} line{'s' * (record.damaged != 1)}")
        _list(record.not_read)
    if record.other:
        say(f"no record of training: {record.other:,} line{'s' * (record.other != 1)}")
        if not record.damaged:
            _list(record.not_recognised[:3])
    if record.skipped:
        say(f"skipped: {len(record.skipped):,} file{'s' * (len(record.skipped) != 1)}")
        _list(record.skipped)
    say(f"wrote {out}; now: fromscratch report {out}")


def _content(record: ImportRecord) -> list[str]:
    lines = []
    if record.steps:
        span = f"steps {record.first_step:,} to {record.last_step:,}"
        when = f", {record.first_time} to {record.last_time}" if record.first_time else ""
        lines.append(f"{record.steps:,} rows of training, {span}{when}")
    lines += [f"{n:,} validations of {name}" for name, n in record.validations.items()]
    if record.scores:
        lines.append(f"{record.scores:,} benchmark scores")
    if record.samples:
        lines.append(f"{record.samples:,} samples")
    events = {"checkpoint": "checkpoints", "resumed": "resumes", "stopped": "interruptions"}
    counted = [f"{record.events[k]:,} {word}" for k, word in events.items() if record.events.get(k)]
    if counted:
        lines.append(", ".join(counted))
    if record.logged_again:
        lines.append(f"{record.logged_again:,} steps were logged more than once; the newest counts")
    if record.not_finite:
        lines.append(f"{record.not_finite:,} losses are nan or inf")
    if record.without_loss:
        lines.append(f"{record.without_loss:,} rows without a loss were left out")
    if record.estimated_seconds:
        lines.append("training time: worked out from the steps that were logged")
    return lines


def _list(rows: tuple[NotRead, ...]) -> None:
    for row in rows[:_SHOWN]:
        place = row.file if row.line is None else f"{row.file}:{row.line}"
        say(f"  {place}: {row.why}" + (f": {row.text}" if row.text else ""))
