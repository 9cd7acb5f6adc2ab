"""A data set on the Hugging Face hub, read file by file through a folder of bounded size.

In: `hf:ORG/NAME[:CONFIG or FOLDER or GLOB][@REVISION]`. Out: the list of its training files, and
each of them as a local path for as long as it is being read, while the next one is already on its
way.

Always holds: every read of one `HubDataset` is of one commit, however the data set changes
meanwhile (R13); what `local` gives is whole and has the hash that the hub promised; the copies
never take more than `keep_local` bytes; a killed process, run again, asks only for bytes that it
does not have. `huggingface_hub` is imported at the first request, never by importing this module.
"""

from __future__ import annotations

import contextlib
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from fromscratch.data.hub_copies import Copies, Lease
from fromscratch.data.hub_layout import (
    Choice,
    Configuration,
    HubFile,
    choose_by_guess,
    choose_by_pattern,
    configurations,
    folder_of,
    has_magic,
    listed,
    no_such_part,
    train_patterns,
)
from fromscratch.data.hub_repository import Patience, Repository
from fromscratch.data.hub_transfer import download
from fromscratch.foundation.errors import UserError

__all__ = ["HUB_PREFIX", "HubDataset", "HubFile", "OnBytes", "Patience"]

HUB_PREFIX = "hf:"

_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_CONVERTED = "refs/convert/parquet"
OnBytes = Callable[[HubFile, int], None]


class HubDataset:
    """One data set at one commit.

    Args:
        spec: `hf:ORG/NAME`, then optionally `:` and a configuration, a folder, a file or a glob of
            the repository, then optionally `@` and a branch, a tag or a commit.
        folder: Where copies lie; may be shared by several data sets and processes.
        keep_local: Bytes that the copies in it may take.
        endpoint: The hub's address, if not the one that `HF_ENDPOINT` names.
        patience: How long trouble on the way is borne, and who is told of it.
        on_bytes: The attribute of this name, from the start.

    Attributes:
        on_bytes: While `local` waits for a file: called with it and its bytes on disk so far.

    Raises:
        UserError: The spec is not of this form.
    """

    def __init__(
        self,
        spec: str,
        *,
        folder: Path,
        keep_local: int,
        endpoint: str | None = None,
        patience: Patience = Patience(),  # noqa: B008 (frozen)
        on_bytes: OnBytes | None = None,
    ) -> None:
        self.spec = spec
        self.name, self.part, self._asked = _parse(spec)
        self._repository = Repository(self.name, endpoint, patience)
        self._copies = Copies(folder, keep_local, patience.tell)
        self.on_bytes = on_bytes
        self._ahead = _Ahead()
        # Also when the interpreter exits: nothing writes into the folder any more after that.
        weakref.finalize(self, self._ahead.cancel)

    @cached_property
    def revision(self) -> str:
        """The commit that all reads are pinned to.

        Raises:
            UserError: There is no such data set or revision, no right to read it, or no way there.
        """
        return self._repository.resolve(self._asked)

    @property
    def pinned(self) -> str:
        """The spec with the commit in it: reads the same bytes at any later time."""
        part = f":{self.part}" if self.part else ""
        return f"{HUB_PREFIX}{self.name}{part}@{self.revision}"

    def files(self) -> list[HubFile]:
        """The data files of the training split, sorted by path.

        Raises:
            UserError: As `revision`; or there is no such configuration, folder or file; or there
                are several configurations and none was named; or nothing in it can be read.
        """
        return list(self._choice.files)

    @property
    def left_out(self) -> dict[str, int]:
        """Number of files beside those of `files`, by what they are: other splits, other formats.

        Raises:
            UserError: As `files`.
        """
        return dict(self._choice.left_out)

    @contextmanager
    def local(
        self, file: HubFile, *, then: HubFile | None = None, prefetch: bool = True
    ) -> Iterator[Path]:
        """A whole and verified copy of a file, which stays while the context is open.

        Args:
            file: One of `files()`.
            then: What will be read next, to be fetched meanwhile; by default the next of `files()`.
            prefetch: Whether to fetch anything meanwhile.

        Raises:
            UserError: It cannot be had; or it is larger than the bound or the disk.
        """
        watch = self.on_bytes or (lambda file, arrived: None)
        self._ahead.settle(file, watch)
        lease = self._bring(file, threading.Event(), lambda n: watch(file, n), wait=True)
        assert lease is not None
        try:
            following = (then or self._after(file)) if prefetch else None
            if following is not None:
                self._ahead.start(following, self._bring)
            yield lease.copy
        finally:
            lease.release()

    def close(self) -> None:
        """Breaks off what is being fetched in the background; what has arrived of it stays."""
        self._ahead.cancel()

    # --- which files ------------------------------------------------------------------------------

    @cached_property
    def _choice(self) -> Choice:
        choice = self._choose()
        if choice.files:
            return choice
        kinds = listed(sorted(choice.left_out))
        converted = f"{HUB_PREFIX}{self.name}@{_CONVERTED}"
        raise UserError(
            f"{self.spec} has no file that can be read: no Parquet, JSON (.json, .jsonl, .gz, "
            f".zst) or text" + (f", only {kinds}." if kinds else "."),
            fix=f"The hub keeps many data sets converted to Parquet too: try {converted}",
        )

    def _choose(self) -> Choice:
        configs, default = configurations(self._repository.card(self.revision))
        if self.part is None:
            if not configs:
                return choose_by_guess(self._listing(""), "", self.name)
            if default is None:
                raise UserError(
                    f"{self.name} has several configurations: {listed(configs)}.",
                    fix=f"Name one: {HUB_PREFIX}{self.name}:{next(iter(configs))}",
                )
            return self._of_configuration(configs[default])
        if self.part in configs:
            return self._of_configuration(configs[self.part])
        choice = self._of_path(self.part)
        if not choice.files and not choice.left_out:
            raise no_such_part(self.name, self.part, configs, self._listing(""))
        return choice

    def _of_configuration(self, configuration: Configuration) -> Choice:
        if not configuration.splits:
            folder = configuration.folder
            return choose_by_guess(self._listing(folder), folder, self.name)
        patterns = train_patterns(configuration, self.name)
        # Only the folders that the patterns speak of: some repositories have 100,000 files.
        folders = {folder_of(pattern) for pattern in patterns}
        files = {f.path: f for folder in sorted(folders) for f in self._listing(folder)}
        choice = choose_by_pattern(files.values(), patterns)
        if not choice.files and not choice.left_out:
            raise UserError(
                f'{self.name}: the configuration "{configuration.name}" names files that are not '
                f"there: {listed(patterns)}.",
                fix=f"Name a folder instead: {HUB_PREFIX}{self.name}:FOLDER",
            )
        return choice

    def _of_path(self, part: str) -> Choice:
        part = part.strip("/")
        if has_magic(part):
            return choose_by_pattern(self._listing(folder_of(part)), [part])
        below = self._listing(part)
        if below:
            return choose_by_guess(below, part, self.name)
        return choose_by_pattern(self._listing(folder_of(part)), [part])

    def _listing(self, folder: str) -> list[HubFile]:
        return self._repository.files(self.revision, folder)

    # --- bringing them here -----------------------------------------------------------------------

    def _after(self, file: HubFile) -> HubFile | None:
        files = self._choice.files
        place = self._places.get(file.path, len(files))
        return files[place + 1] if place + 1 < len(files) else None

    @cached_property
    def _places(self) -> dict[str, int]:
        return {file.path: place for place, file in enumerate(self._choice.files)}

    def _bring(
        self, file: HubFile, stop: threading.Event, on_bytes: Callable[[int], None], *, wait: bool
    ) -> Lease | None:
        """A lease on the whole copy of a file; None where it would have to wait and must not."""
        lease = self._copies.claim(file, stop, wait=wait)
        if lease is None or lease.whole:
            return lease
        try:
            download(
                self._repository, self.revision, file, lease.partial, stop=stop, on_bytes=on_bytes
            )
            lease.finish()
        except BaseException:  # also Ctrl-C: the lease must end, what has arrived stays
            lease.release()
            raise
        return lease


class _Ahead:
    """At most one file on its way in the background.

    The thread is a daemon: it never keeps the process alive. Trouble in it is dropped, because
    whoever wants the file then asks for it again and meets the trouble himself.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._file: HubFile | None = None
        self._stop = threading.Event()
        self._arrived = 0

    def start(self, file: HubFile, bring: Callable[..., Lease | None]) -> None:
        """Begins to fetch a file, instead of whatever else was on its way."""
        if self._file == file and self._thread is not None and self._thread.is_alive():
            return
        self.cancel()
        self._file, self._stop, self._arrived = file, threading.Event(), 0
        self._thread = threading.Thread(
            target=self._run, args=(file, self._stop, bring), name="hub-ahead", daemon=True
        )
        self._thread.start()

    def settle(self, file: HubFile, watch: OnBytes) -> None:
        """Waits for the file if it is on its way, and breaks off any other."""
        if self._file != file:
            self.cancel()
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.1)  # in slices, so that Ctrl-C is heard on every system
            watch(file, self._arrived)

    def cancel(self) -> None:
        """Breaks off; gives the thread a moment to let go of its lease.

        A thread that hears nothing from the network lets go when its request times out.
        """
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1)

    def _run(
        self, file: HubFile, stop: threading.Event, bring: Callable[..., Lease | None]
    ) -> None:
        def count(arrived: int) -> None:
            self._arrived = arrived

        with contextlib.suppress(Exception):
            lease = bring(file, stop, count, wait=False)
            if lease is not None:
                lease.release()


def _parse(spec: str) -> tuple[str, str | None, str | None]:
    """The name, the part and the revision of `hf:ORG/NAME[:PART][@REVISION]`."""
    rest, at, revision = spec.removeprefix(HUB_PREFIX).partition("@")
    name, colon, part = rest.partition(":")
    told = not (colon and not part) and not (at and not revision)
    if not spec.startswith(HUB_PREFIX) or not _NAME.fullmatch(name) or not told:
        raise UserError(
            f'"{spec}" does not name a data set on the hub.',
            fix="Name it as on the hub: hf:ORG/NAME, with :CONFIG and @REVISION where wanted.",
        )
    return name, part or None, revision or None
