"""Files that are either whole or absent.

Everything that must survive a power cut goes through `write_atomically`: a temporary file beside
the target, fsync, rename, fsync of the folder. A reader sees the old content or the new one, never
a mixture. What they are called is in names.py.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from fromscratch.foundation.errors import UserError

_CANNOT_FORCE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF}

# --- writing --------------------------------------------------------------------------------------


def fsync_file(path: Path) -> None:
    """Forces a written file's content to the disk."""
    # Windows flushes only what was opened for writing.
    with open(path, "rb+") as handle:
        os.fsync(handle.fileno())


def fsync_folder(path: Path) -> None:
    """Forces a folder's entries to the disk, where the system or the file system can.

    Windows does not open folders; network and user-space file systems may refuse to force them.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (PermissionError, IsADirectoryError):
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_FORCE:  # a failing disk must be heard
            raise
    finally:
        os.close(descriptor)


def temporary_name(name: str) -> str:
    """What a file is called until it is whole; a crash may leave it behind."""
    return f".{name}.tmp"


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replaces `path` by `content` so that no reader and no crash ever sees half of it."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(temporary_name(path.name))
    try:
        with open(temporary, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:  # a full disk must not be kept full by half a file
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def append_json_line(path: Path, row: dict[str, Any]) -> None:
    """Adds an object to a JSON-lines file, made if absent, and forces it to the disk."""
    line = (dump_json(row) + "\n").encode("utf-8")
    with open(path, "ab+") as handle:
        # A half-written line that a crash left behind must not swallow this one.
        if handle.tell():
            handle.seek(-1, os.SEEK_END)
            line = line if handle.read(1) == b"\n" else b"\n" + line
        handle.write(line)
        handle.flush()
        os.fsync(handle.fileno())


def dump_json(value: Any, *, indent: int | None = None) -> str:
    """JSON that every reader accepts: a non-finite number becomes the string "nan", "inf"."""
    plain = finite_or_text(value)
    text = json.dumps(plain, indent=indent, allow_nan=False, ensure_ascii=False)
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a file name that is not UTF-8 reaches us as lone surrogates
        return json.dumps(plain, indent=indent, allow_nan=False)
    return text


def finite_or_text(value: Any) -> Any:
    """`value` with every non-finite float inside it replaced by its name as a string."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(float(value))  # numpy's own repr has its type in it
    if isinstance(value, dict):
        return {key: finite_or_text(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_or_text(item) for item in value]
    return str(value) if isinstance(value, PurePath) else value


# --- reading --------------------------------------------------------------------------------------


def read_json(path: Path) -> Any:
    """Parses a JSON file.

    Raises:
        UserError: The file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not readable JSON ({error}).") from None


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the objects of a JSON-lines file; a half-written or broken line is passed over.

    A crash can leave at most the last line half written; whoever reads metrics wants the rest.
    """
    if not path.exists():
        return
    with open(path, encoding="utf-8", errors="replace") as handle:
        for line in handle:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(row, dict):
                yield row


def sha256_of_file(path: Path) -> str:
    """The file's sha256 as hex, read in pieces."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def free_bytes(path: Path) -> int:
    """Bytes free on the disk that holds `path` (or would hold it, once made)."""
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free
