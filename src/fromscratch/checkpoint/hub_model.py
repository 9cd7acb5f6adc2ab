"""A model on the Hugging Face hub as a folder on this machine.

In: `ORG/NAME`, with `@REVISION` where wanted. Out: a folder with config.json, the weights in
safetensors and the tokenizer, and nothing else of the repository. It lies in the cache that
`huggingface_hub` and transformers use too, so what another program has downloaded is not downloaded
again; and where the hub cannot be reached, what is in that cache is used.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from fromscratch.checkpoint.model_files import indexed_files, weight_files
from fromscratch.data.hub_repository import Patience, Repository, hub_library
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.names import (
    CHECKPOINT_CONFIG,
    CHECKPOINT_TOKENIZER,
    CHECKPOINT_TOKENIZER_CONFIG,
    CHECKPOINT_WEIGHTS,
    CHECKPOINT_WEIGHTS_INDEX,
)

_PREFIX = "hf:"
_RUNS = "runs"  # where `train` puts runs when nobody says where
_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_SMALL = (
    CHECKPOINT_CONFIG,
    CHECKPOINT_TOKENIZER,
    CHECKPOINT_TOKENIZER_CONFIG,
    CHECKPOINT_WEIGHTS_INDEX,
)


def is_hub_name(named: str) -> bool:
    """Whether a model's name means the hub: `hf:...`, or `ORG/NAME` where no path can be meant.

    `runs/tyr` is a run that is misspelt, as is any name below a folder that is there: nobody is
    asked for it.
    """
    if named.startswith(_PREFIX):
        return True
    if _NAME.fullmatch(named) is None or named[0] == ".":
        return False
    first = named.partition("/")[0]
    return first != _RUNS and not Path(first).exists()


def hub_model_folder(
    named: str,
    *,
    endpoint: str | None = None,
    cache: Path | None = None,
    patience: Patience = Patience(),  # noqa: B008 (frozen)
) -> Path:
    """Downloads a model's config, weights and tokenizer, as far as they are not here yet.

    Args:
        named: `ORG/NAME` or `hf:ORG/NAME`, with `@` and a branch, tag or commit where wanted.
        endpoint: The hub's address, if not the one that `HF_ENDPOINT` names.
        cache: Where it is kept, if not in Hugging Face's own cache.
        patience: How long trouble on the way is borne, and who is told of it.

    Raises:
        UserError: It is no model's name, there is no such model, no right to read it or no way to
            it; or it has no weights in safetensors.
    """
    match = _NAME.fullmatch(named.removeprefix(_PREFIX))
    if match is None:
        raise UserError(
            f'"{named}" does not name a model on the hub.',
            fix="Name it as on the hub: ORG/NAME, with @REVISION where wanted.",
        )
    try:
        library = hub_library()
    except UserError as error:
        raise UserError(
            f"{named} does not exist here, and to look on the Hugging Face hub a package is needed "
            "that is not installed.",
            fix=f"Check the path; or, for the hub, {(error.fix or '')[:1].lower()}"
            f"{(error.fix or '')[1:]}",
        ) from None
    repository = Repository(match["name"], endpoint, patience, kind="model")
    download = _Download(library, repository, cache)
    try:
        commit = repository.resolve(match["revision"])
    except UserError as no_way:
        folder = download.in_the_cache(match["revision"])
        if folder is None:
            raise UserError(f"{named} does not exist here. {no_way.what}", fix=no_way.fix) from None
        return folder
    return download.at(commit, match["revision"])


class _Download:
    """The files of one model that are needed, through the library's own client and cache."""

    def __init__(self, library: ModuleType, repository: Repository, cache: Path | None) -> None:
        self._library, self._repository, self._cache = library, repository, cache

    def at(self, commit: str, revision: str | None) -> Path:
        """The folder of a commit, complete.

        It is asked for as the revision that it is, so that the cache knows what that stood for when
        the hub cannot be asked.

        Raises:
            UserError: It cannot be had, or holds no weights in safetensors.
        """
        there = {file.path for file in self._repository.files(commit)}
        if CHECKPOINT_WEIGHTS not in there and CHECKPOINT_WEIGHTS_INDEX not in there:
            raise UserError(
                f"{self._repository.name} has no {CHECKPOINT_WEIGHTS} on the hub: its weights, if "
                "any, are in a format that is not read here.",
                fix="Choose a GPT-2 or dense Qwen3 model with safetensors.",
            )
        folder = self._fetch([*_SMALL, CHECKPOINT_WEIGHTS], revision)
        if CHECKPOINT_WEIGHTS not in there:
            folder = self._fetch(indexed_files(folder), revision)
        return folder

    def in_the_cache(self, revision: str | None) -> Path | None:
        """The folder of an earlier download; None where there is none that is complete."""
        from huggingface_hub.errors import IncompleteSnapshotError, LocalEntryNotFoundError

        try:
            folder = self._fetch([*_SMALL, CHECKPOINT_WEIGHTS], revision, only_local=True)
            weight_files(folder)
        except (LocalEntryNotFoundError, IncompleteSnapshotError, UserError):
            return None
        return folder

    def _fetch(self, paths: list[str], revision: str | None, *, only_local: bool = False) -> Path:
        try:
            with _bars_on_a_terminal(self._library):
                return Path(
                    self._library.snapshot_download(
                        self._repository.name,
                        revision=revision,
                        allow_patterns=paths,
                        endpoint=self._repository.endpoint,
                        cache_dir=self._cache,
                        local_files_only=only_local,
                    )
                )
        except Exception as error:
            refused = None if only_local else self._repository.refusal(error)
            raise refused or error from None


@contextmanager
def _bars_on_a_terminal(library: ModuleType) -> Iterator[None]:
    """The library's progress bars are shown where somebody sees them; its setting is put back."""
    utils = library.utils
    hide = not sys.stderr.isatty() and not utils.are_progress_bars_disabled()
    if hide:
        utils.disable_progress_bars()
    try:
        yield
    finally:
        if hide:
            utils.enable_progress_bars()
