"""A folder of checkpoints that survives a kill at any instant.

A checkpoint is written into `step-N.tmp/`; every file is forced to the disk; `MANIFEST.json` with
the sha256 of each comes last; then the folder is renamed to `step-N/`. A folder without a manifest,
or whose files do not match it, is not a checkpoint. Old checkpoints are removed only after a new
one is in place (R35). Steps are compared as numbers (R33).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import (
    BEST,
    CHECKPOINT_MANIFEST,
    LATEST,
    dump_json,
    fsync_file,
    fsync_folder,
    read_json,
    sha256_of_file,
    step_folder,
    step_of_folder,
    write_atomically,
)

FORMAT_VERSION = 1
_TEMPORARY = ".tmp"
_CORRUPT = ".corrupt"


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        root: The run's `checkpoints/` folder; made by the first save.
        keep_last: How many of the newest to keep.
        keep_best: Whether the best one is kept besides.
    """

    def __init__(self, root: Path, *, keep_last: int = 3, keep_best: bool = True) -> None:
        self.root = root
        self.keep_last = keep_last
        self.keep_best = keep_best

    # --- writing ----------------------------------------------------------------------------------

    def save(self, step: int, write: Callable[[Path], None], *, best: bool = False) -> Path:
        """Commits a checkpoint, then points at it, then removes what need not be kept.

        Args:
            step: Number of updates done.
            write: Fills the folder that it is given.
            best: Whether this is the best checkpoint so far.

        Returns:
            The committed folder.

        Raises:
            OSError: The disk is full or failing; the checkpoints before are untouched.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        final = self.root / step_folder(step)
        if not final.is_dir() or verify(final) is not None:
            self._commit(step, final, write)
        # Else the run was resumed from this very checkpoint: replacing it could only lose it.
        self._point(LATEST, final)
        if best:
            self._point(BEST, final)
        self._retain()
        return final

    def _commit(self, step: int, final: Path, write: Callable[[Path], None]) -> None:
        temporary = final.with_name(final.name + _TEMPORARY)
        _remove(temporary)
        temporary.mkdir()
        try:
            write(temporary)
            _write_manifest(temporary, step)
        except OSError:
            _remove(temporary)
            raise
        _remove(final)
        temporary.rename(final)
        fsync_folder(self.root)

    def discard_unfinished(self) -> list[str]:
        """Removes what a killed save left behind; returns the names."""
        found = sorted(self.root.glob(f"*{_TEMPORARY}")) if self.root.is_dir() else []
        for path in found:
            _remove(path)
        return [path.name for path in found]

    def _retain(self) -> None:
        keep = set(self.steps()[-self.keep_last :])
        best = self.pointer(BEST) if self.keep_best else None
        for step in self.steps():
            folder = self.root / step_folder(step)
            if step not in keep and folder != best:
                _remove(folder)
        for path in self.root.glob(f"*{_CORRUPT}"):
            _remove(path)

    def _point(self, name: str, target: Path) -> None:
        """Makes `name` lead to a checkpoint: a link, or a file with its name without links."""
        link = self.root / name
        fresh = self.root / f".{name}{_TEMPORARY}"
        _remove(fresh)
        try:
            fresh.symlink_to(target.name, target_is_directory=True)
        except (OSError, NotImplementedError):
            write_atomically(fresh, target.name + "\n")
        if link.is_dir() and not link.is_symlink():
            _remove(link)
        os.replace(fresh, link)
        fsync_folder(self.root)

    # --- reading ----------------------------------------------------------------------------------

    def steps(self) -> list[int]:
        """The steps of all committed checkpoints, ascending; they may still fail to verify."""
        if not self.root.is_dir():
            return []
        found = (step_of_folder(p.name) for p in self.root.iterdir() if p.is_dir())
        return sorted(step for step in found if step is not None)

    def pointer(self, name: str) -> Path | None:
        """The checkpoint that `latest` or `best` leads to, if it is there."""
        link = self.root / name
        if link.is_symlink():
            target = self.root / link.readlink()
        elif link.is_file():
            target = self.root / link.read_text(encoding="utf-8").strip()
        else:
            return None
        return target if target.is_dir() else None

    def newest_valid(self, on_corrupt: Callable[[Path, str], None] | None = None) -> Path | None:
        """The newest checkpoint that verifies.

        Args:
            on_corrupt: Called with each newer one that does not, and why. When given, such a folder
                is put aside, so that it is never met again.

        Raises:
            UserError: There are checkpoints, and none of them verifies.
        """
        steps = self.steps()
        for step in reversed(steps):
            folder = self.root / step_folder(step)
            problem = verify(folder)
            if problem is None:
                return folder
            if on_corrupt is not None:
                aside = folder.with_name(folder.name + _CORRUPT)
                _remove(aside)
                folder.rename(aside)
                on_corrupt(folder, problem)
        if steps:
            raise UserError(
                f"None of the {len(steps)} checkpoints in {self.root} is intact.",
                fix="Start a new run; nothing is trained from scratch in silence.",
            )
        return None


def verify(folder: Path) -> str | None:
    """None when every file is what the checkpoint's manifest says; else what is wrong."""
    if not (folder / CHECKPOINT_MANIFEST).is_file():
        return f"it has no {CHECKPOINT_MANIFEST}"
    try:
        manifest = read_json(folder / CHECKPOINT_MANIFEST)
        version, files = manifest["format_version"], manifest["files"]
    except (UserError, KeyError, TypeError):
        return f"{CHECKPOINT_MANIFEST} is damaged"
    if version != FORMAT_VERSION:
        return f"it has checkpoint format {version}; this release reads {FORMAT_VERSION}"
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["bytes"]:
            return f"{name} has {path.stat().st_size} bytes instead of {expected['bytes']}"
        if sha256_of_file(path) != expected["sha256"]:
            return f"{name} does not match its checksum"
    return None


def _write_manifest(folder: Path, step: int) -> None:
    files = {}
    for path in sorted(folder.iterdir()):
        fsync_file(path)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
    fsync_folder(folder)
    content = {"format_version": FORMAT_VERSION, "step": step, "files": files}
    write_atomically(folder / CHECKPOINT_MANIFEST, dump_json(content, indent=1) + "\n")


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
