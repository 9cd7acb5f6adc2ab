"""Where the rows of an imported run come from: another trainer's logs.

In: what import.json says, which may be damaged like any file. Out: a section of the page; empty for
a run of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fromscratch.report.markup import Html, tag
from fromscratch.report.numerals import count
from fromscratch.report.record import number

_FILES = 40
_LINES = 20
_DIGITS = 12  # of a hash, enough to compare by eye


def imported(said: Mapping[str, Any] | None) -> Html:
    """The logs that a run was made from, and their lines that could not be read."""
    if said is None:
        return Html()
    files = [row for row in _list(said, "files") if isinstance(row, Mapping)]
    heads = ("File", "Format", "Training rows", "Validations", "Samples", "Damaged", "sha256")
    head = tag("tr", *(tag("th", name, scope="col") for name in heads))
    grid = tag("table", tag("thead", head), tag("tbody", *map(_row, files[:_FILES])))
    unread = [row for row in _list(said, "not_read") if isinstance(row, Mapping)]
    parts = [
        tag("h2", "Imported"),
        tag("p", "These rows were logged by another trainer.", class_="note"),
        tag("div", grid, class_="scroll numbers"),
    ]
    if unread:
        parts.append(tag("h3", "Lines that could not be read"))
        parts.append(tag("ul", *map(_unread, unread[:_LINES])))
    return tag("section", *parts, id="imported")


def _list(said: Mapping[str, Any], key: str) -> list[Any]:
    value = said.get(key)
    return value if isinstance(value, list) else []


def _row(file: Mapping[str, Any]) -> Html:
    cells = [
        tag("td", tag("code", str(file.get("path", "")))),
        tag("td", str(file.get("format", ""))),
    ]
    for key in ("steps", "validations", "samples", "damaged"):
        value = number(file.get(key))
        cells.append(tag("td", "" if value is None else count(value)))
    cells.append(tag("td", tag("code", str(file.get("sha256", ""))[:_DIGITS])))
    return tag("tr", *cells)


def _unread(row: Mapping[str, Any]) -> Html:
    line = number(row.get("line"))
    where = str(row.get("file", "")) + ("" if line is None else f" line {count(line)}")
    text = str(row.get("text", ""))
    return tag("li", tag("code", where), f": {row.get('why', '')} ", tag("q", text) if text else "")
