"""A folder onto the Hugging Face hub: private unless it is said otherwise, looked at afterwards.

In: a folder and a name. Out: the address of a repository that holds these very files. All requests
go through `huggingface_hub`, so its settings hold (`HF_ENDPOINT`, `HF_TOKEN`, proxies). A token is
used by that library alone; it is in no message of ours.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from fromscratch.data.hub_repository import Repository, hub_library, in_words, status_of
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import sha256_of_file

Kind = Literal["model", "space"]
_NAME = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


def check_push(name: str, kind: Kind, *, public: bool, endpoint: str | None = None) -> None:
    """Finds out whether an upload can go well, before anything is computed for it.

    Args:
        name: `ORG/NAME`.
        kind: What the repository is.
        public: Whether everybody may see it.
        endpoint: The hub's address, if not the one that `HF_ENDPOINT` names.

    Raises:
        UserError: The name is none, nobody is logged in, the hub cannot be reached, or the
            repository is there and public although that was not asked for.
    """
    if _NAME.fullmatch(name) is None:
        raise UserError(
            f'"{name}" does not name a repository on the hub.', fix="Write --push ORG/NAME."
        )
    library = hub_library()
    if library.get_token() is None:
        raise UserError(
            "To upload, you must be logged in to the hub.",
            fix="Log in: hf auth login (or set HF_TOKEN to a token that may write).",
        )
    api = library.HfApi(endpoint=endpoint)
    try:
        api.whoami()
        there = api.repo_exists(name, repo_type=kind)
        private = bool(api.repo_info(name, repo_type=kind).private) if there else not public
    except Exception as error:
        raise _refusal(name, error, endpoint) or error from None
    if there and not private and not public:
        raise UserError(
            f"{name} is on the hub already, and public: what is uploaded could be seen by all.",
            fix="Say --public if that is meant, or choose another --push.",
        )


def push_folder(
    folder: Path, name: str, kind: Kind, *, public: bool, endpoint: str | None = None
) -> str:
    """Uploads a folder as one commit, and compares what is there then.

    Args:
        folder: All its files go there; what else is in the repository stays.
        name: `ORG/NAME`; made if it is not there.
        kind: What the repository is.
        public: Whether everybody may see it, where it is made.
        endpoint: The hub's address, if not the one that `HF_ENDPOINT` names.

    Returns:
        The repository's address.

    Raises:
        UserError: The hub refuses, or holds something else afterwards.
    """
    library = hub_library()
    api = library.HfApi(endpoint=endpoint)
    try:
        made = api.create_repo(
            name,
            repo_type=kind,
            private=not public,
            exist_ok=True,
            space_sdk="gradio" if kind == "space" else None,
        )
        commit = api.upload_folder(
            repo_id=name,
            folder_path=folder,
            repo_type=kind,
            commit_message="Exported by fromscratch",
        )
        _check_files(api, folder, name, kind, commit.oid)
    except UserError:
        raise
    except Exception as error:
        raise _refusal(name, error, endpoint) or error from None
    return str(made)


def _check_files(api: Any, folder: Path, name: str, kind: Kind, commit: str) -> None:
    info = api.repo_info(name, repo_type=kind, revision=commit, files_metadata=True)
    there = {file.rfilename: file for file in info.siblings or ()}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        file = there.get(path.relative_to(folder).as_posix())
        stored = file.lfs if file is not None else None
        if file is None or (stored is not None and stored.sha256 != sha256_of_file(path)):
            raise UserError(
                f"{name} does not hold {path.name} as it was uploaded.",
                fix=f"The export is whole in {folder}; upload it again: hf upload {name} {folder}",
            )


def _refusal(name: str, error: Exception, endpoint: str | None) -> UserError | None:
    """What an error of the hub's client means; None where it is our mistake."""
    if status_of(error) in (401, 403, 404):
        return UserError(
            f"The hub does not let you write to {name} ({in_words(error)}).",
            fix="Check the name, and that your token may write there: hf auth login (or HF_TOKEN).",
        )
    return Repository(name, endpoint, kind="model").refusal(error)
