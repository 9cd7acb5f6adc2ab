"""How much of the host's memory is free for this process: what the system and its limits say.

Containers and batch systems limit a group of processes (cgroups) below what the machine has, and
kill what goes beyond; so the tightest limit counts. A process that has needed more than it holds at
this moment will need it again: the difference is not free.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_UNLIMITED = 2**44
# malloc.h's numbers for mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def spare_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process can take for good without ever running out of memory.

    Args:
        root: Where `proc` and `sys` are mounted.

    Returns:
        What is free, less what the process gave back since it was largest; may be negative. None
        where the system does not tell (it is not Linux).
    """
    try:
        machine = _kilobytes(root / "proc/meminfo", "MemAvailable")
        given_back = _kilobytes(root / "proc/self/status", "VmHWM") - _kilobytes(
            root / "proc/self/status", "VmRSS"
        )
    except (OSError, KeyError, ValueError):
        return None
    return min([machine, *_left_in_groups(root)]) - given_back


def peak_resident_bytes() -> int | None:
    """The most memory that this process ever held; None where the system does not tell."""
    with suppress(OSError, KeyError):
        return _kilobytes(Path("/proc/self/status"), "VmHWM")
    try:
        import resource
    except ImportError:  # Windows has none
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def keep_freed_memory() -> None:
    """Lets this process keep memory that it frees, for its next tensors.

    glibc returns a freed block of more than 128 kB to the system, and takes the next one from there
    page by page, each cleared by the kernel. A training step frees and takes all its activations:
    without this, a small model's step takes a tenth longer on a CPU (dev/LOG.md). Blocks beyond
    32 MiB, the most that glibc allows, still come and go. Without glibc nothing happens.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
        library.mallopt(_M_TRIM_THRESHOLD, 512 * 2**20)


def _kilobytes(path: Path, key: str) -> int:
    """A value of a file of lines `KEY: NUMBER kB`, in bytes."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def _left_in_groups(root: Path) -> Iterator[int]:
    """What each limited group that this process is in has left; its file cache counts as free."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        tree = root / "sys/fs/cgroup"
        if number == "0":  # version 2: one tree for all controllers
            yield from _left(tree, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            yield from _left(tree / "memory", path, *names)


def _left(top: Path, path: str, limit: str, usage: str, cache: str) -> Iterator[int]:
    """Of a group and all those above it; in a container the path may be the host's, not ours."""
    for group in {top, *_and_parents(top, path)}:
        with suppress(OSError, ValueError):  # "max", or no such file at this level
            most = int((group / limit).read_text(encoding="utf-8"))
            if most < _UNLIMITED:
                used = int((group / usage).read_text(encoding="utf-8"))
                yield most - used + _statistic(group / "memory.stat", cache)


def _and_parents(top: Path, path: str) -> Iterator[Path]:
    group = top / path.strip("/")
    while group != top:
        yield group
        group = group.parent


def _statistic(path: Path, key: str) -> int:
    with suppress(OSError, ValueError):
        for line in path.read_text(encoding="utf-8").splitlines():
            name, value = line.split()
            if name == key:
                return int(value)
    return 0
