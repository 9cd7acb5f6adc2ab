"""What every task of a preparation must know, as plain values that travel to other machines.

In: sources, settings, where things lie. Out: a part, or all parts joined, done by whoever has the
plan. Each source is opened anew in the process that reads it, at the commit that was settled once.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from fromscratch.data.merge import merge
from fromscratch.data.options import Part, PrepareOptions
from fromscratch.data.prepare import Prepared, prepare
from fromscratch.data.sources import Copies, Reading, Source
from fromscratch.data.watching import Watch, unwatched
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import dump_json, write_atomically
from fromscratch.foundation.names import (
    DATA_PART,
    PARTS_PLAN,
    PARTS_TOKENIZER,
    part_folder,
    parts_folder,
)


@dataclass(frozen=True)
class PlannedSource:
    """A source as plain values, to be opened again in another process at the same commit."""

    name: str
    spec: str
    reading: Reading
    spooled: Path | None
    copies: Copies
    whence: str

    @staticmethod
    def of(source: Source) -> PlannedSource:
        """What it takes to open `source` elsewhere."""
        return PlannedSource(
            source.name,
            source.spec,
            source.reading,
            source.spooled,
            source.copies,
            source.whence,
        )

    def open(self) -> Source:
        """The source."""
        source = Source(self.name, self.spec, self.reading, self.spooled, self.copies)
        return source.pinned(self.whence)


@dataclass(frozen=True)
class Plan:
    """All that a task must know, as plain values that travel to other processes and machines.

    Attributes:
        sources: With the commits of those on the hub.
        options: The tokenizer is the path of the one that was made for all tasks.
        data: Where the result goes.
        overwrite: Replace finished data there.
        directory: That relative paths start from.
        tasks: Their number.
        threads: That encode in each.
        fast: As of `prepare`.
    """

    sources: tuple[PlannedSource, ...]
    options: PrepareOptions
    data: Path
    overwrite: bool
    directory: Path
    tasks: int
    threads: int
    fast: bool

    @property
    def parts(self) -> Path:
        """The folder of the parts."""
        return parts_folder(self.data)

    def is_finished(self, index: int) -> bool:
        """Whether a task is done."""
        return (self.parts / part_folder(index) / DATA_PART).is_file()

    def prepare_part(self, index: int, watch: Watch = unwatched) -> None:
        """Does one task; nothing where it is done already.

        Raises:
            UserError: As `prepare`.
        """
        folder = self.parts / part_folder(index)
        if self.is_finished(index):  # killed after the last write and before it was noted
            return
        with contextlib.chdir(self.directory):
            prepare(
                [source.open() for source in self.sources],
                folder,
                self.options,
                part=Part(index, self.tasks),
                workers=self.threads,
                fast=self.fast,
                watch=watch,
            )

    def join(self, watch: Watch = unwatched) -> Prepared:
        """Joins the parts, and removes them; the logs stay.

        Raises:
            UserError: As `merge`.
        """
        folders = [self.parts / part_folder(index) for index in range(self.tasks)]
        lost = [index for index in range(self.tasks) if not self.is_finished(index)]
        if lost:
            raise UserError(
                f"{folders[lost[0]]} was prepared, and is not there any more.",
                fix=f"Remove {self.parts} and run the same command again.",
            )
        made = merge(folders, self.data, overwrite=self.overwrite, watch=watch)
        forget_parts(self.parts)
        return made


def forget_parts(parts: Path) -> None:
    """Removes what the tasks wrote; first of all the note of what it is."""
    write_atomically(parts / PARTS_PLAN, dump_json({}))
    for path in [*parts.glob("part-*"), parts / PARTS_TOKENIZER]:
        shutil.rmtree(path, ignore_errors=True)
