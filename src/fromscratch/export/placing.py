"""An output that is whole or absent, and never takes the place of another.

In: where it shall lie. Out: a place beside it to make it in. When all went well it is forced to the
disk and renamed; else it is removed. What a kill leaves behind has another name, and the next
export to the same place clears it away.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import free_bytes, fsync_file, fsync_folder
from fromscratch.foundation.names import export_folder


@contextmanager
def new_file(out: Path, *, n_bytes: int = 0) -> Iterator[Path]:
    """Yields a path that becomes `out`; it has the same name, in a folder of its own.

    Args:
        out: A file that is not there; its folder is made.
        n_bytes: About how long it gets.

    Raises:
        UserError: It is there, cannot be, or there is no room for it.
    """
    with _beside(out, n_bytes) as folder:
        path = folder / out.name
        yield path
        fsync_file(path)
        _refuse_existing(out)
        os.replace(path, out)
        shutil.rmtree(folder)


@contextmanager
def new_folder(out: Path, *, n_bytes: int = 0) -> Iterator[Path]:
    """Yields a folder that becomes `out`.

    Args:
        out: A folder that is not there, or is empty; what it lies in is made.
        n_bytes: About how large it gets.

    Raises:
        UserError: It is there, cannot be, or there is no room for it.
    """
    with _beside(out, n_bytes) as folder:
        yield folder
        for path in folder.rglob("*"):
            if path.is_file():
                fsync_file(path)
        fsync_folder(folder)
        _refuse_existing(out)
        if out.exists():
            out.rmdir()
        os.replace(folder, out)


@contextmanager
def _beside(out: Path, n_bytes: int) -> Iterator[Path]:
    out = out.absolute()
    _refuse_existing(out)
    folder = out.with_name(export_folder(out.name))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        if free_bytes(out.parent) < n_bytes:
            raise UserError(
                f"{out} takes about {n_bytes / 1e6:,.0f} MB, and its disk has "
                f"{free_bytes(out.parent) / 1e6:,.0f} MB free.",
                fix="Name a place on another disk with --out.",
            )
        folder.mkdir()
        yield folder
    except OSError as error:
        raise UserError(
            f"{out} could not be written ({error.strerror or error}).",
            fix="Name a place that can be written to with --out.",
        ) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    fsync_folder(out.parent)


def _refuse_existing(out: Path) -> None:
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} is there already.", fix="Choose another --out, or move it away.")
