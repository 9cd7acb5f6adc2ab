"""A folder of checkpoints that survives a kill at any instant.

A checkpoint is written into `step-N.tmp/`; every file is forced to the disk; `MANIFEST.json` with
the sha256 of each comes last; then the folder is renamed to `step-N/`. A folder without a manifest,
or whose files do not match it, is not a checkpoint. Old checkpoints are removed only after a new
one is in place (R35); which of them may be is written in their manifests. A complete `step-N.tmp/`
that a kill kept from its name gets it on resume, so that also the one moment in which a checkpoint
that is written again has none loses nothing. Steps are compared as numbers (R33).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import (
    dump_json,
    fsync_file,
    fsync_folder,
    read_json,
    sha256_of_file,
    write_atomically,
)
from fromscratch.foundation.names import (
    BEST,
    CHECKPOINT_MANIFEST,
    LATEST,
    step_folder,
    step_of_folder,
)

FORMAT_VERSION = 1
_TEMPORARY = ".tmp"
_CORRUPT = ".corrupt"
_KEEP = "keep"
Keep = Literal["temporary", "recent", "permanent"]
"""Until there is a newer one, among the last N, or for ever; in the order of their strength."""
_STRENGTH: tuple[Keep, ...] = ("temporary", "recent", "permanent")
_UNFINISHED_POINTERS = {f".{name}{_TEMPORARY}" for name in (LATEST, BEST)}


class CheckpointStore:
    """The checkpoints of one run. One thread at a time may write.

    Args:
        root: The run's `checkpoints/` folder; made by the first save.
        keep_last: How many of the newest to keep, temporary ones not counted.
        keep_best: Whether the best one is kept besides.
    """

    def __init__(self, root: Path, *, keep_last: int = 3, keep_best: bool = True) -> None:
        self.root = root
        self.keep_last = keep_last
        self.keep_best = keep_best

    # --- writing ----------------------------------------------------------------------------------

    def save(
        self,
        step: int,
        write: Callable[[Path], Mapping[str, str] | None],
        *,
        best: bool = False,
        replace: bool = False,
        keep: Keep = "recent",
    ) -> Path:
        """Commits a checkpoint, then points at it, then removes what need not be kept.

        Args:
            step: Number of updates done.
            write: Fills the folder that it is given; returns the sha256 of those files that it
                hashed and forced to the disk itself.
            best: Whether this is the best checkpoint so far.
            replace: Write it also where an intact checkpoint of this step is there already.
            keep: For how long. One that is there already never becomes weaker.

        Returns:
            The committed folder.

        Raises:
            OSError: The disk is full or failing; the checkpoints before are untouched.
        """
        if not self.root.is_dir():
            self.root.mkdir(parents=True, exist_ok=True)
            fsync_folder(self.root.parent)
        final = self.root / step_folder(step)
        if final.is_dir():
            replace |= _strength(final) < _STRENGTH.index(keep) or verify(final) is not None
            keep = _STRENGTH[max(_STRENGTH.index(keep), _strength(final))]
        if replace or not final.is_dir():
            self._commit(step, final, write, keep)
        # Else the run was resumed from this very checkpoint: it is there.
        self._point(LATEST, final)
        if best:
            self._point(BEST, final)
        self._retain()
        return final

    def _commit(
        self, step: int, final: Path, write: Callable[[Path], Mapping[str, str] | None], keep: Keep
    ) -> None:
        temporary = final.with_name(final.name + _TEMPORARY)
        _remove(temporary)
        temporary.mkdir()
        try:
            hashed = write(temporary)
            _write_manifest(temporary, step, hashed or {}, keep)
        except BaseException:
            _remove(temporary)
            raise
        fsync_folder(self.root)
        _remove(final)
        temporary.rename(final)
        fsync_folder(self.root)

    def discard_unfinished(self) -> list[str]:
        """Clears away what a killed save left behind; returns the names.

        What was complete but for its final name, and has no intact checkpoint of its step beside
        it, gets that name. Nothing that the store did not make itself is touched.
        """
        discarded = []
        for path in sorted(self.root.iterdir()) if self.root.is_dir() else []:
            if path.name in _UNFINISHED_POINTERS:
                _remove(path)
        for path in self._with_suffix(_TEMPORARY):
            final = path.with_name(path.name.removesuffix(_TEMPORARY))
            if verify(path) is None and (not final.is_dir() or verify(final) is not None):
                _remove(final)
                path.rename(final)
                fsync_folder(self.root)
            else:
                _remove(path)
                discarded.append(path.name)
        return discarded

    def _with_suffix(self, suffix: str) -> list[Path]:
        """The folders called `step-N` + suffix."""
        if not self.root.is_dir():
            return []
        return sorted(
            path
            for path in self.root.iterdir()
            if path.name.endswith(suffix)
            and step_of_folder(path.name.removesuffix(suffix)) is not None
        )

    def _retain(self) -> None:
        strength = {step: _strength(self.root / step_folder(step)) for step in self.steps()}
        recent = [step for step in strength if strength[step] > _STRENGTH.index("temporary")]
        permanent = [step for step in strength if strength[step] == _STRENGTH.index("permanent")]
        kept = {*recent[-self.keep_last :], *permanent, max(strength)}
        best = self.pointer(BEST) if self.keep_best else None
        for step in strength:
            folder = self.root / step_folder(step)
            if step not in kept and folder != best:
                with suppress(OSError):  # the new one is committed: what stays can go next time
                    _remove(folder)
        for path in self._with_suffix(_CORRUPT):
            with suppress(OSError):
                _remove(path)

    def discard_after(self, step: int) -> None:
        """Removes the checkpoints of later steps: the run has gone back and takes another course.

        A kill in the middle leaves some of them, intact; the run then goes back once more.
        """
        for later in reversed([s for s in self.steps() if s > step]):
            folder = self.root / step_folder(later)
            aside = folder.with_name(folder.name + _CORRUPT)  # half removed, it must not be met
            _remove(aside)
            folder.rename(aside)
            _remove(aside)
        for name in (LATEST, BEST):
            link = self.root / name
            if (link.is_symlink() or link.is_file()) and self.pointer(name) is None:
                _remove(link)
        if self.root.is_dir():
            fsync_folder(self.root)

    def point_again(self, step: int, best_step: int | None) -> None:
        """Makes `latest` and `best` agree with a state that is resumed.

        A kill between the commit of a checkpoint and its pointers leaves them behind.

        Args:
            step: Of the checkpoint that the run goes on from.
            best_step: Of the best one so far, as its state says.
        """
        wanted = {LATEST: step, BEST: best_step if self.keep_best else None}
        for name, number in wanted.items():
            if number is None:
                continue
            folder = self.root / step_folder(number)
            if folder.is_dir() and self.pointer(name) != folder:
                self._point(name, folder)

    def _point(self, name: str, target: Path) -> None:
        """Makes `name` lead to a checkpoint: a link, or a file with its name without links."""
        link = self.root / name
        fresh = self.root / f".{name}{_TEMPORARY}"
        _remove(fresh)
        try:
            if os.name == "nt":  # where links can be made, one to a folder cannot be replaced
                raise NotImplementedError
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
                is then put aside, so that it is never met again; but only where an intact one is
                found, or the next resume would find nothing and start from nothing (R40).

        Raises:
            UserError: There are checkpoints, and none of them verifies.
        """
        corrupt: list[tuple[Path, str]] = []
        for step in reversed(self.steps()):
            folder = self.root / step_folder(step)
            problem = verify(folder)
            if problem is not None:
                corrupt.append((folder, problem))
                continue
            if on_corrupt is not None:
                for damaged, reason in corrupt:
                    on_corrupt(damaged, reason)
                    aside = damaged.with_name(damaged.name + _CORRUPT)
                    _remove(aside)
                    damaged.rename(aside)
            return folder
        lost = len(corrupt) + len(self._with_suffix(_CORRUPT))
        if lost:
            raise UserError(
                f"None of the {lost} checkpoints in {self.root} is intact"
                + (f": {corrupt[0][0].name}: {corrupt[0][1]}." if corrupt else "."),
                fix="Restore one from a copy, or start a new run; nothing is trained from scratch "
                "in silence.",
                regret="R40",
            )
        return None


def verify(
    folder: Path, *, only: Collection[str] | None = None, checksums: bool = True
) -> str | None:
    """None when every file is what the checkpoint's manifest says; else what is wrong.

    Args:
        folder: The checkpoint.
        only: Check these files alone: whoever generates need not read the optimiser.
        checksums: Read the files; without, only that they are there, in their sizes.
    """
    if not (folder / CHECKPOINT_MANIFEST).is_file():
        return f"it has no {CHECKPOINT_MANIFEST}"
    try:
        manifest = read_json(folder / CHECKPOINT_MANIFEST)
        version = manifest["format_version"]
        files = {
            str(name): (int(entry["bytes"]), str(entry["sha256"]))
            for name, entry in manifest["files"].items()
        }
    except (UserError, OSError, AttributeError, KeyError, TypeError, ValueError):
        return f"{CHECKPOINT_MANIFEST} is damaged"
    if version != FORMAT_VERSION:
        return f"it has checkpoint format {version}; this release reads {FORMAT_VERSION}"
    if not files:
        return f"{CHECKPOINT_MANIFEST} names no files"
    for name, (size, sha256) in files.items():
        if only is not None and name not in only:
            continue
        path = folder / name
        try:
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes instead of {size}"
            if checksums and sha256_of_file(path) != sha256:
                return f"{name} does not match its checksum"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def _write_manifest(folder: Path, step: int, hashed: Mapping[str, str], keep: Keep) -> None:
    files = {}
    for path in sorted(folder.iterdir()):
        if path.name not in hashed:
            fsync_file(path)
        sha256 = hashed.get(path.name) or sha256_of_file(path)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": sha256}
    fsync_folder(folder)
    content: dict[str, Any] = {"format_version": FORMAT_VERSION, "step": step, "files": files}
    if keep != "recent":
        content[_KEEP] = keep
    write_atomically(folder / CHECKPOINT_MANIFEST, dump_json(content, indent=1) + "\n")


def _strength(folder: Path) -> int:
    """How firmly a checkpoint is kept; a damaged manifest says nothing of it."""
    with suppress(UserError, OSError, AttributeError, ValueError):
        return _STRENGTH.index(read_json(folder / CHECKPOINT_MANIFEST).get(_KEEP, "recent"))
    return _STRENGTH.index("recent")


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
