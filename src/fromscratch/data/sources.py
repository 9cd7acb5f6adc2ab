"""Where documents come from: files of many kinds, standard input, the corpus of every machine.

A source is named by one string, the same on the command line and in a recipe: a path, a folder, a
glob, `-` for standard input, `hf:ORG/NAME` for a data set on the hub, or `stdlib` for the embedded
corpus. Its documents come in an order
that does not depend on the disk, in memory that does not grow with it, and in portions that can be
read each for itself.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice, repeat, tee, zip_longest
from pathlib import Path

import platformdirs

from fromscratch.chat.rendering import text_template
from fromscratch.data.documents import Document
from fromscratch.data.embedded import EMBEDDED, check_embedded, is_embedded, read_embedded
from fromscratch.data.hub import HUB_PREFIX, HubDataset, HubFile
from fromscratch.data.listing import matching_files
from fromscratch.data.parquet import Stretch, n_rows, stretches
from fromscratch.data.read_file import kind_of, read_file
from fromscratch.data.reading import Documents, Input, Reading, SourceReport
from fromscratch.data.text_files import looks_empty_or_binary
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import sha256_of_file
from fromscratch.tokenizer.tokenizer import Tokenizer

__all__ = [
    "EMBEDDED",
    "Copies",
    "Documents",
    "Portion",
    "Reading",
    "Source",
    "SourceReport",
    "name_for",
    "parse_sources",
    "read_file",
]

READ_AS_IT_IS = Reading()

_NAME = re.compile(r"[\w. -]+")
# Standard input of another kind than plain text is called as a file of that kind would be.
_INPUT_SPEC = re.compile(r"-(\.\w+)*")


@dataclass(frozen=True, slots=True)
class Portion:
    """A piece of a source that is read for itself: a file, or a part of a Parquet file.

    Attributes:
        id: What a person would call it; no two of a source are called the same.
        size: Bytes, as a measure of the work in it.
        path: The file; None for the embedded corpus.
        stretch: Which row groups of a Parquet file; None for all of a file.
        named: Whether the user named this very file.
        tokenised: Whether it is a shard of somebody else's tokens.
        remote: The file on the hub, where it must be fetched first.
    """

    id: str
    size: int
    path: Path | None = None
    remote: HubFile | None = None
    stretch: Stretch | None = None
    named: bool = False
    tokenised: bool = False


@dataclass(frozen=True)
class Copies:
    """Where copies of files from the hub lie, and how much disk they may take.

    Attributes:
        folder: Shared by all data sets and preparations; None for this user's cache.
        keep_local: Bytes.
    """

    folder: Path | None = None
    keep_local: int = 30_000_000_000

    def open(self, spec: str) -> HubDataset:
        """The data set, without asking the hub yet."""
        folder = self.folder or platformdirs.user_cache_path("fromscratch") / "hub"
        return HubDataset(spec, folder=folder, keep_local=self.keep_local)


IN_THE_CACHE = Copies()


@dataclass(frozen=True)
class Source:
    """One named stream of documents.

    Attributes:
        name: How manifests, metrics and mixtures call it.
        spec: `stdlib`, `stdlib:PART`, `-`, `hf:...`, or a path or glob.
        reading: How its files are read.
        spooled: Of standard input: the file that it was put into by `spool`, so that it can be read
            more than once.
        copies: Of a data set on the hub.
        hub: The data set, opened once and for all: every read is of one commit (R13).
        found: Its files as `listed` found them; None to look each time.
    """

    name: str
    spec: str
    reading: Reading = READ_AS_IT_IS
    spooled: Path | None = None
    copies: Copies = IN_THE_CACHE
    hub: HubDataset | None = field(default=None, compare=False, repr=False)
    found: tuple[list[Path], bool] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.hub is None and self.spec.startswith(HUB_PREFIX):
            object.__setattr__(self, "hub", self.copies.open(self.spec))

    def listed(self) -> Source:
        """The same source with its files looked up, once and for all: a folder may have a million.

        Raises:
            UserError: As `portions`.
        """
        if is_embedded(self.spec) or self.hub is not None:
            return self
        return replace(self, found=self._files())

    def portions(self) -> list[Portion]:
        """What there is to read, in a fixed order that does not depend on the disk.

        Raises:
            UserError: There is no such path, glob, part of the embedded corpus; standard input was
                not spooled.
        """
        return list(self._portions())

    def _portions(self) -> Iterator[Portion]:
        if is_embedded(self.spec):
            check_embedded(self.spec)
            yield Portion(self.spec, 1)
            return
        if self.hub is not None:
            for file in self.hub.files():
                yield Portion(f"{HUB_PREFIX}{self.hub.name}/{file.path}", file.size, remote=file)
            return
        paths, named = self._files()
        tokenised = _all_shards(map(self._label, paths))
        for path in paths:
            label = self._label(path)
            whole = Portion(label, _size(path), path, named=named, tokenised=tokenised)
            parts = None
            if kind_of(label) == "parquet":
                parts = stretches(Input(path, label, self.name, self.reading, named))
            if parts is None or len(parts) == 1:
                yield whole
                continue
            for part in parts:
                yield replace(whole, id=f"{label}#{part.first}", size=part.size, stretch=part)

    def read(
        self,
        portion: Portion,
        report: SourceReport,
        tokenizer: Tokenizer | None = None,
        *,
        then: Portion | None = None,
    ) -> Iterator[Document]:
        """Yields one portion's documents in a fixed order; says in `report` what was left out.

        Args:
            portion: One of `portions()`.
            report: Added to.
            tokenizer: Of the ids, where the source is `tokenised`.
            then: The portion that will be read next: if it is far away, it is fetched meanwhile.

        Raises:
            UserError: Something is bad, and the reading says to stop.
        """
        if portion.remote is not None:
            return self._read_remote(portion, then, report)
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
        ahead, portions = tee(self._portions())
        next(ahead, None)
        for portion, then in zip_longest(portions, ahead):
            assert portion is not None
            yield from self.read(portion, report, tokenizer, then=then)

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
        if self.hub is not None:  # whoever names a data set means its records
            return enough
        return sum(1 for _ in islice(self._counted(), enough))

    @property
    def tokenised(self) -> bool:
        """Whether its files are shards of tokens; such a file in a folder with others is not."""
        if is_embedded(self.spec) or self.hub is not None:
            return False
        return _all_shards(map(self._label, self._files()[0]))

    @property
    def whence(self) -> str:
        """The spec as a manifest keeps it: of the hub, with the commit."""
        return self.spec if self.hub is None else self.hub.pinned

    def pinned(self, whence: str) -> Source:
        """The same source at the commit of `whence`, where that speaks of the same data set."""
        if self.hub is None or not whence.startswith(HUB_PREFIX):
            return self
        earlier = self.copies.open(whence)
        same = (earlier.name, earlier.part) == (self.hub.name, self.hub.part)
        return replace(self, hub=earlier) if same else self

    @property
    def is_standard_input(self) -> bool:
        """Whether it must be spooled before it is read."""
        return _INPUT_SPEC.fullmatch(self.spec) is not None

    def stamp(self) -> str:
        """Changes when the source's files do, by their sizes and times; reads no content.

        Of standard input it is the content's hash: the file that it was put into is always new.
        """
        if is_embedded(self.spec):
            return platform.python_version()
        if self.hub is not None:
            return self.hub.revision
        if self.spooled is not None:
            return sha256_of_file(self.spooled)
        digest, between = hashlib.sha256(), ""
        for path in self._files()[0]:
            try:
                status = path.stat()
                line = f"{path} {status.st_size} {status.st_mtime_ns}"
            except OSError:  # gone since it was listed
                line = f"{path} absent"
            digest.update(f"{between}{line}".encode("utf-8", "replace"))
            between = "\n"
        return digest.hexdigest()

    def _read_remote(
        self, portion: Portion, then: Portion | None, report: SourceReport
    ) -> Iterator[Document]:
        assert self.hub is not None
        assert portion.remote is not None
        following = None if then is None else then.remote
        ahead = following is not None
        with self.hub.local(portion.remote, then=following, prefetch=ahead) as path:
            yield from read_file(path, self.name, self.reading, report, label=portion.id)

    def _files(self) -> tuple[list[Path], bool]:
        """The files, and whether the user named one single file."""
        if self.found is not None:
            return self.found
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
        for portion in self._portions():
            assert portion.path is not None
            label = self._label(portion.path)
            if portion.tokenised:
                yield None
            elif kind_of(label) in ("text", "shard"):
                item = Input(portion.path, label, self.name, self.reading, portion.named)
                if not looks_empty_or_binary(item):
                    yield None
            elif kind_of(label) == "parquet":
                yield from repeat(None, n_rows(portion.path, portion.stretch))
            else:
                patient = replace(self, reading=replace(self.reading, on_bad="skip"))
                for _ in patient.read(portion, SourceReport()):
                    yield None


def parse_sources(
    specs: list[str], reading: Reading = READ_AS_IT_IS, copies: Copies = IN_THE_CACHE
) -> list[Source]:
    """Sources from the strings of a command line: `SPEC` or `NAME=SPEC`.

    Raises:
        UserError: Two sources have the same name, or are both standard input; or the reading names
            a chat template that does not exist.
    """
    if reading.render is not None:
        text_template(reading.render)
    sources = []
    for spec in specs:
        name, equals, rest = spec.partition("=")
        # A path may have an equals sign in it, as in year=2024/part.txt.
        if equals and _NAME.fullmatch(name) and not Path(spec).exists():
            spec = rest
        else:
            name = name_for(spec)
        sources.append(Source(name, spec, reading, copies=copies))
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
    if spec.startswith(HUB_PREFIX):
        whole = spec.removeprefix(HUB_PREFIX).partition("@")[0]
        return whole.partition(":")[0].rpartition("/")[2] or "hub"
    return Path(spec.rstrip("/*")).stem.lstrip(".") or "text"


def _all_shards(labels: Iterable[str]) -> bool:
    some = False
    for label in labels:
        if kind_of(label) != "shard":
            return False
        some = True
    return some


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # gone since it was listed: reading it will say so
        return 0
