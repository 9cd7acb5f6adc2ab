"""The corpus that every machine has: the running Python's own standard library.

Why this text: it is on every machine that can run this program, so the first run needs no download
and no licence question; it is real (eleven megabytes of code and English prose by many hands), so a
model has something to learn; and it is small enough for two minutes.

`stdlib` is all of it; `stdlib:help` are the help topics, `stdlib:asyncio` one package or module.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from fromscratch.data.documents import Document
from fromscratch.data.reading import BadInput, Input, Reading, SourceReport
from fromscratch.data.text_files import documents_of, read_text_file
from fromscratch.foundation.errors import UserError, did_you_mean

EMBEDDED = "stdlib"
HELP = "help"

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


def is_embedded(spec: str) -> bool:
    """Whether a source's spec names the embedded corpus or a part of it."""
    return spec == EMBEDDED or spec.startswith(f"{EMBEDDED}:")


def check_embedded(spec: str) -> None:
    """Finds out before anything is read whether there is such a part.

    Raises:
        UserError: There is none in this Python.
    """
    part = _part(spec)
    if part is None:
        return
    known = {HELP, *(PurePosixPath(p.relative_to(_root()).parts[0]).stem for p in _paths())}
    if part not in known:
        raise UserError(
            f'This Python\'s library has no package or module "{part}".'
            f"{did_you_mean(part, known, prefix=f'{EMBEDDED}:')}",
            fix=f"Name one, as {EMBEDDED}:asyncio, or {EMBEDDED}:{HELP} for the help topics.",
        )


def read_embedded(
    spec: str, name: str, reading: Reading, report: SourceReport
) -> Iterator[Document]:
    """Yields the corpus's source files and then its help topics, or those of the part named."""
    part = _part(spec)
    # What Python itself ships is not the user's to mend.
    reading = replace(reading, on_bad="skip")
    for path in _paths():
        relative = path.relative_to(_root())
        if part not in (None, PurePosixPath(relative.parts[0]).stem):
            continue
        item = Input(path, relative.as_posix(), name, reading, named=False)
        try:
            yield from read_text_file(item, report)
        except (BadInput, OSError) as error:
            report.skip(item.label, str(error))
    if part not in (None, HELP):
        return
    try:
        from pydoc_data.topics import topics
    except ImportError:  # a Python that was shipped without its help
        return
    for topic, text in sorted(topics.items()):
        yield from documents_of(iter([text]), Input(Path(), f"help/{topic}", name, reading))


def _part(spec: str) -> str | None:
    _, colon, part = spec.partition(":")
    return part if colon else None


def _root() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _paths() -> list[Path]:
    """The library's source files, sorted by their path below it."""
    root, found = _root(), []
    for name, folders, files in os.walk(root):
        folders[:] = [f for f in folders if f not in _NOT_THE_LIBRARY]
        # The topics are taken one by one, not as the file that holds them all.
        found += [Path(name, f) for f in files if f.endswith(".py") and f != "topics.py"]
    return sorted(found, key=lambda p: p.relative_to(root).as_posix())
