"""A model with all that is needed to use it: weights, configuration, tokenizer.

`ModelBundle` is what evaluation, generation, reports and export accept. It is read from a
checkpoint of ours, from a run (its best checkpoint), or from any Hugging Face folder of a GPT-2 or
dense Qwen3 model, on this machine or on the hub; it is written as a folder that transformers opens.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from fromscratch.chat.rendering import stop_ids
from fromscratch.chat.template import Template
from fromscratch.checkpoint.chat_template import chat_entries, template_in
from fromscratch.checkpoint.hub_model import hub_model_folder, is_hub_name
from fromscratch.checkpoint.model_files import (
    NAME_A_MODEL,
    check_model_folder,
    open_weights,
    weights_sha256,
)
from fromscratch.checkpoint.store import CheckpointStore, verify
from fromscratch.checkpoint.tensor_file import write_tensors
from fromscratch.foundation.errors import UserError, did_you_mean_path
from fromscratch.foundation.files import dump_json, read_json, write_atomically
from fromscratch.foundation.names import (
    BEST,
    CHECKPOINT_CONFIG,
    CHECKPOINT_GENERATION,
    CHECKPOINT_MANIFEST,
    CHECKPOINT_TOKENIZER,
    CHECKPOINT_TOKENIZER_CONFIG,
    CHECKPOINT_WEIGHTS,
    RUN_RECIPE,
    RunPaths,
)
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.model.huggingface.mapping import (
    cut_padding,
    from_huggingface,
    join_padding,
    read_config,
    to_huggingface,
)
from fromscratch.model.vocabulary import grow_vocabulary
from fromscratch.tokenizer.special import with_special_tokens
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
        sha256: Of its weights file or files; every result names it (R46).
        template: How conversations are written for it; None for a base model, and for one whose
            template is none of ours.
    """

    model: GPT
    tokenizer: Tokenizer
    folder: Path
    sha256: str
    template: Template | None = None


def save_model(
    folder: Path, model: GPT, tokenizer: Tokenizer, template: Template | None = None
) -> dict[str, Tensor]:
    """Writes a model as a Hugging Face folder.

    Args:
        folder: Exists.
        model: On any device.
        tokenizer: Written beside it.
        template: How conversations are written for it.

    Returns:
        The rows of the vocabulary's padding, which are not in the folder's weights.
    """
    padding, _ = write_model(folder, model.config, model.state_dict(), tokenizer, template)
    return padding


def write_model(
    folder: Path,
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    template: Template | None = None,
) -> tuple[dict[str, Tensor], str]:
    """Writes a model's state dict as a Hugging Face folder.

    Returns:
        The padding rows, as of `save_model`, and the sha256 of the weights' file.
    """
    kept, padding = cut_padding(config, weights)
    content, tensors = to_huggingface(config, kept, eot_id=tokenizer.eot_id)
    sha256 = write_tensors(folder / CHECKPOINT_WEIGHTS, tensors)
    write_atomically(folder / CHECKPOINT_CONFIG, dump_json(content, indent=2) + "\n")
    ends: int | list[int] = tokenizer.eot_id
    if template is not None:
        ends = list(stop_ids(template, tokenizer))
    generation = {"bos_token_id": tokenizer.eot_id, "eos_token_id": ends}
    write_atomically(folder / CHECKPOINT_GENERATION, dump_json(generation, indent=2) + "\n")
    chat = chat_entries(template, tokenizer) if template is not None else None
    tokenizer.save(folder, context=config.context, chat=chat)
    return padding, sha256


def load_model(folder: Path, padding: dict[str, Tensor] | None = None) -> GPT:
    """Builds the model that a folder describes, with its weights.

    Args:
        folder: config.json and model.safetensors (or several such files), ours or anyone's.
        padding: The padding rows that `save_model` returned, to continue training.

    Raises:
        UserError: Not a model folder, or not one that this package can run.
    """
    config, state = read_model(folder)
    with torch.device("meta"):
        model = GPT(config)
    joined = join_padding(config, state, padding)
    del state
    # A view of the file goes as soon as there is a copy: the weights are never in memory twice.
    whole = {name: joined.pop(name).contiguous() for name in list(joined)}
    model.load_state_dict(whole, strict=True, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    model.build_tables(torch.device("cpu"))
    return model


def read_model(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The configuration and state dict in a folder; tensors are views of the file where they can.

    Returns:
        Padding rows are absent (see `join_padding`).

    Raises:
        UserError: Not a model folder, or not one that this package can run.
    """
    check_model_folder(folder)
    return from_huggingface(read_json(folder / CHECKPOINT_CONFIG), open_weights(folder))


def read_model_config(folder: Path) -> ModelConfig:
    """The configuration of the model in a folder; reads no weights.

    Raises:
        UserError: Not a model folder, or not one that this package can run.
    """
    check_model_folder(folder)
    return read_config(read_json(folder / CHECKPOINT_CONFIG))


def load_bundle(path: str | Path) -> ModelBundle:
    """Reads a model for use.

    Args:
        path: A run, a checkpoint, a Hugging Face folder, or the name of a model on the hub.

    Raises:
        UserError: There is no model there, or it is damaged.
    """
    folder = model_folder(path)
    if (folder / CHECKPOINT_MANIFEST).is_file():  # one of ours
        problem = verify(folder, only=_USED)
        if problem is not None:
            raise UserError(
                f"The checkpoint {folder} is damaged: {problem}.",
                fix="Name another checkpoint of the run.",
            )
    with ThreadPoolExecutor(1) as pool:
        # Hashing holds no interpreter lock: it takes its second while the weights are read.
        sha256 = pool.submit(_verified_sha256, folder)
        model = load_model(folder).eval()
        tokenizer = load_tokenizer(folder)
    _fit_vocabulary(model, tokenizer)
    return ModelBundle(
        model=model,
        tokenizer=tokenizer,
        folder=folder,
        sha256=sha256.result(),
        template=template_in(folder, tokenizer),
    )


def _verified_sha256(folder: Path) -> str:
    """The sha256 of the weights; of a checkpoint, which was just verified, as its manifest says."""
    if (folder / CHECKPOINT_MANIFEST).is_file():
        return str(read_json(folder / CHECKPOINT_MANIFEST)["files"][CHECKPOINT_WEIGHTS]["sha256"])
    return weights_sha256(folder)


def with_template(bundle: ModelBundle, template: Template) -> ModelBundle:
    """The model with a chat template: special tokens that it lacks become ids of its own.

    They take the vocabulary's padding; where there is none, the model is resized. The model is
    changed in place; the weights of new ids mean nothing until they are trained.

    Raises:
        UserError: A name of the template's tokens is an ordinary word of the tokenizer's.
    """
    tokenizer = with_special_tokens(bundle.tokenizer, template.special_tokens)
    grow_vocabulary(bundle.model, tokenizer.vocab_size)
    return replace(bundle, tokenizer=tokenizer, template=template)


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


def model_folder(named: str | Path) -> Path:
    """The folder with the weights: for a run its best checkpoint, else its newest that verifies.

    Args:
        named: A run, a checkpoint, a Hugging Face folder; or `ORG/NAME`, with `@REVISION` where
            wanted, of a model on the hub, which is downloaded where it is not here yet.

    Raises:
        UserError: Nothing is there, or a run has no checkpoint yet.
    """
    if isinstance(named, str) and is_hub_name(named):
        return hub_model_folder(named)
    path = Path(named).expanduser()
    if not path.exists():
        raise UserError(f"{path} does not exist.{did_you_mean_path(path)}", fix=NAME_A_MODEL)
    if not (path / RUN_RECIPE).is_file() or (path / CHECKPOINT_CONFIG).is_file():
        return path
    store = CheckpointStore(RunPaths(path).checkpoints)
    chosen = store.pointer(BEST) or store.newest_valid()
    if chosen is None:
        raise UserError(f"The run {path} has no checkpoint yet.", fix=f"fromscratch resume {path}")
    return chosen
