"""The life of a data folder: begun, interrupted, gone on with, replaced.

A marker lies in it from the first write to the last, with the command that finishes the job. What
makes the folder whole (a manifest) is written last and removed first, so that it never lies.
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from fromscratch.data.documents import SPLITS
from fromscratch.data.journal import Journal
from fromscratch.data.shards import is_prepared
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import free_bytes, fsync_folder, temporary_name, write_atomically
from fromscratch.foundation.names import (
    DATA_INCOMPLETE,
    DATA_JOURNAL,
    DATA_LOCK,
    DATA_MANIFEST,
    DATA_PART,
    DATA_PART_BANDS,
    DATA_PART_KEYS,
    DATA_SEEN,
    DATA_TOKENIZER,
    DATA_TOKENIZER_CONFIG,
    spool_file,
)
from fromscratch.tokenizer.tokenizer import Tokenizer

_COMPLETE = (DATA_MANIFEST, DATA_PART)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG}


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Raises a UserError where `folder` holds something that must not be written over."""
    if folder.is_file():
        raise UserError(f"{folder} is a file; --out names a folder.")
    # A crash at the very start leaves no more than these.
    litter = {DATA_LOCK, temporary_name(DATA_INCOMPLETE)}
    if not folder.is_dir() or not {p.name for p in folder.iterdir()} - litter:
        return
    if not is_prepared(folder):
        raise UserError(
            f"{folder} is not empty and holds no prepared data; nothing was touched.",
            fix="Choose another --out.",
        )
    if any((folder / name).is_file() for name in _COMPLETE) and not overwrite:
        raise UserError(
            f"{folder} already holds prepared data.",
            fix="Choose another --out, or say --overwrite to replace it.",
        )


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps other processes from preparing into the folder; makes it.

    Raises:
        UserError: Another one is at it.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / DATA_LOCK)
    try:
        lock.acquire(timeout=0)
        if not (folder / DATA_LOCK).exists():  # that of one who was just leaving
            lock.release()
            raise Timeout(str(folder / DATA_LOCK))
    except Timeout:
        raise _taken(folder) from None
    try:
        yield
    finally:
        try:  # while it is locked, so that it cannot be somebody else's by now
            (folder / DATA_LOCK).unlink(missing_ok=True)
        except PermissionError:  # Windows removes no open file; nor could it somebody else's
            lock.release()
            with suppress(PermissionError):
                (folder / DATA_LOCK).unlink(missing_ok=True)
        lock.release()
        if made and not any(folder.iterdir()):  # nothing came of it
            folder.rmdir()


@contextmanager
def writing_into(folder: Path, *, again: str = "it goes on where it stopped") -> Iterator[None]:
    """Says in words what the disk refuses.

    Args:
        folder: What is written into.
        again: What comes of giving the same command once more.

    Raises:
        UserError: The disk is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise UserError(
                f"There is no room for {folder} ({error.strerror}); its disk has "
                f"{free_bytes(folder) / 1e6:,.1f} MB free.",
                fix=f"Make room and give the same command again: {again}.",
            ) from None
        if error.errno in _REFUSED and error.filename and _around(error.filename, folder):
            raise UserError(
                f"{error.filename} cannot be written ({error.strerror}).",
                fix="Choose an --out that can be.",
            ) from None
        raise


@contextmanager
def spooled_beside(folder: Path, stream: BinaryIO) -> Iterator[Path]:
    """Puts a stream into a file beside the folder for as long as it is needed.

    Raises:
        UserError: Another process does the same, or there is no room or no right.
    """
    path = folder.with_name(spool_file(folder.name))
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        with writing_into(folder, again="it reads its input from the beginning"):
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
            spool(stream, path)
        yield path
    except Timeout:
        raise _taken(folder) from None
    finally:
        if lock.is_locked:
            path.unlink(missing_ok=True)
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()


def begin(folder: Path, command: list[str], tokenizer: Tokenizer, journal: Journal) -> None:
    """Removes what an earlier preparation left, and lays down what the new one goes on from."""
    # File names are bytes on some systems, and not always UTF-8.
    write_atomically(folder / DATA_INCOMPLETE, os.fsencode(shlex.join(command) + "\n"))
    remove_data(folder)
    tokenizer.save(folder)
    journal.save(folder)


def end(folder: Path) -> None:
    """Takes the marker away, once the folder is whole."""
    for name in (*_COMPLETE, DATA_TOKENIZER, DATA_TOKENIZER_CONFIG, DATA_JOURNAL, DATA_INCOMPLETE):
        (folder / temporary_name(name)).unlink(missing_ok=True)
    for name in (DATA_JOURNAL, DATA_SEEN, DATA_INCOMPLETE):
        (folder / name).unlink(missing_ok=True)


def give_up(folder: Path) -> None:
    """Removes what was written, where finishing it would not help."""
    remove_data(folder)
    for name in (DATA_TOKENIZER, DATA_TOKENIZER_CONFIG, DATA_INCOMPLETE):
        (folder / name).unlink(missing_ok=True)


def remove_data(folder: Path) -> None:
    """Removes prepared data; what makes it whole first, and only files of our names."""
    for name in (*_COMPLETE, DATA_JOURNAL):
        (folder / name).unlink(missing_ok=True)
    fsync_folder(folder)
    for name in (DATA_SEEN, DATA_PART_KEYS, DATA_PART_BANDS):
        (folder / name).unlink(missing_ok=True)
    for split in SPLITS:
        for pattern in (f"{split}-*.npy", f"docs-{split}-*.npy"):
            for path in folder.glob(pattern):
                path.unlink()


def _around(path: str | bytes | int, folder: Path) -> bool:
    """Whether a path lies in the folder, beside it or above it."""
    if not isinstance(path, str):
        return False
    one, other = Path(path).absolute(), folder.absolute()
    return one.is_relative_to(other.parent) or other.is_relative_to(one)


def _taken(folder: Path) -> UserError:
    return UserError(
        f"Another process is preparing {folder} at this moment.",
        fix="Wait for it, or choose another --out.",
    )


def spool(stream: BinaryIO, path: Path) -> Path:
    """Puts all of a stream into a file, which is whole on the disk when this returns.

    Args:
        stream: Standard input, as bytes.
        path: Replaced if it exists; a half-written one is never seen under this name.
    """
    temporary = path.with_name(temporary_name(path.name))
    try:
        with open(temporary, "wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)
    return path
