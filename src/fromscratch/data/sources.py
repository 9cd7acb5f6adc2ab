"""Where documents come from: files of many kinds, standard input, the corpus of every machine.

A source is named by one string, the same on the command line and in a recipe: a path, a folder, a
glob, `-` for standard input, or `stdlib` for the embedded corpus. Its documents come in an order
that does not depend on the disk, in memory that does not grow with it, and in portions that can be
read each for itself.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from fromscratch.chat.template import template_named
from fromscratch.data.documents import Document
from fromscratch.data.embedded import EMBEDDED, check_embedded, is_embedded, read_embedded
from fromscratch.data.listing import matching_files
from fromscratch.data.parquet import Stretch, stretches
from fromscratch.data.read_file import kind_of, read_file
from fromscratch.data.reading import Documents, Input, Reading, SourceReport
from fromscratch.data.text_files import looks_empty_or_binary
from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.tokenizer import Tokenizer

__all__ = [
    "EMBEDDED",
    "Documents",
    "Portion",
    "Reading",
    "Source",
    "SourceReport",
    "name_for",
    "parse_sources",
    "read_file",
    "spool",
]

READ_AS_IT_IS = Reading()

_NAME = re.compile(r"[\w. -]+")
# Standard input of another kind than plain text is called as a file of that kind would be.
_INPUT_SPEC = re.compile(r"-(\.\w+)*")


@dataclass(frozen=True)
class Portion:
    """A piece of a source that is read for itself: a file, or a part of a Parquet file.

    Attributes:
        id: What a person would call it; no two of a source are called the same.
        size: Bytes, as a measure of the work in it.
        path: The file; None for the embedded corpus.
        stretch: Which row groups of a Parquet file; None for all of a file.
        named: Whether the user named this very file.
        tokenised: Whether it is a shard of somebody else's tokens.
    """

    id: str
    size: int
    path: Path | None = None
    stretch: Stretch | None = None
    named: bool = False
    tokenised: bool = False


@dataclass(frozen=True)
class Source:
    """One named stream of documents.

    Attributes:
        name: How manifests, metrics and mixtures call it.
        spec: `stdlib`, `stdlib:PART`, `-`, or a path or glob.
        reading: How its files are read.
        spooled: Of standard input: the file that it was put into by `spool`, so that it can be read
            more than once.
    """

    name: str
    spec: str
    reading: Reading = READ_AS_IT_IS
    spooled: Path | None = None

    def portions(self) -> list[Portion]:
        """What there is to read, in a fixed order that does not depend on the disk.

        Raises:
            UserError: There is no such path, glob, part of the embedded corpus; standard input was
                not spooled.
        """
        if is_embedded(self.spec):
            check_embedded(self.spec)
            return [Portion(self.spec, 1)]
        paths, named = self._files()
        tokenised = _all_shards(map(self._label, paths))
        portions: list[Portion] = []
        for path in paths:
            label = self._label(path)
            whole = Portion(label, _size(path), path, named=named, tokenised=tokenised)
            parts = None
            if kind_of(label) == "parquet":
                parts = stretches(Input(path, label, self.name, self.reading, named))
            if parts is None or len(parts) == 1:
                portions.append(whole)
                continue
            portions += [
                replace(whole, id=f"{label}#{part.first}", size=part.size, stretch=part)
                for part in parts
            ]
        return portions

    def read(
        self, portion: Portion, report: SourceReport, tokenizer: Tokenizer | None = None
    ) -> Iterator[Document]:
        """Yields one portion's documents in a fixed order; says in `report` what was left out.

        Args:
            portion: One of `portions()`.
            report: Added to.
            tokenizer: Of the ids, where the source is `tokenised`.

        Raises:
            UserError: Something is bad, and the reading says to stop.
        """
        if portion.path is None:
            return read_embedded(self.spec, self.name, self.reading, report)
        assert not portion.tokenised or tokenizer, "ids cannot be read without their tokenizer"
        return read_file(
            portion.path,
            self.name,
            self.reading,
            report,
            label=self._label(portion.path),
            named=portion.named,
            tokenizer=tokenizer if portion.tokenised else None,
            stretch=portion.stretch,
        )

    def documents(
        self, report: SourceReport, tokenizer: Tokenizer | None = None
    ) -> Iterator[Document]:
        """All documents, portion by portion; see `portions` and `read`."""
        for portion in self.portions():
            yield from self.read(portion, report, tokenizer)

    def count(self, enough: int) -> int:
        """How many documents there are if a text file is one, up to `enough`; reads little.

        For the decision between files and passages: of a text file only the beginning is looked at,
        so that one too large to be a document is no mistake yet.

        Raises:
            UserError: As `portions` and `read`.
        """
        if is_embedded(self.spec):
            documents = self.documents(SourceReport())
            return sum(1 for _ in islice(documents, enough))
        return sum(1 for _ in islice(self._counted(), enough))

    @property
    def tokenised(self) -> bool:
        """Whether its files are shards of tokens; such a file in a folder with others is not."""
        return not is_embedded(self.spec) and _all_shards(map(self._label, self._files()[0]))

    @property
    def is_standard_input(self) -> bool:
        """Whether it must be spooled before it is read."""
        return _INPUT_SPEC.fullmatch(self.spec) is not None

    def stamp(self) -> str:
        """Changes when the source's files do, by their sizes and times; reads no content."""
        if is_embedded(self.spec):
            return platform.python_version()
        listing = []
        for path in self._files()[0]:
            try:
                status = path.stat()
            except OSError:  # gone since it was listed
                listing.append(f"{path} absent")
                continue
            listing.append(f"{path} {status.st_size} {status.st_mtime_ns}")
        return hashlib.sha256("\n".join(listing).encode("utf-8", "replace")).hexdigest()

    def _files(self) -> tuple[list[Path], bool]:
        """The files, and whether the user named one single file."""
        if not self.is_standard_input:
            return matching_files(self.spec)
        if self.spooled is None:
            raise UserError(
                "Standard input can be read only once.",
                fix="Prepare it first (fromscratch prepare - --out DATA), or name a file.",
            )
        return [self.spooled], True

    def _label(self, path: Path) -> str:
        return self.spec if self.is_standard_input else str(path)

    def _counted(self) -> Iterator[None]:
        for portion in self.portions():
            assert portion.path is not None
            label = self._label(portion.path)
            if portion.tokenised:
                yield None
            elif kind_of(label) in ("text", "shard"):
                item = Input(portion.path, label, self.name, self.reading, portion.named)
                if not looks_empty_or_binary(item):
                    yield None
            else:
                patient = replace(self, reading=replace(self.reading, on_bad="skip"))
                for _ in patient.read(portion, SourceReport()):
                    yield None


def parse_sources(specs: list[str], reading: Reading = READ_AS_IT_IS) -> list[Source]:
    """Sources from the strings of a command line: `SPEC` or `NAME=SPEC`.

    Raises:
        UserError: Two sources have the same name, or are both standard input; or the reading names
            a chat template that does not exist.
    """
    if reading.render is not None:
        template_named(reading.render)
    sources = []
    for spec in specs:
        name, equals, rest = spec.partition("=")
        # A path may have an equals sign in it, as in year=2024/part.txt.
        if equals and _NAME.fullmatch(name) and not Path(spec).exists():
            sources.append(Source(name, rest, reading))
        else:
            sources.append(Source(name_for(spec), spec, reading))
    names = [s.name for s in sources]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f'Two sources are called "{name}".', fix="Name them: NAME=PATH for each."
            )
    if sum(s.is_standard_input for s in sources) > 1:
        raise UserError("Standard input can be one source only.")
    return sources


def name_for(spec: str) -> str:
    """A short name for a source: a path's last part without suffix, a part's own name."""
    if _INPUT_SPEC.fullmatch(spec):
        return "stdin"
    if is_embedded(spec):
        return spec.rpartition(":")[2]
    return Path(spec.rstrip("/*")).stem.lstrip(".") or "text"


def spool(stream: BinaryIO, path: Path) -> Path:
    """Puts all of a stream into a file, which is whole on the disk when this returns.

    Args:
        stream: Standard input, as bytes.
        path: Replaced if it exists; a half-written one is never seen under this name.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def _all_shards(labels: Iterable[str]) -> bool:
    kinds = {kind_of(label) for label in labels}
    return kinds == {"shard"}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # gone since it was listed: reading it will say so
        return 0
