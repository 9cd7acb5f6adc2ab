"""A checkpoint of another trainer: its tensors by name, and what it says of its settings.

In: a `.pt`, `.pth`, `.bin`, `.ckpt` or `.safetensors` file. Out: `ForeignFile`. A pickle can run
any code when it is opened; here it is only ever read with torch's restricted unpickler
(`weights_only`), which calls nothing but what makes tensors and plain containers (R56). A class of
the author's own (the settings of nanoGPT's relatives are often a data class) is replaced by
`_Settings`, an empty thing that keeps the values and runs nothing. A file that wants anything else
called is refused, and nothing of it has run.
"""

from __future__ import annotations

import pickle
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fromscratch.checkpoint.tensor_file import TensorFile
from fromscratch.foundation.errors import UserError

# Where trainers put the weights; else the file itself is them.
_WEIGHTS = ("model_state_dict", "model", "state_dict", "model_state", "weights")
# What wrappers of the model put before each name: torch.compile, data parallelism, Lightning.
_PREFIXES = ("_orig_mod.", "module.", "model.")
_SETTINGS = ("model_args", "model_config", "config", "cfg", "args", "hparams", "hyper_parameters")
# Of Python's own library these hold settings, and are read as such.
_HARMLESS = {"argparse.Namespace", "types.SimpleNamespace", "pathlib.PosixPath", "pathlib.Path"}


@dataclass(frozen=True)
class ForeignFile:
    """What a foreign checkpoint holds.

    Attributes:
        tensors: By name, without the prefixes of wrappers.
        settings: What it says of the model's shape; empty where it says nothing.
        step: Updates behind it, where it says so.
    """

    tensors: Mapping[str, Tensor]
    settings: Mapping[str, Any]
    step: int | None


class _Settings:
    """Stands for a class of the author's: takes what it is given and does nothing with it."""

    def __init__(self, *given: Any, **named: Any) -> None:
        self.given = given
        self.__dict__.update(named)

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


def read_foreign(path: Path, *, keep_names: bool = False) -> ForeignFile:
    """Reads a checkpoint; nothing in it is run.

    Args:
        path: The file.
        keep_names: Leave the tensors' names as they are in the file.

    Raises:
        UserError: It is not there, damaged, no checkpoint, or wants code run.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file.", fix="Name the checkpoint's file.")
    if path.suffix == ".safetensors":
        whole = dict(TensorFile(path))
        return ForeignFile(whole if keep_names else _unwrapped(whole), {}, None)
    content = _unpickled(path)
    if not isinstance(content, Mapping):
        raise UserError(
            f"{path} holds a {type(content).__name__}, not a state dict: a whole model was "
            "pickled, with its code.",
            fix="Save model.state_dict() where it was trained.",
        )
    inner = next((content[k] for k in _WEIGHTS if isinstance(content.get(k), Mapping)), content)
    tensors = {str(k): v for k, v in inner.items() if isinstance(v, Tensor)}
    if not tensors:
        raise UserError(
            f"{path} holds no weights: its entries are {', '.join(map(str, content))[:200]}."
        )
    settings: dict[str, Any] = {}
    if inner is not content:
        for key in reversed(_SETTINGS):
            settings |= _as_mapping(content.get(key))
    steps = (content.get(key) for key in ("step", "iter_num", "global_step", "iteration"))
    return ForeignFile(
        tensors if keep_names else _unwrapped(tensors),
        settings,
        next((s for s in steps if isinstance(s, int)), None),
    )


def _unpickled(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except pickle.UnpicklingError as error:
        stand_ins = _stand_ins(path, error)
    except (RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        raise _damaged(path, error) from None
    try:
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except Exception as error:  # whatever a hostile file makes of the stand-ins
        raise _damaged(path, error) from None


def _stand_ins(path: Path, error: Exception) -> list[Any]:
    """A stand-in for each class that the file names and torch does not know.

    Raises:
        UserError: One of them is no class of the author's: the file wants code of others run.
    """
    try:
        wanted = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # of files in the old format it cannot tell
        raise _damaged(path, error) from None
    for name in wanted:
        module = name.partition(".")[0]
        if name not in _HARMLESS and (
            module in sys.stdlib_module_names or module in ("torch", "builtins", "__builtin__")
        ):
            raise UserError(
                f"{path} wants {name} to be called when it is opened, which no weights need. "
                "Nothing of it was run.",
                fix="Do not open this file with other programs; take the weights as safetensors.",
            )
    return [(_Settings, name) for name in wanted]


def _damaged(path: Path, error: Exception) -> UserError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return UserError(f"{path} cannot be read as a checkpoint: {lines[0][:200]}")


def _is_zip(path: Path) -> bool:
    return zipfile.is_zipfile(path)


def _unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names that the author gave them."""
    found = dict(tensors)
    changed = True
    while changed:
        changed = False
        for prefix in _PREFIXES:
            if found and all(name.startswith(prefix) for name in found):
                found = {name.removeprefix(prefix): t for name, t in found.items()}
                changed = True
    return {name.replace("_orig_mod.", ""): tensor for name, tensor in found.items()}


def _as_mapping(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {str(k).lower(): v for k, v in value.items()}
    if isinstance(value, _Settings):
        return {k.lower(): v for k, v in vars(value).items()}
    return {}
