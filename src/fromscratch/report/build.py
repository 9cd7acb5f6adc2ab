"""From a run folder to `report.html`.

In: the folder. Out: one HTML file that asks nothing of the network: style and script are inside,
and a content security policy forbids every request and every script but the page's own. The same
files always give the same page.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path

from fromscratch.foundation.files import RunPaths, write_atomically
from fromscratch.report import sections
from fromscratch.report.charts import charts
from fromscratch.report.facts import Facts, gather
from fromscratch.report.landscape_section import landscape_section
from fromscratch.report.markup import Html, join, tag
from fromscratch.report.numerals import significant
from fromscratch.report.read import RunRecord, read_run
from fromscratch.report.samples import samples


def build_report(run: Path) -> str:
    """The report of a run folder as HTML.

    Args:
        run: The folder; any of its files may be missing or damaged.

    Raises:
        UserError: `run` is no folder.
    """
    record = read_run(run)
    return _page(run, record, gather(record))


def write_report(run: Path, *, png: Path | None = None) -> Path:
    """Writes `run/report.html`, whole or not at all, and returns its path.

    Args:
        run: The run folder.
        png: Where to write a picture of the main charts, 1200 pixels wide, for a README.

    Raises:
        UserError: `run` is no folder.
    """
    record = read_run(run)
    facts = gather(record)
    path = RunPaths(run).report
    write_atomically(path, _page(run, record, facts))
    if png is not None:
        # matplotlib takes longer to import than the page takes to make.
        from fromscratch.report.picture import picture

        write_atomically(png, picture(record, facts))
    return path


def _page(run: Path, record: RunRecord, facts: Facts) -> str:
    main = tag(
        "main",
        sections.heading(record, facts),
        sections.figures(facts),
        sections.words(record, facts),
        sections.yardsticks(record.yardsticks),
        charts(record, facts),
        landscape_section(run),
        sections.validations(record),
        samples(record, facts),
        sections.events(record.events),
        sections.recipe(record),
        sections.environment(record.events),
        sections.foot(record.problems),
    )
    style, script = _inline("page.css"), _inline("page.js")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="description", content=_description(record, facts)),
        tag("title", f"{record.name}: training report"),
        # An empty icon, or a browser would ask a server for one.
        tag("link", rel="icon", href="data:,"),
        tag("style", style),
    )
    body = tag("body", main, tag("script", script))
    return join([Html("<!DOCTYPE html>\n"), tag("html", head, body, lang="en"), "\n"])


def _inline(name: str) -> Html:
    source = resources.files("fromscratch.report").joinpath(name).read_text(encoding="utf-8")
    assert "</" not in source, "would end its own element"
    return Html(source)


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    # Bars and labels are placed by style attributes, hence unsafe-inline for style only.
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        f"img-src data:; base-uri 'none'; form-action 'none'"
    )


def _description(record: RunRecord, facts: Facts) -> str:
    text = f"Training report of {record.name}"
    if facts.last is not None and facts.last.bpb is not None:
        text += f": {significant(facts.last.bpb)} bits per byte on held-out text"
    return text + "."
