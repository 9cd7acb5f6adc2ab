"""One file of the hub onto the disk, whole and checked, however often the line breaks.

In: a repository, a commit, a file of it. Out: the partial file, grown until it has the promised
size and hash. The caller renames it into place.

Always holds: bytes that arrived are never asked for again, neither after a dropped connection nor
after this process was killed; each new request is a range request for the rest. (The hub's own
client, as of 2.4, resumes within one call but throws the partial file away when the call ends, so
a killed download of gigabytes would start over.) Every attempt asks the hub anew, because the
addresses that it redirects to expire.
"""

from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

from fromscratch.data.hub_layout import HubFile
from fromscratch.data.hub_repository import (
    Patience,
    Repository,
    hub_library,
    is_transient,
    status_of,
)
from fromscratch.foundation.errors import Interrupted, UserError
from fromscratch.foundation.files import fsync_file, sha256_of_file

# A file that arrives damaged twice is damaged where it comes from.
_SPOILED_AT_MOST = 2


def download(
    repository: Repository,
    commit: str,
    file: HubFile,
    partial: Path,
    *,
    stop: threading.Event,
    on_bytes: Callable[[int], None],
) -> None:
    """Completes `partial`, which may hold the first bytes of the file already.

    Args:
        repository: Where the file is.
        commit: At which commit.
        file: Which one; its size and hash are what the result is held against.
        partial: The file to grow; need not exist.
        stop: Set by another thread to break off; what has arrived stays.
        on_bytes: Called with the number of bytes on disk, whenever it has grown.

    Raises:
        UserError: The hub refuses the file, gives damaged bytes, or cannot be reached for long;
            or the disk is full.
        Interrupted: `stop` was set.
    """
    failures = spoiled = 0
    patience: Patience = repository.patience
    while True:
        had = _size(partial)
        try:
            if had < file.size or not partial.exists():
                _receive(repository, commit, file, partial, stop=stop, on_bytes=on_bytes)
            if _size(partial) < file.size:  # an answer that ended early, without an error
                raise EOFError("the answer ended before the file did")
            if _is_whole(file, partial):
                fsync_file(partial)
                return
        except (Interrupted, UserError):
            raise
        except Exception as error:
            failures = 1 if _size(partial) > had else failures + 1
            if status_of(error) != 416:
                passing = is_transient(error) or isinstance(error, EOFError)
                if not passing or failures >= patience.attempts:
                    raise _final(repository, file, partial, error) from None
                patience.pause(failures, error, stop)
                continue
            # What is on the disk is longer than what the hub has: it is another file's beginning.
        partial.unlink(missing_ok=True)
        spoiled += 1
        if spoiled >= _SPOILED_AT_MOST:
            raise UserError(
                f"{file.path} of {repository.name} arrives damaged: its hash is not {file.oid}.",
                fix="Something between here and the hub changes it (a proxy?), or the copy there "
                "is broken; try another network, or leave the file out.",
            )


def _receive(
    repository: Repository,
    commit: str,
    file: HubFile,
    partial: Path,
    *,
    stop: threading.Event,
    on_bytes: Callable[[int], None],
) -> None:
    """One request for all bytes that are missing, appended as they come."""
    library = hub_library()
    headers = library.utils.build_hf_headers()
    headers["Accept-Encoding"] = "identity"  # a compressed answer has no ranges
    start = _size(partial)
    if start:
        headers["Range"] = f"bytes={start}-"
    with library.get_session().stream(
        "GET",
        repository.address(file.path, commit),
        headers=headers,
        timeout=library.constants.HF_HUB_DOWNLOAD_TIMEOUT,
        follow_redirects=True,
    ) as response:
        library.hf_raise_for_status(response)
        if start and response.status_code != 206:
            start = 0  # the range was passed over: this is the whole file again
        # Without a buffer, so that a killed process leaves on disk what it has received.
        with open(partial, "ab" if start else "wb", buffering=0) as out:
            done = start
            for chunk in response.iter_raw():
                if stop.is_set():
                    raise Interrupted("no longer wanted")
                out.write(chunk[: file.size - done])
                done += len(chunk)
                if done > file.size:
                    break  # more than was promised: the disk stays bounded, the hash will tell
                on_bytes(done)


def _is_whole(file: HubFile, path: Path) -> bool:
    """Whether the bytes on disk are those that the hub's listing promised."""
    if _size(path) != file.size:
        return False
    if len(file.oid) == 64:
        return sha256_of_file(path) == file.oid
    digest = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == file.oid


def _final(repository: Repository, file: HubFile, partial: Path, error: Exception) -> Exception:
    """The error to end with: in words where it is the hub's or the disk's, else as it is."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return UserError(
            f"The disk is full: {file.path} ({file.size:,} bytes) does not fit on the disk of "
            f"{partial.parent}.",
            fix="Make room, then repeat the same command; it goes on where it stopped.",
        )
    if isinstance(error, EOFError):
        return UserError(
            f"{file.path} of {repository.name} ends before its {file.size:,} bytes, again and "
            "again.",
            fix="Repeat the same command later; it goes on where it stopped.",
        )
    return repository.refusal(error, file.path) or error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
