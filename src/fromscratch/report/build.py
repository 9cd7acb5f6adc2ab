"""From run folders to the report's HTML: one run in full, or several compared.

In: folders. Out: one HTML file. The same files always give the same page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fromscratch.foundation.files import write_atomically
from fromscratch.foundation.names import RunPaths
from fromscratch.report import compare_sections, sections, settings
from fromscratch.report.charts import all_charts, charts
from fromscratch.report.document import document
from fromscratch.report.embed import chart_data
from fromscratch.report.evals import evals
from fromscratch.report.health import health
from fromscratch.report.imported import imported
from fromscratch.report.landscape_section import landscape_section
from fromscratch.report.markup import Html, tag
from fromscratch.report.mixture import stages
from fromscratch.report.numerals import percent, significant
from fromscratch.report.read import read_run
from fromscratch.report.record import RunRecord
from fromscratch.report.samples import last_samples, samples
from fromscratch.report.scale_section import scale_section
from fromscratch.report.shown import Shown, shown


@dataclass(frozen=True)
class Rates:
    """What the run's files do not know.

    Attributes:
        price: Dollars an hour and device; None for the list price of a known card.
        watts: Power of a device while it trains; None if unknown.
    """

    price: float | None = None
    watts: float | None = None


def build_report(*runs: Path, rates: Rates | None = None) -> str:
    """The report of one or several run folders as HTML.

    Args:
        runs: The folders; any of their files may be missing or damaged.
        rates: For cost and energy.

    Raises:
        UserError: One of them is no folder.
    """
    return page([(run, read_run(run)) for run in runs], rates=rates)


def write_report(
    *runs: Path, out: Path | None = None, png: Path | None = None, rates: Rates | None = None
) -> Path:
    """Writes the report, whole or not at all, and returns its path.

    Args:
        runs: One run folder, or several to compare.
        out: Where to; `RUN/report.html` of the first run if not given.
        png: Where to write a picture of the main charts, 1200 pixels wide, for a README.
        rates: For cost and energy.

    Raises:
        UserError: One of them is no folder.
    """
    records = [(run, read_run(run)) for run in runs]
    path = RunPaths(runs[0]).report if out is None else out
    write_atomically(path, page(records, rates=rates))
    if png is not None:
        # matplotlib takes longer to import than the page takes to make.
        from fromscratch.report.picture import picture

        write_atomically(png, picture(shown(records)))
    return path


def page(
    records: Sequence[tuple[Path, RunRecord]], *, rates: Rates | None = None, version: str = ""
) -> str:
    """The page of runs that were read already.

    Args:
        records: Each with its folder.
        rates: For cost and energy.
        version: Of the files, for a page that is served and updates itself.
    """
    runs = shown(records)
    made = all_charts(runs)
    if len(runs) > 1:
        before, after = _of_several(runs)
    else:
        before, after = _of_one(records[0][0], runs[0], rates or Rates())
    parts = [_part(name, content, bool(version)) for name, content in before.items()]
    parts.append(charts(made))
    parts += [_part(name, content, bool(version)) for name, content in after.items()]
    title = " \u00b7 ".join(run.label for run in runs) if len(runs) > 1 else runs[0].record.name
    return document(
        f"{title[:80]}: training report",
        _description(runs),
        parts,
        chart_data(made, runs),
        version=version,
    )


Parts = dict[str, Html]


def _of_one(folder: Path, run: Shown, rates: Rates) -> tuple[Parts, Parts]:
    """The parts of a run's page before and after the curves."""
    record, facts = run.record, run.facts
    before = {
        "heading": sections.heading(record, facts),
        "figures": sections.figures(facts),
        "words": sections.words(record, facts),
        "yardsticks": sections.yardsticks(record.yardsticks),
        "evals": evals([run]),
        "scale": scale_section(folder, facts),
    }
    after = {
        "stages": stages(run),
        "health": health(record.health),
        "landscape": landscape_section(folder),
        "validations": sections.validations(record),
        "samples": samples(record, facts),
        "events": sections.events(record.events),
        "cost": sections.cost(facts, price=rates.price, watts=rates.watts),
        "recipe": settings.recipe([run]),
        "environment": sections.environment(record.events),
        "imported": imported(record.imported),
        "unread": sections.unread(("", problem) for problem in record.problems),
        "foot": sections.foot(),
    }
    return before, after


def _of_several(runs: Sequence[Shown]) -> tuple[Parts, Parts]:
    """The parts of a comparison before and after the curves."""
    before = {
        "heading": compare_sections.heading(runs),
        "verdict": compare_sections.verdict(runs),
        "runs": compare_sections.overview(runs),
        "evals": evals(runs),
    }
    after = {
        "recipe": settings.recipe(runs),
        "samples": last_samples(runs),
        "unread": sections.unread((r.label, p) for r in runs for p in r.record.problems),
        "foot": sections.foot(),
    }
    return before, after


def _part(name: str, content: Html, live: bool) -> Html:
    """A part of the page that a page which updates itself replaces when it changes."""
    made = hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()[:16] if live else None
    return tag("div", content, data_part=name, data_made=made)


def _description(runs: Sequence[Shown]) -> str:
    if len(runs) > 1:
        return f"Training report of {', '.join(run.label for run in runs)}."[:300]
    record, facts = runs[0].record, runs[0].facts
    text = f"Training report of {record.name}"
    if facts.accuracy is not None:
        text += f": {percent(facts.accuracy)} of the held-out preferences told apart"
    elif facts.last is not None and facts.last.bpb is not None:
        text += f": {significant(facts.last.bpb)} bits per byte on held-out text"
    return text + "."
