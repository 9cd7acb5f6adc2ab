"""A folder of copies of hub files that never takes more than so many bytes, shared by processes.

In: a file that somebody wants to read. Out: a lease on its copy, either whole already or to be
downloaded by whoever holds the lease. Copies that nobody leases are removed, the one least
recently used first, until the new one fits.

Always holds: a file under a copy's name is whole (it was checked before it got the name); the
copies, the partial ones counted at their full size, take at most `keep_local` bytes; a copy under
a live lease stays. A lease is a small file that its holder keeps locked: the system lets go of the
lock when the holder dies in whatever way, so a lease outlives no process. All decisions are taken
under one lock of the folder, which is held for moments only.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from fromscratch.data.hub_layout import HubFile
from fromscratch.foundation.errors import Interrupted, UserError
from fromscratch.foundation.files import free_bytes, fsync_folder
from fromscratch.foundation.names import (
    HUB_LEASE,
    HUB_LOCK,
    HUB_PARTIAL,
    hub_copy_file,
    hub_copy_of,
    hub_lease_file,
    hub_leased_bytes,
)


class Lease:
    """The right to a copy until `release`: to read it, or to make it where it is not whole yet.

    Attributes:
        copy: The path of the whole copy.
        partial: The path of what has arrived so far.
    """

    def __init__(self, copy: Path, path: Path, lock: FileLock) -> None:
        self.copy = copy
        self.partial = copy.with_name(copy.name + HUB_PARTIAL)
        self._path = path
        self._lock = lock

    @property
    def whole(self) -> bool:
        """Whether the copy can be read."""
        return self.copy.exists()

    def finish(self) -> None:
        """Gives the downloaded and checked partial file the copy's name."""
        os.replace(self.partial, self.copy)
        fsync_folder(self.copy.parent)

    def release(self) -> None:
        """Ends the lease; what has arrived stays until its place is needed."""
        self._lock.release()
        _discard(self._path)


@dataclass
class _Held:
    """What the folder has of one copy."""

    on_disk: int = 0
    leased: int = 0
    mine: bool = False
    used: float = 0.0

    @property
    def bytes(self) -> int:
        """The bytes that it takes, or will take when its download is done."""
        return max(self.on_disk, self.leased)


class Copies:
    """The folder.

    Args:
        folder: Made when first needed. Files in it that are not copies are left alone.
        keep_local: Bytes that all copies together may take.
        tell: Gets a sentence when another process must be waited for.
    """

    def __init__(self, folder: Path, keep_local: int, tell: Callable[[str], None]) -> None:
        self.folder = folder
        self.keep_local = keep_local
        self._tell = tell

    def claim(self, file: HubFile, stop: threading.Event, *, wait: bool = True) -> Lease | None:
        """A lease on a file's copy, once there is room for it.

        Args:
            file: What is wanted.
            stop: Set by another thread to stop waiting.
            wait: Whether to wait for room that others occupy, and for others who are downloading
                the same file. If not, None is returned in these cases.

        Raises:
            UserError: The file can never fit: it is larger than `keep_local` or the disk, or what
                this process itself has open leaves too little.
            Interrupted: `stop` was set.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        started, told = time.monotonic(), False
        while True:
            with FileLock(self.folder / HUB_LOCK, thread_local=False):
                lease = self._try(file)
            if lease is not None or not wait:
                return lease
            if not told and time.monotonic() - started > 5:
                self._tell(
                    f"Waiting for another process that uses {self.folder} to make room for "
                    f"{file.path} or to finish downloading it."
                )
                told = True
            if stop.wait(0.2):
                raise Interrupted("no longer wanted")

    def _try(self, file: HubFile) -> Lease | None:
        """One attempt, under the folder's lock."""
        name = hub_copy_file(file.oid, file.path)
        copy = self.folder / name
        if copy.exists() and copy.stat().st_size == file.size:
            copy.touch()  # the most recently used
            return self._lease(name, file.size)
        held = self._held()
        if held.setdefault(name, _Held()).leased:
            return None  # somebody is downloading it
        copy.unlink(missing_ok=True)  # somebody else changed it since
        return self._lease(name, file.size) if self._make_room(file, name, held) else None

    def _lease(self, name: str, size: int) -> Lease:
        holder = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        path = self.folder / hub_lease_file(name, size, holder)
        lock = FileLock(path, thread_local=False)
        lock.acquire(blocking=False)
        return Lease(self.folder / name, path, lock)

    def _held(self) -> dict[str, _Held]:
        """What is in the folder, by copy; leases whose holder died are cleared away."""
        held: dict[str, _Held] = {}
        for path in self.folder.iterdir():
            copy = hub_copy_of(path.name)
            if copy is None:
                continue
            entry = held.setdefault(copy, _Held())
            try:
                if not path.name.endswith(HUB_LEASE):
                    stat = path.stat()
                    entry.on_disk += stat.st_size
                    entry.used = max(entry.used, stat.st_mtime)
                elif _is_alive(path):
                    entry.leased = hub_leased_bytes(path.name)
                    open_here = (self.folder / copy).exists() and f".{os.getpid()}-" in path.name
                    entry.mine = entry.mine or open_here
            except FileNotFoundError:  # released between the listing and the look
                continue
        return held

    def _make_room(self, file: HubFile, name: str, held: dict[str, _Held]) -> bool:
        """Removes copies nobody leases, oldest first, until the file fits; whether it does."""
        others = {copy: entry for copy, entry in held.items() if copy != name}
        arrived = held[name].on_disk
        if file.size > self.keep_local:
            raise UserError(
                f"{file.path} has {file.size:,} bytes, more than the {self.keep_local:,} that "
                f"copies from the hub may take.",
                fix="Allow more with --keep-local.",
            )
        idle = sorted(
            (copy for copy, entry in others.items() if not entry.leased),
            # Partial ones last: they are what an interrupted run will ask for next.
            key=lambda copy: (not (self.folder / copy).exists(), others[copy].used, copy),
        )
        taken = sum(entry.bytes for entry in others.values())
        while True:
            free = free_bytes(self.folder)
            fits_disk = file.size - arrived <= free
            if taken + file.size <= self.keep_local and fits_disk:
                return True
            if not idle:
                break
            copy = idle.pop(0)
            if self._remove(copy):
                taken -= others[copy].bytes
        mine = sum(entry.bytes for entry in others.values() if entry.mine)
        if mine + file.size > self.keep_local:
            raise UserError(
                f"{file.path} ({file.size:,} bytes) does not fit beside the {mine:,} bytes that "
                f"are being read at the same time: copies may take {self.keep_local:,} in all.",
                fix="Allow more with --keep-local.",
            )
        if not fits_disk and not any(entry.leased for entry in others.values()):
            raise UserError(
                f"{file.path} needs {file.size - arrived:,} more bytes, and the disk of "
                f"{self.folder} has {free:,} free.",
                fix="Make room, or keep the copies on another disk.",
            )
        return False

    def _remove(self, copy: str) -> bool:
        for path in (self.folder / copy, self.folder / (copy + HUB_PARTIAL)):
            try:
                path.unlink(missing_ok=True)
            except PermissionError:  # Windows: a program outside this one has it open
                return False
        return True


def _is_alive(lease: Path) -> bool:
    """Whether a process still holds a lease; a dead one's is removed."""
    lock = FileLock(lease, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    _discard(lease)
    return False


def _discard(lease: Path) -> None:
    """Removes a lease that nobody holds; the next who looks does it, if somebody looks just now."""
    with contextlib.suppress(FileNotFoundError, PermissionError):  # the latter on Windows only
        lease.unlink()
