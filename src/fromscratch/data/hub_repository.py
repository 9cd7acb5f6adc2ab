"""A repository on the Hugging Face hub: its commit, its files, its card, and its errors in words.

In: the name of a data set or a model. Out: answers of the hub as plain data. All requests go
through `huggingface_hub`, so its settings hold: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`,
proxies.

Always holds: whatever can go wrong with a request leaves here as a `UserError` that says what to
do, after as many patient repetitions as the kind of trouble deserves.
"""

from __future__ import annotations

import email.utils
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, TypeVar

from fromscratch.data.hub_layout import HubFile
from fromscratch.foundation.errors import Interrupted, UserError

T = TypeVar("T")

# Answers that mean "not now" rather than "no".
_NOT_NOW = {408, 425, 429, 500, 502, 503, 504}
# The hub counts requests in windows of five minutes; who asks for hours will not be waited for.
_LONGEST_WAIT = 3600.0
_CARD = "README.md"


def hub_library() -> ModuleType:
    """The `huggingface_hub` package, imported when first needed.

    Raises:
        UserError: It is not installed.
    """
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(
            "Reading from the Hugging Face hub needs a package that is not installed.",
            fix="Install it: pip install 'fromscratch[hub]'",
        ) from None
    return huggingface_hub


def to_stderr(message: str) -> None:
    """Shows a sentence to whoever watches; the default of everything here that `tell`s."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


@dataclass(frozen=True)
class Patience:
    """How long trouble on the way to the hub is borne.

    Attributes:
        attempts: Failures in a row, without a byte gained, after which to give up. The pauses
            between them double up to half a minute: eight attempts last about one minute.
        first_pause: Seconds before the first repetition.
        tell: Gets a sentence when a pause is longer than a few seconds.
    """

    attempts: int = 8
    first_pause: float = 0.5
    tell: Callable[[str], None] = to_stderr

    def pause(self, failures: int, error: Exception, stop: threading.Event) -> None:
        """Waits before the next attempt: as long as the hub asks for, else longer each time.

        Raises:
            UserError: The hub asks for more than an hour.
            Interrupted: `stop` was set meanwhile.
        """
        asked = _asked_to_wait(error)
        seconds = (
            min(30.0, self.first_pause * 2.0 ** max(0, failures - 1)) if asked is None else asked
        )
        if seconds > _LONGEST_WAIT:
            raise UserError(
                f"The hub asks to wait {seconds / 60:,.0f} minutes before the next request.",
                fix="Repeat the same command then; it goes on where it stopped.",
            )
        if seconds >= 4:
            why = "The hub asks for it" if asked is not None else in_words(error)
            self.tell(f"Waiting {seconds:.0f} s before asking the hub again ({why}).")
        end = time.monotonic() + seconds
        # In slices, because Windows does not break off a wait when Ctrl-C is pressed.
        while (left := end - time.monotonic()) > 0:
            if stop.wait(min(left, 0.25)):
                raise Interrupted("no longer wanted")


def is_transient(error: Exception) -> bool:
    """Whether the same request may well succeed a little later."""
    import httpx2

    status = status_of(error)
    if status is not None:
        return status in _NOT_NOW
    return isinstance(error, httpx2.TransportError) and not isinstance(
        error, httpx2.UnsupportedProtocol
    )


def status_of(error: Exception) -> int | None:
    """The HTTP status in an error of the hub's client; None where there was no answer."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return int(status) if status is not None else None


def in_words(error: Exception) -> str:
    """One short line about an error: its status, or what broke."""
    status = status_of(error)
    if status is not None:
        said = getattr(error, "server_message", None)
        return f"HTTP {status}: {str(said).splitlines()[0]}" if said else f"HTTP {status}"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _asked_to_wait(error: Exception) -> float | None:
    """Seconds that the hub asks for: its own rate limit header, else Retry-After in both forms."""
    response = getattr(error, "response", None)
    if response is None or status_of(error) not in {429, 503}:
        return None
    limit = hub_library().utils.parse_ratelimit_headers(response.headers)
    if limit is not None and limit.remaining == 0 and status_of(error) == 429:
        return float(limit.reset_in_seconds)
    after = str(response.headers.get("Retry-After", "")).strip()
    if after.isdigit():
        return float(after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


@dataclass(frozen=True)
class Repository:
    """A data set's repository, or a model's.

    Attributes:
        name: `ORG/NAME`.
        endpoint: The hub's address; None for what `HF_ENDPOINT` says, else huggingface.co.
        patience: For requests that fail in passing.
        kind: What it holds.
    """

    name: str
    endpoint: str | None = None
    patience: Patience = Patience()
    kind: Literal["dataset", "model"] = "dataset"

    def resolve(self, revision: str | None) -> str:
        """The commit that a branch, a tag or nothing (the main branch) stands for.

        Raises:
            UserError: There is no such repository or revision, no right to read it, no way there.
        """
        library = hub_library()
        api = library.HfApi(endpoint=self.endpoint)

        def info() -> Any:
            return api.repo_info(
                self.name,
                revision=revision,
                repo_type=self.kind,
                expand=["sha"],  # else the names of all files come along, 100,000 of some
                timeout=library.constants.HF_HUB_DOWNLOAD_TIMEOUT,
            )

        # The first request finds out whether there is a network at all; nobody waits long for that.
        return str(self._ask(info, attempts=3).sha)

    def files(self, commit: str, folder: str = "") -> list[HubFile]:
        """All files below a folder; none where the folder does not exist."""
        from huggingface_hub.errors import RemoteEntryNotFoundError
        from huggingface_hub.hf_api import RepoFile

        api = hub_library().HfApi(endpoint=self.endpoint)

        def listing() -> list[HubFile]:
            try:
                tree = api.list_repo_tree(
                    self.name, folder or None, recursive=True, revision=commit, repo_type=self.kind
                )
                return [
                    HubFile(e.path, e.size, e.lfs.sha256 if e.lfs else e.blob_id)
                    for e in tree
                    if isinstance(e, RepoFile)
                ]
            except RemoteEntryNotFoundError:
                return []

        return self._ask(listing, attempts=1)  # the library itself is patient here

    def card(self, commit: str) -> Mapping[str, Any]:
        """The front matter of the data set's card; empty where there is no card.

        Raises:
            UserError: The front matter is not YAML.
        """
        library = hub_library()
        from huggingface_hub.errors import RemoteEntryNotFoundError

        def text() -> str:
            response = library.get_session().get(
                self.address(_CARD, commit),
                headers=library.utils.build_hf_headers(),
                timeout=library.constants.HF_HUB_DOWNLOAD_TIMEOUT,
                follow_redirects=True,
            )
            try:
                library.hf_raise_for_status(response)
            except RemoteEntryNotFoundError:
                return ""
            return str(response.content.decode("utf-8", "replace"))

        content = self._ask(text)
        if not content.lstrip("\ufeff \r\n").startswith("---"):
            return {}
        try:
            card = library.DatasetCard(content, ignore_metadata_errors=True)
        except Exception as error:  # PyYAML's and the library's own, several kinds of each
            raise UserError(
                f"The card of {self.name} is not readable ({in_words(error)}).",
                fix=f"Name the files instead, as in hf:{self.name}:FOLDER",
            ) from None
        return dict(card.data.to_dict())

    def address(self, path: str, commit: str) -> str:
        """Where a file's content is asked for."""
        return str(
            hub_library().hf_hub_url(
                self.name, path, repo_type=self.kind, revision=commit, endpoint=self.endpoint
            )
        )

    def _ask(self, request: Callable[[], T], *, attempts: int | None = None) -> T:
        """Makes a request until it succeeds or patience ends."""
        stop = threading.Event()
        failures = 0
        while True:
            try:
                return request()
            except Exception as error:
                failures += 1
                if not is_transient(error) or failures >= (attempts or self.patience.attempts):
                    raise self.refusal(error) or error from None
                self.patience.pause(failures, error, stop)

    def refusal(self, error: Exception, path: str | None = None) -> UserError | None:
        """What an error of the hub's client means to the user; None for what is our mistake."""
        import httpx2
        from huggingface_hub import errors

        what = f"{path} of {self.name}" if path else self.name
        page = f"{self._home()}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"
        status = status_of(error)
        if isinstance(error, errors.OfflineModeIsEnabled):
            return UserError(
                f"{what} is not on this machine, and HF_HUB_OFFLINE forbids to ask the hub.",
                fix="Unset HF_HUB_OFFLINE.",
            )
        if isinstance(error, errors.HFValidationError):
            return UserError(
                f'"{self.name}" cannot be the name of {self._a_kind}.',
                fix="Name it as on the hub: hf:ORG/NAME, with "
                + (":CONFIG and " if self.kind == "dataset" else "")
                + "@REVISION where wanted.",
            )
        if isinstance(error, errors.GatedRepoError):
            return UserError(
                f"{what} is gated: its owners want to know who reads it.",
                fix=f"Ask for access at {page}, then {self._how_to_log_in()}",
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return UserError(
                f"{self.name} has no such revision.",
                fix=f"Branches and tags are listed at {page}/tree/main",
            )
        if isinstance(error, errors.RemoteEntryNotFoundError):
            return UserError(f"{what} does not exist at this revision.")
        if isinstance(error, errors.RepositoryNotFoundError):
            return self._not_found()
        if isinstance(error, errors.DisabledRepoError):
            return UserError(f"{self.name} has been disabled by the hub.")
        if status in {401, 403}:
            return UserError(
                f"The hub refuses access to {what} ({in_words(error)}).",
                fix=f"If it is yours or you were given access, {self._how_to_log_in()}",
            )
        if status is not None:
            return UserError(
                f"The hub did not give {what} ({in_words(error)}).",
                fix="Repeat the same command later; it goes on where it stopped.",
            )
        if isinstance(error, httpx2.HTTPError):
            return UserError(
                f"No connection to the hub at {self._home()} for {what} ({in_words(error)}).",
                fix="Check the network (and HF_ENDPOINT, if you set it), then repeat the same "
                "command; it goes on where it stopped.",
            )
        return None

    @property
    def _a_kind(self) -> str:
        return "a data set" if self.kind == "dataset" else "a model"

    def _home(self) -> str:
        return str(self.endpoint or hub_library().constants.ENDPOINT)

    def _how_to_log_in(self) -> str:
        if hub_library().get_token() is None:
            return "log in: hf auth login (or set HF_TOKEN)."
        return "use a token that may read it: hf auth login (or set HF_TOKEN)."

    def _not_found(self) -> UserError:
        """There is no such repository, as far as this user may know: what else is there?"""
        api = hub_library().HfApi(endpoint=self.endpoint)
        is_model = self.kind == "model"
        other = "a data set" if is_model else "a model"
        listing = api.list_models if is_model else api.list_datasets
        try:
            api.repo_info(self.name, repo_type="dataset" if is_model else "model")
        except Exception:  # a courtesy on the way out: whatever fails here, the answer stands
            pass
        else:
            return UserError(f"{self.name} is {other} on the hub, not {self._a_kind}.")
        hint = ""
        try:
            near = [found.id for found in listing(search=self.name.split("/")[-1], limit=5)]
            hint = f" There is {', '.join(near)}." if near else ""
        except Exception:  # as above
            pass
        return UserError(
            f'The hub has no {self._a_kind[2:]} "{self.name}", or it is private.{hint}',
            fix=f"Check the name; if it is private, {self._how_to_log_in()}",
        )
