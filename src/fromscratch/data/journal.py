"""How far a preparation has come, so that a killed one goes on where it was.

The journal is written after everything that it counts has been forced to the disk, and replaces the
one before it in one step. Whatever lies on the disk beyond it is cut off when work goes on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fromscratch.data.documents import SPLITS, Split
from fromscratch.data.encoding import Cursor
from fromscratch.data.reading import LISTED
from fromscratch.data.shards import Shard
from fromscratch.data.sources import Documents, SourceReport
from fromscratch.data.writer import OpenShard
from fromscratch.foundation.files import dump_json, read_json, write_atomically
from fromscratch.foundation.names import DATA_JOURNAL


@dataclass
class SourceProgress:
    """What a source has given so far.

    Attributes:
        documents: Documents read, those that were left out as duplicates included.
        bytes: UTF-8 bytes of their text.
        files_skipped: Files, or records, that gave none.
        duplicates: Documents left out.
        sha256: Chained over the documents' keys in order.
        skipped: The first of those that gave none, with the reason.
        notes: What was read in another way than its maker may have meant.
    """

    documents: int = 0
    bytes: int = 0
    files_skipped: int = 0
    duplicates: int = 0
    sha256: str = ""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    def take_over(self, report: SourceReport) -> None:
        """Adds what a stretch of reading met."""
        self.files_skipped += report.n_skipped
        self.skipped += report.skipped[: LISTED - len(self.skipped)]
        self.notes += report.notes[: LISTED - len(self.notes)]


@dataclass
class Journal:
    """The committed state of a preparation.

    Attributes:
        job: Hash of all that determines its result; another job does not go on with it.
        documents: By source, the kind of documents that `auto` came to.
        cursor: Where reading goes on.
        sources: By number.
        shards: Those that are complete.
        origins: By number, where a source lies: of the hub, with the commit.
        source: The number of the source that is being written.
        open: By split, its shard that is not complete.
    """

    job: str
    documents: list[Documents]
    sources: list[SourceProgress]
    cursor: Cursor = field(default_factory=Cursor)
    shards: list[Shard] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    source: int = 0
    open: dict[Split, OpenShard] = field(
        default_factory=lambda: {split: OpenShard() for split in SPLITS}
    )

    @property
    def documents_read(self) -> int:
        """Documents read from all sources."""
        return sum(source.documents for source in self.sources)

    def save(self, folder: Path) -> None:
        """Replaces the journal in `folder`."""
        write_atomically(folder / DATA_JOURNAL, dump_json(asdict(self)))


def journal_origins(folder: Path) -> list[str]:
    """Where the sources of an interrupted preparation lie; none where there is none."""
    path = folder / DATA_JOURNAL
    return list(read_json(path)["origins"]) if path.is_file() else []


def load_journal(folder: Path, job: str) -> Journal | None:
    """The journal of an interrupted preparation; None where there is none of this very job."""
    path = folder / DATA_JOURNAL
    if not path.is_file():
        return None
    content: dict[str, Any] = read_json(path)
    if content.get("job") != job:
        return None
    content["cursor"] = Cursor(**content["cursor"])
    content["sources"] = [
        SourceProgress(**s | {key: [(a, b) for a, b in s[key]] for key in ("skipped", "notes")})
        for s in content["sources"]
    ]
    content["shards"] = [Shard(**s) for s in content["shards"]]
    content["open"] = {split: OpenShard(**content["open"][split]) for split in SPLITS}
    return Journal(**content)
