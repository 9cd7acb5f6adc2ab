"""A folder that takes its place when it is complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fromscratch.foundation.files import fsync_folder
from fromscratch.foundation.names import (
    IMPORTED_METRICS,
    IMPORTED_PICTURE,
    IMPORTED_SAMPLES,
    RUN_EVENTS,
    RUN_IMPORT,
    RUN_METRICS,
    RUN_REPORT,
    RUN_SAMPLES,
    import_folder,
    replaced_folder,
)

# What an import writes, and the report that was made of it. All else in a folder is its owner's.
_OURS = {
    *(RUN_METRICS, RUN_SAMPLES, RUN_EVENTS, RUN_IMPORT, RUN_REPORT),
    *(IMPORTED_METRICS, IMPORTED_SAMPLES, IMPORTED_PICTURE),
}


@contextmanager
def placed(out: Path) -> Iterator[Path]:
    """Yields a new folder beside `out`, which takes its place if all goes well.

    What somebody else has put into an `out` that is there moves along. A kill between the two
    renames leaves the old folder under its other name; the next import puts it back first.

    Args:
        out: A folder that is not there, or that may be replaced.
    """
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_name(import_folder(out.name))
    old = out.with_name(replaced_folder(out.name))
    if old.exists():
        if out.exists():
            shutil.rmtree(old)
        else:
            os.replace(old, out)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
        for path in out.iterdir() if out.exists() else ():
            if path.name not in _OURS:
                _copy(path, folder / path.name)
        fsync_folder(folder)
        if out.exists():
            os.replace(out, old)
        os.replace(folder, out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    fsync_folder(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target, follow_symlinks=False)
