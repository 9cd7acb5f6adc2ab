"""A model with all that is needed to use it: weights, configuration, tokenizer.

`ModelBundle` is what evaluation, generation, reports and export accept. It is read from a
checkpoint of ours, from a run (its best checkpoint), or from any Hugging Face folder of a GPT-2 or
dense Qwen3 model; it is written as a folder that transformers opens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fromscratch.checkpoint.store import CheckpointStore, verify
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import (
    BEST,
    CHECKPOINT_CONFIG,
    CHECKPOINT_GENERATION,
    CHECKPOINT_MANIFEST,
    CHECKPOINT_TOKENIZER,
    CHECKPOINT_TOKENIZER_CONFIG,
    CHECKPOINT_WEIGHTS,
    RUN_RECIPE,
    RunPaths,
    dump_json,
    fsync_file,
    read_json,
    sha256_of_file,
    write_atomically,
)
from fromscratch.model.gpt import GPT
from fromscratch.model.huggingface.mapping import (
    cut_padding,
    from_huggingface,
    join_padding,
    to_huggingface,
)
from fromscratch.tokenizer.tokenizer import Tokenizer, load_tokenizer

_USED = {
    CHECKPOINT_CONFIG,
    CHECKPOINT_WEIGHTS,
    CHECKPOINT_TOKENIZER,
    CHECKPOINT_TOKENIZER_CONFIG,
}


@dataclass(frozen=True)
class ModelBundle:
    """A model ready for use.

    Attributes:
        model: In evaluation mode, float32.
        tokenizer: The one it was trained with.
        folder: Where it was read from.
        sha256: Of its weights file; every result names it (R46).
    """

    model: GPT
    tokenizer: Tokenizer
    folder: Path
    sha256: str


def save_model(
    folder: Path, model: GPT, tokenizer: Tokenizer, weights: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Writes a model as a Hugging Face folder.

    Args:
        folder: Exists.
        model: On any device.
        tokenizer: Written beside it.
        weights: Its state dict, where the model itself has not all of it (FSDP).

    Returns:
        The rows of the vocabulary's padding, which are not in the folder's weights.
    """
    found = model.state_dict() if weights is None else weights
    state = {name: tensor.detach().cpu() for name, tensor in found.items()}
    kept, padding = cut_padding(model.config, state)
    config, tensors = to_huggingface(model.config, kept, eot_id=tokenizer.eot_id)
    save_tensors(folder / CHECKPOINT_WEIGHTS, tensors)
    write_atomically(folder / CHECKPOINT_CONFIG, dump_json(config, indent=2) + "\n")
    generation = {"bos_token_id": tokenizer.eot_id, "eos_token_id": tokenizer.eot_id}
    write_atomically(folder / CHECKPOINT_GENERATION, dump_json(generation, indent=2) + "\n")
    tokenizer.save(folder, context=model.config.context)
    return padding


def load_model(folder: Path, padding: dict[str, Tensor] | None = None) -> GPT:
    """Builds the model that a folder describes, with its weights.

    Args:
        folder: config.json and model.safetensors, ours or anyone's.
        padding: The padding rows that `save_model` returned, to continue training.

    Raises:
        UserError: Not a model folder, or not one that this package can run.
    """
    if not (folder / CHECKPOINT_CONFIG).is_file() or not (folder / CHECKPOINT_WEIGHTS).is_file():
        raise UserError(
            f"{folder} is not a checkpoint: it lacks {CHECKPOINT_CONFIG} or {CHECKPOINT_WEIGHTS}.",
            fix="Name a run, a folder in its checkpoints/, or a Hugging Face model folder.",
        )
    tensors = load_tensors(folder / CHECKPOINT_WEIGHTS)
    config, state = from_huggingface(read_json(folder / CHECKPOINT_CONFIG), tensors)
    with torch.device("meta"):
        model = GPT(config)
    whole = join_padding(config, state, padding)
    model.load_state_dict(whole, strict=True, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    model.build_tables(torch.device("cpu"))
    return model


def load_bundle(path: str | Path) -> ModelBundle:
    """Reads a model for use.

    Args:
        path: A run, a checkpoint, or a Hugging Face folder.

    Raises:
        UserError: There is no model there, or it is damaged.
    """
    folder = model_folder(Path(path).expanduser())
    if (folder / CHECKPOINT_MANIFEST).is_file():  # one of ours
        problem = verify(folder, only=_USED)
        if problem is not None:
            raise UserError(
                f"The checkpoint {folder} is damaged: {problem}.",
                fix="Name another checkpoint of the run.",
            )
    model = load_model(folder).eval()
    tokenizer = load_tokenizer(folder)
    _fit_vocabulary(model, tokenizer)
    return ModelBundle(
        model=model,
        tokenizer=tokenizer,
        folder=folder,
        sha256=sha256_of_file(folder / CHECKPOINT_WEIGHTS),
    )


def _fit_vocabulary(model: GPT, tokenizer: Tokenizer) -> None:
    """Makes padding of the ids that the tokenizer lacks: Qwen3, for one, ships a few hundred.

    Raises:
        UserError: The tokenizer has ids that the model lacks.
    """
    ids = model.config.vocab_size
    if tokenizer.vocab_size > ids:
        raise UserError(
            f"The folder's tokenizer has {tokenizer.vocab_size:,} ids and its model {ids:,}: they "
            "do not belong together."
        )
    model.config = model.config.model_copy(update={"vocab_size": tokenizer.vocab_size})


def model_folder(path: Path) -> Path:
    """The folder with the weights: for a run its best checkpoint, else its newest that verifies.

    Raises:
        UserError: Nothing is there, or a run has no checkpoint yet.
    """
    if not path.exists():
        raise UserError(
            f"{path} does not exist.",
            fix="Name a run, a folder in its checkpoints/, or a Hugging Face model folder.",
        )
    if not (path / RUN_RECIPE).is_file() or (path / CHECKPOINT_CONFIG).is_file():
        return path
    store = CheckpointStore(RunPaths(path).checkpoints)
    chosen = store.pointer(BEST) or store.newest_valid()
    if chosen is None:
        raise UserError(f"The run {path} has no checkpoint yet.", fix=f"fromscratch resume {path}")
    return chosen


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Writes a safetensors file and forces it to the disk."""
    independent = {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}
    try:
        save_file(independent, path, metadata={"format": "pt"})
    except SafetensorError as error:  # the library wraps the system's error in its own
        raise OSError(f"{path}: {error}") from error
    fsync_file(path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file.

    Raises:
        UserError: It is damaged.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
