"""Where documents come from: text files, folders and globs, and the corpus that every machine has.

A source is named by one string, the same on the command line and in a recipe: a path, a glob, or
`stdlib` for the embedded corpus. Its documents come in an order that does not depend on the disk.
"""

from __future__ import annotations

import glob
import hashlib
import os
import platform
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fromscratch.data.documents import Document
from fromscratch.data.shards import is_prepared
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import RUN_EVENTS, RUN_RECIPE

EMBEDDED = "stdlib"

_NAME = re.compile(r"[\w. -]+")

# Tests are left out because they repeat the modules they test, and because some systems ship
# Python without them; installed packages, because they differ from machine to machine; encodings,
# because its 120 character tables were made by one script: a held-out one would be known by heart.
_NOT_THE_LIBRARY = {
    "encodings",
    "test",
    "tests",
    "idle_test",
    "site-packages",
    "dist-packages",
    "__pycache__",
    "_bundled",
}


# Passages: long enough that end-of-text is rare, short enough that 1% of a book is several.
_PASSAGE_CHARACTERS = 4_000


@dataclass
class SourceReport:
    """What reading a source met.

    Attributes:
        files: Files that gave a document.
        skipped: Place and reason of each thing that gave none.
    """

    files: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Portion:
    """A piece of a source that is read from its start: a file, or a row group of one.

    Attributes:
        id: What a person would call it.
        size: Bytes, as a measure of the work in it.
    """

    id: str
    size: int


Documents = Literal["auto", "file", "passage", "paragraph"]


@dataclass(frozen=True)
class Reading:
    """How files are read."""

    documents: Documents = "auto"


@dataclass(frozen=True)
class Source:
    """One named stream of documents.

    Attributes:
        name: How manifests, metrics and mixtures call it.
        spec: `stdlib`, or a path or glob.
    """

    name: str
    spec: str
    reading: Reading = Reading()

    def portions(self) -> list[Portion]:
        """What there is to read, in a fixed order that does not depend on the disk.

        Raises:
            UserError: The path does not exist or the glob matches nothing.
        """
        if self.spec == EMBEDDED:
            return [Portion(EMBEDDED, 1)]
        return [Portion(str(path), path.stat().st_size) for path in _matching_files(self.spec)]

    def read(
        self, portion: Portion, report: SourceReport, tokenizer: Any = None
    ) -> Iterator[Document]:
        """Yields one portion's documents in a fixed order; counts files and skips in `report`."""
        whole = self._read(portion, report)
        yield from passages(whole) if self.reading.documents == "passage" else whole

    def _read(self, portion: Portion, report: SourceReport) -> Iterator[Document]:
        if self.spec == EMBEDDED:
            yield from _embedded_documents(self.name, report)
            return
        text = _text_of(Path(portion.id), report)
        if text is not None:
            yield Document(text, portion.id, self.name)

    def documents(self, report: SourceReport) -> Iterator[Document]:
        """All documents, portion by portion.

        Raises:
            UserError: The path does not exist or the glob matches nothing.
        """
        for portion in self.portions():
            yield from self.read(portion, report)

    def stamp(self) -> str:
        """Changes when the source's files do, by their sizes and times; reads no content."""
        if self.spec == EMBEDDED:
            return platform.python_version()
        stats = ((str(path), path.stat()) for path in _matching_files(self.spec))
        listing = [f"{path} {s.st_size} {s.st_mtime_ns}" for path, s in stats]
        return hashlib.sha256("\n".join(listing).encode("utf-8", "replace")).hexdigest()


def parse_sources(specs: list[str]) -> list[Source]:
    """Sources from the strings of a command line: `SPEC` or `NAME=SPEC`.

    Raises:
        UserError: Two sources have the same name.
    """
    sources = []
    for spec in specs:
        name, equals, rest = spec.partition("=")
        # A path may have an equals sign in it, as in year=2024/part.txt.
        if equals and _NAME.fullmatch(name) and not Path(spec).exists():
            sources.append(Source(name, rest))
        else:
            sources.append(Source(name_for(spec), spec))
    names = [s.name for s in sources]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f'Two sources are called "{name}".', fix="Name them: NAME=PATH for each."
            )
    return sources


def name_for(spec: str) -> str:
    """A short name for a path or glob: its last part without suffix."""
    return Path(spec.rstrip("/*")).stem.lstrip(".") or "text"


def _matching_files(spec: str) -> Iterator[Path]:
    """Files of a path or glob, sorted by their path's text; hidden ones are left out."""
    path = Path(spec).expanduser()
    if path.is_file():
        yield path
        return
    if path.is_dir():
        yield from sorted(_files_below(path), key=lambda p: p.relative_to(path).as_posix())
        return
    matches = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(spec) else []
    files = [Path(m) for m in matches if Path(m).is_file()]
    if not files:
        missing = "matches no file" if glob.has_magic(spec) else "does not exist"
        raise UserError(
            f"{spec} {missing}.",
            fix=f'Give a text file, a folder, a glob in quotes, or "{EMBEDDED}".',
        )
    yield from files


def _files_below(folder: Path) -> Iterator[Path]:
    """Visible files; what this program itself wrote there (prepared data, runs) is not text."""
    for name, folders, files in os.walk(folder):
        here = Path(name)
        if is_prepared(here) or ((here / RUN_RECIPE).is_file() and (here / RUN_EVENTS).is_file()):
            folders.clear()
            continue
        folders[:] = [f for f in folders if not f.startswith(".")]
        yield from (here / f for f in files if not f.startswith(".") and (here / f).is_file())


def _text_of(path: Path, report: SourceReport) -> str | None:
    """A file's text, or None with the reason noted when it is not text."""
    try:
        raw = path.read_bytes()
        if b"\x00" in raw[:8192]:
            raise ValueError("binary")
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        report.skipped.append((str(path), f"not UTF-8 at byte {error.start}"))
        return None
    except ValueError as error:
        report.skipped.append((str(path), str(error)))
        return None
    except OSError as error:
        report.skipped.append((str(path), error.strerror or "unreadable"))
        return None
    if not text.strip():
        report.skipped.append((str(path), "empty"))
        return None
    report.files += 1
    return text.replace("\r\n", "\n")


def _embedded_documents(name: str, report: SourceReport) -> Iterator[Document]:
    """The running Python's own standard library: source files and help topics.

    Why this text: it is on every machine that can run this program, so the first run needs no
    download and no licence question; it is real (eleven megabytes of code and English prose by many
    hands), so a model has something to learn; and it is small enough for two minutes.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = [p.relative_to(root) for p in root.rglob("*.py")]
    for relative in sorted(paths, key=lambda p: p.as_posix()):
        # The topics are taken one by one below, not as the file that holds them all.
        if _NOT_THE_LIBRARY & set(relative.parts) or relative.name == "topics.py":
            continue
        text = _text_of(root / relative, report)
        if text is not None:
            yield Document(text, relative.as_posix(), name)
    try:
        from pydoc_data.topics import topics
    except ImportError:  # a Python that was shipped without its help
        return
    for topic, text in sorted(topics.items()):
        yield Document(text, f"help/{topic}", name)


def passages(documents: Iterator[Document]) -> Iterator[Document]:
    """Cuts documents at blank lines into passages of about 4,000 characters; nothing is left out.

    For text that comes as one or few files, so that some of it can be held out: passages of every
    part of the text fall on both sides, where a tail would be a different chapter (R05).
    """
    for document in documents:
        number, start, text = 0, 0, document.text
        last = len(text.rstrip())
        while start < len(text):
            end = len(text)
            if end - start > _PASSAGE_CHARACTERS:
                end = _cut_after(text, start + _PASSAGE_CHARACTERS)
            if end >= last:  # blank space at the very end is no passage of its own
                end = len(text)
            yield Document(text[start:end], f"{document.id}#{number}", document.source)
            number += 1
            start = end


def _cut_after(text: str, wanted: int) -> int:
    """The first place at or after `wanted` to cut: past blank lines, else past a line, else there.

    The search goes one more passage far; a text without line ends is cut where wanted.
    """
    limit = min(len(text), wanted + _PASSAGE_CHARACTERS)
    for separator in ("\n\n", "\n"):
        found = text.find(separator, wanted, limit)
        if found >= 0:
            end = found + len(separator)
            while end < limit and text[end] == "\n":
                end += 1
            return end
    return wanted
