"""How a source's files are read, and what is said about those that cannot be.

Every reader of this room takes a `Reading` and fills a `SourceReport`. Bad input is refused with a
sentence that names the file and the position in it (`on_bad="stop"`), or left out and listed
(`"skip"`), by the one function `bad_input`; a reader that can go on behind the bad place calls it
and goes on, one that cannot raises `BadInput`, which ends the reading of that portion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fromscratch.foundation.errors import UserError

Documents = Literal["auto", "file", "passage", "paragraph"]

LISTED = 1_000
"""So many things that gave no document are named, and so many remarks; the rest is counted."""


@dataclass(frozen=True)
class Reading:
    """How a source's files are read; the same for all of them.

    Attributes:
        documents: What a document of plain text is: the whole file, a passage of about 4,000
            characters, or a paragraph (what stands between blank lines). `auto` is for `prepare` to
            decide; until then it reads as `file`. Records of JSON and Parquet are documents as they
            are.
        field: Which field of a JSON object or column of a Parquet file is the text. `meta.text` is
            the field of that name, or else the field `text` inside `meta`.
        render: Name of a chat template: the records are conversations, and their text is rendered
            by it. None where records have a text.
        on_bad: Whether what cannot be read ends in an error or is left out and listed.
        max_document_bytes: Longest document: bytes of a line of JSON, characters of any other
            text. What is longer is never held in memory, and is bad input; 32 million is some ten
            times the longest novel.
        record: What makes of a record what it is read for, in place of a text (`Document.made`); it
            raises `NotAConversation` where it cannot. Only JSON and Parquet have records.
    """

    documents: Documents = "auto"
    field: str = "text"
    render: str | None = None
    on_bad: Literal["stop", "skip"] = "stop"
    max_document_bytes: int = 32_000_000
    record: Callable[[Mapping[str, Any]], Any] | None = None


@dataclass
class SourceReport:
    """What reading a source met.

    Attributes:
        files: Files (and row groups of Parquet files) that were read to their end.
        n_skipped: How many things gave no document: files, records.
        skipped: Place and reason of the first thousand of them.
        notes: Place and remark: what was read in another way than its maker may have meant.
        share: Tells how much of the portion that is being read has been, from 0 to 1; set by its
            reader.
    """

    files: int = 0
    n_skipped: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    share: Callable[[], float] = field(default=float, compare=False, repr=False)

    def skip(self, place: str, reason: str) -> None:
        """Counts what is left out, and lists it while the list is short."""
        self.n_skipped += 1
        if len(self.skipped) < LISTED:
            self.skipped.append((place, reason))

    def note(self, place: str, remark: str) -> None:
        """Lists a remark while the list is short."""
        if len(self.notes) < LISTED:
            self.notes.append((place, remark))


@dataclass(frozen=True)
class Input:
    """One file on its way to being read.

    Attributes:
        path: Where it lies.
        label: What messages and document ids call it: its path, or where it was downloaded from.
        name: Of the source.
        reading: How to read it.
        named: Whether the user named this very file, rather than a folder or glob around it.
    """

    path: Path
    label: str
    name: str
    reading: Reading
    named: bool = True


class BadInput(Exception):  # noqa: N818  (the input's error, not the program's)
    """Nothing more can be read of this file.

    Args:
        position: Where in it, as `line 3` or `byte 17`; empty for the file as a whole.
        what: What is wrong there, as the end of a sentence: `is not UTF-8`.
        fix: What to do, as a sentence; where empty, only leaving it out is offered.
    """

    def __init__(self, position: str, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.position, self.what, self.fix = position, what, fix


def bad_input(item: Input, report: SourceReport, error: BadInput) -> None:
    """Refuses what is bad, or leaves it out: as the reading says.

    Raises:
        UserError: The reading says to stop.
    """
    place = f"{item.label}, {error.position}" if error.position else item.label
    if item.reading.on_bad == "skip":
        report.skip(place, error.what)
        return
    fix = f"{error.fix} " if error.fix else ""
    leave_out = "`prepare --on-bad skip`" if item.reading.record is None else "chat.on_bad=skip"
    raise UserError(f"{place}: {error.what}.", fix=f"{fix}{leave_out} leaves out what is bad.")
