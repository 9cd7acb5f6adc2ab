"""Which files a path or a glob names, in an order that does not depend on the disk.

Out: visible files, sorted by their path's text. What this program itself wrote (prepared data,
runs) is not text to train on and is left out, and so is each file that is reached a second time by
way of a link.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from fromscratch.data.embedded import EMBEDDED
from fromscratch.data.shards import is_prepared
from fromscratch.foundation.errors import UserError, did_you_mean_path
from fromscratch.foundation.names import EXAMPLES_MANIFEST, RUN_EVENTS, RUN_RECIPE

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def matching_files(spec: str) -> tuple[list[Path], bool]:
    """The files of a path or glob, and whether it named one single file.

    Raises:
        UserError: The path does not exist, is no file or folder, or the glob matches no file.
    """
    path = Path(spec).expanduser()
    if path.is_file():
        return [path], True
    if path.is_dir():
        return sorted(_files_below(path), key=Path.as_posix), False
    files = _files_of_glob(str(path)) if glob.has_magic(spec) else []
    if files:
        return files, False
    missing = "matches no file" if glob.has_magic(spec) else "does not exist"
    if path.exists():
        missing = "is neither a file nor a folder"
    hint = "" if glob.has_magic(spec) else did_you_mean_path(path)
    if not hint and _HUB_NAME.fullmatch(spec) and not path.parent.exists():
        hint = f' On the Hugging Face hub it would be "hf:{spec}".'
    raise UserError(
        f"{spec} {missing}.{hint}",
        fix=f'Give a text file, a folder, a glob in quotes, or "{EMBEDDED}".',
    )


def _files_of_glob(pattern: str) -> list[Path]:
    files = [Path(m) for m in sorted(glob.glob(pattern, recursive=True)) if Path(m).is_file()]
    # A folder that the user has named himself is meant.
    if "**" in pattern or glob.has_magic(str(Path(pattern).parent)):
        ours = {parent for parent in {file.parent for file in files} if _is_ours(parent)}
        files = [file for file in files if file.parent not in ours]
    if "**" not in pattern:
        return files
    # `**` follows links to folders, also one that leads back up: the shortest way counts.
    shortest: dict[str, Path] = {}
    for file in sorted(files, key=lambda p: len(p.parts)):
        linked = file.parent.resolve() / file.name
        shortest.setdefault(str(linked), file)
    kept = set(shortest.values())
    return [file for file in files if file in kept]


def _files_below(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise UserError(
            f"The folder {error.filename} cannot be listed ({error.strerror}).",
            fix="Make it readable, or give a glob that leaves it out.",
        )

    for name, folders, files in os.walk(folder, onerror=refuse):
        here = Path(name)
        if _is_ours(here):
            folders.clear()
            continue
        folders[:] = [f for f in folders if not f.startswith(".")]
        for file in files:
            if not file.startswith(".") and (path := here / file).is_file():
                yield path


def _is_ours(folder: Path) -> bool:
    """Whether this program wrote it: prepared data or a run."""
    if is_prepared(folder) or (folder / EXAMPLES_MANIFEST).is_file():
        return True
    return (folder / RUN_RECIPE).is_file() and (folder / RUN_EVENTS).is_file()
