"""The weights in a model folder: in one safetensors file, or in several with an index.

In: a folder, ours or anyone's. Out: its tensors by name, each read when it is asked for, and a
sha256 that stands for all of them. Always true: no file outside the folder is opened, whatever the
index says, and no pickle is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fromscratch.checkpoint.tensor_file import TensorFile
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import read_json, sha256_of_file
from fromscratch.foundation.names import (
    CHECKPOINT_CONFIG,
    CHECKPOINT_WEIGHTS,
    CHECKPOINT_WEIGHTS_INDEX,
)

NAME_A_MODEL = (
    "Name a run, a folder in its checkpoints/, a Hugging Face model folder, or a model on the hub "
    "(ORG/NAME)."
)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def open_weights(folder: Path) -> Mapping[str, Tensor]:
    """A model folder's tensors by name; each is read when it is asked for.

    Raises:
        UserError: There are none, or not all that the index names, or one file is damaged.
    """
    if (folder / CHECKPOINT_WEIGHTS).is_file():
        return TensorFile(folder / CHECKPOINT_WEIGHTS)
    return _ShardedWeights(folder)


def weights_sha256(folder: Path) -> str:
    """What names a model's weights: the sha256 of their file.

    Of several files, the sha256 of the lines `SHA256  NAME`, sorted by name, that sha256sum prints.
    """
    if (folder / CHECKPOINT_WEIGHTS).is_file():
        return sha256_of_file(folder / CHECKPOINT_WEIGHTS)
    lines = (f"{sha256_of_file(folder / name)}  {name}\n" for name in weight_files(folder))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def weight_files(folder: Path) -> list[str]:
    """The names of the files that hold a folder's weights, sorted.

    Raises:
        UserError: The index is not one, or names a file that is not there.
    """
    if (folder / CHECKPOINT_WEIGHTS).is_file():
        return [CHECKPOINT_WEIGHTS]
    files = indexed_files(folder)
    for file in files:
        if not (folder / file).is_file():
            raise UserError(
                f"{folder} lacks {file}, which {CHECKPOINT_WEIGHTS_INDEX} names.",
                fix="Download the model again.",
            )
    return files


def indexed_files(folder: Path) -> list[str]:
    """The names of the files that the index speaks of, sorted; they need not be there.

    Raises:
        UserError: The index is not one.
    """
    return sorted(set(_weight_map(folder).values()))


def check_model_folder(folder: Path) -> None:
    """Refuses a folder that is no model's, or whose weights are in a format that can run code.

    Raises:
        UserError: It has no config.json, or no weights in safetensors.
    """
    weights = (CHECKPOINT_WEIGHTS, CHECKPOINT_WEIGHTS_INDEX)
    if not any((folder / name).is_file() for name in weights):
        pickled = sorted(p.name for p in folder.glob("*") if p.suffix in _PICKLES)
        if pickled and (folder / CHECKPOINT_CONFIG).is_file():
            raise UserError(
                f"{folder} has its weights in {pickled[0]}, a pickle, which can run any code when "
                "it is opened (R56).",
                fix=f"Take the model's {CHECKPOINT_WEIGHTS}, which most models on the hub have; or "
                f"read it once with nothing in it run: fromscratch import {folder} --out FOLDER",
                regret="R56",
            )
    if not (folder / CHECKPOINT_CONFIG).is_file() or not any(
        (folder / name).is_file() for name in weights
    ):
        raise UserError(
            f"{folder} is not a checkpoint: it lacks {CHECKPOINT_CONFIG} or {CHECKPOINT_WEIGHTS}.",
            fix=NAME_A_MODEL,
        )


def _weight_map(folder: Path) -> dict[str, str]:
    """Which file of the folder has each tensor, as the index says."""
    path = folder / CHECKPOINT_WEIGHTS_INDEX
    index: Any = read_json(path)
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not names:
        raise UserError(f"{path} has no weight_map: it does not say which file has which tensor.")
    for file in names.values():
        if not isinstance(file, str) or Path(file).name != file or "\\" in file:
            raise UserError(f"{path} names {file!r}, which is not a file of its own folder.")
    return dict(names)


class _ShardedWeights(Mapping[str, Tensor]):
    """Tensors that lie in several files; each file must have exactly what the index says."""

    def __init__(self, folder: Path) -> None:
        self._file_of = _weight_map(folder)
        self._files = {name: TensorFile(folder / name) for name in weight_files(folder)}
        for name, file in self._files.items():
            promised = {tensor for tensor, its in self._file_of.items() if its == name}
            if promised != set(file):
                odd = sorted(promised ^ set(file))
                raise UserError(
                    f"{folder / name} and {CHECKPOINT_WEIGHTS_INDEX} disagree about "
                    f"{len(odd)} tensors ({odd[0]}, ...): they do not belong together.",
                    fix="Download the model again.",
                )

    def __getitem__(self, name: str) -> Tensor:
        return self._files[self._file_of[name]][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)
