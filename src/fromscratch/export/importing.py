"""Another trainer's checkpoint as a folder that this package, and transformers, opens.

In: a checkpoint file, or a Hugging Face folder whose weights are pickles. Out: a model folder, and
what it was compared with: of a Hugging Face folder transformers' own network, else a forward pass
written out plainly over the file's own tensors. And its loss on a page of English, which shows what
no comparison can: a wrong tokenizer, or a wrong number of heads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fromscratch.checkpoint.bundle import load_bundle, save_model
from fromscratch.export.comparing import Difference, check_same, compare, logits_of, some_ids
from fromscratch.export.foreign_config import build_config, foreign_config
from fromscratch.export.foreign_file import read_foreign
from fromscratch.export.foreign_names import ForeignModel, foreign_model
from fromscratch.export.placing import new_folder
from fromscratch.export.plain_forward import plain_logits
from fromscratch.export.quiet import silent
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import read_json
from fromscratch.foundation.names import CHECKPOINT_CONFIG, CHECKPOINT_TOKENIZER
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.model.huggingface.mapping import from_huggingface, join_padding
from fromscratch.tokenizer.build import make_tokenizer
from fromscratch.tokenizer.names import needs_training
from fromscratch.tokenizer.tokenizer import Tokenizer

_GPT2_ROWS = range(50257, 50257 + 128)  # its ids, and those padded to a multiple of 64 or 128
_COMPARED = 96
_PAGE = 1024  # tokens
_WINDOW = 256
# How much better, in nats a token, a number of heads must be than the next to be named.
_CLEARLY = 0.1
# A model that predicts English no better than this share of a uniform guess is not itself.
_HARDLY_BETTER = 0.85


@dataclass(frozen=True)
class Imported:
    """A checkpoint that was read, written as a folder and compared.

    Attributes:
        path: The folder.
        config: The model's.
        parameters: Counted from the built model.
        tokenizer: Its kind.
        step: Updates behind it, where the file says so.
        notes: What was taken on trust.
        reader: Between the folder, opened again, and what it is compared with.
        compared_with: What that is, for people.
        loss: Nats a token on a page of English; None where the page is too short.
        uniform: The same of a uniform guess.
    """

    path: Path
    config: ModelConfig
    parameters: int
    tokenizer: str
    step: int | None
    notes: tuple[str, ...]
    reader: Difference
    compared_with: str
    loss: float | None
    uniform: float

    @property
    def is_doubtful(self) -> bool:
        """Whether it predicts English hardly better than chance."""
        return self.loss is not None and not self.loss < _HARDLY_BETTER * self.uniform


def import_checkpoint(
    path: Path, out: Path, *, tokenizer: str | None = None, overrides: Sequence[str] = ()
) -> Imported:
    """Reads a foreign checkpoint and writes it as a model folder.

    Args:
        path: A file, or a Hugging Face folder with `pytorch_model.bin`.
        out: The folder; not there yet.
        tokenizer: `gpt2`, or a folder with a tokenizer.json; found out where it can be.
        overrides: `key=value` for what no shape tells, such as `n_head=12`.

    Raises:
        UserError: It cannot be read safely, is no GPT of a known kind, does not say how many heads
            it has, or what was written is not the same model.
    """
    if (path if path.is_dir() else path.parent).joinpath(CHECKPOINT_CONFIG).is_file() and (
        path.is_dir() or path.suffix == ".bin"
    ):
        return _from_folder(path if path.is_dir() else path.parent, out, tokenizer, overrides)
    file = read_foreign(path)
    found = foreign_model(file.tensors)
    made = _tokenizer(tokenizer, path.parent, len(found.top["embed.weight"]))
    config, notes, values = foreign_config(
        found, file.settings, vocab_size=made.vocab_size, overrides=overrides
    )
    if config is None:
        raise _which_heads(found, values, made)
    model = _our_model(found, config)
    known = config  # for the closure below: never None here
    return _written(
        model,
        made,
        out,
        lambda ids: plain_logits(found, known, ids)[..., : known.vocab_size],
        "a forward pass written out plainly over the file's own tensors, in float64",
        file.step,
        notes,
    )


def _from_folder(
    folder: Path, out: Path, tokenizer: str | None, overrides: Sequence[str]
) -> Imported:
    """A Hugging Face folder, whose config.json says everything."""
    if overrides:
        raise UserError(
            f"{folder / CHECKPOINT_CONFIG} says what the model is.",
            fix=f"Leave out {overrides[0]}.",
        )
    files = sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise UserError(
            f"{folder} has no pytorch_model.bin.",
            fix="A folder with model.safetensors needs no import: name it as it is.",
        )
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= read_foreign(file, keep_names=True).tensors
    hf = read_json(folder / CHECKPOINT_CONFIG)
    config, state = from_huggingface(hf, tensors)
    model = _loaded(config, join_padding(config, state, None))
    made = _tokenizer(tokenizer, folder, config.vocab_size)
    theirs = _transformers_model(folder, tensors)
    compared = f"transformers' own {type(theirs).__name__} with the file's tensors"
    return _written(
        model,
        made,
        out,
        lambda ids: theirs(ids).logits[..., : made.vocab_size],
        compared,
        None,
        [],
    )


def _transformers_model(folder: Path, tensors: Mapping[str, Tensor]) -> Any:
    from fromscratch.export.to_hf import check_transformers

    check_transformers()
    from transformers import AutoConfig, AutoModelForCausalLM

    with silent():
        theirs = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            AutoConfig.from_pretrained(folder)
        ).float()
    own = theirs.state_dict()
    prefix = "" if any(name in own for name in tensors) else f"{theirs.base_model_prefix}."
    given = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
    theirs.load_state_dict({n: t for n, t in given.items() if n in own}, strict=False)
    theirs.tie_weights()
    return theirs.eval()


def _tokenizer(named: str | None, folder: Path, rows: int) -> Tokenizer:
    if named is not None:
        if needs_training(named):
            raise UserError(
                f'"{named}" is made from text, and would not be the one of this model.',
                fix="Name the folder that holds the model's tokenizer.json, or gpt2.",
            )
        return make_tokenizer(named)
    if (folder / CHECKPOINT_TOKENIZER).is_file():
        return make_tokenizer(str(folder))
    if rows in _GPT2_ROWS:
        return make_tokenizer("gpt2")
    raise UserError(
        f"The checkpoint has {rows:,} ids and no tokenizer beside it.",
        fix="Name the one that it was trained with: --tokenizer FOLDER, or gpt2, or bytes.",
    )


def _our_model(found: ForeignModel, config: ModelConfig) -> GPT:
    top = {name: tensor for name, tensor in found.top.items() if not name.startswith("head.")}
    state = dict(top)
    if not config.tie_embeddings:
        state |= {n: t for n, t in found.top.items() if n.startswith("head.")}
    for i, block in enumerate(found.blocks):
        parts = dict(block)
        for end in ("weight", "bias"):
            if f"q.{end}" in parts:
                parts[f"qkv.{end}"] = torch.cat([parts.pop(f"{n}.{end}") for n in "qkv"])
        state |= {f"blocks.{i}.{_OURS[name]}": tensor for name, tensor in parts.items()}
    return _loaded(config, state)


_OURS = {
    f"{theirs}.{end}": f"{ours}.{end}"
    for theirs, ours in {
        "attn_norm": "attn_norm",
        "qkv": "attn.qkv",
        "out": "attn.out",
        "mlp_norm": "mlp_norm",
        "up": "mlp.up",
        "down": "mlp.down",
    }.items()
    for end in ("weight", "bias")
}


def _loaded(config: ModelConfig, state: Mapping[str, Tensor]) -> GPT:
    with torch.device("meta"):
        model = GPT(config)
    whole = {name: tensor.contiguous() for name, tensor in state.items()}
    try:
        model.load_state_dict(whole, strict=True, assign=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UserError(
            f"The checkpoint's tensors do not make one model: {lines[-1]}",
            fix="Import models of GPT-2's kind, each layer like the other.",
        ) from None
    model.build_tables(torch.device("cpu"))
    return model.eval()


def _written(
    model: GPT,
    tokenizer: Tokenizer,
    out: Path,
    reference: Any,
    compared_with: str,
    step: int | None,
    notes: Sequence[str],
) -> Imported:
    """Writes the folder, opens it again and compares that with the reference."""
    parameters = sum(p.numel() for p in model.parameters())
    with new_folder(out, n_bytes=4 * parameters) as folder:
        save_model(folder, model, tokenizer)
        opened = load_bundle(folder).model
        ids = some_ids(opened.config.vocab_size, min(_COMPARED, opened.config.context))
        difference = compare(reference, logits_of(opened), ids)
        check_same(difference, compared_with)
        loss = page_loss(opened, tokenizer)
    return Imported(
        path=out,
        config=model.config,
        parameters=parameters,
        tokenizer=tokenizer.name,
        step=step,
        notes=tuple(notes),
        reader=difference,
        compared_with=compared_with,
        loss=loss,
        uniform=math.log(model.config.vocab_size),
    )


@torch.inference_mode()
def page_loss(model: GPT, tokenizer: Tokenizer) -> float | None:
    """Nats a token on a page of English: of Python's own help on expressions."""
    from pydoc_data.topics import topics

    try:
        ids = tokenizer.encode(" ".join(topics["assignment"].split()))
    except UserError:  # a vocabulary of characters that lacks one of them
        return None
    length = min(_WINDOW, model.config.context)
    starts = range(0, min(len(ids), _PAGE) - length, length)
    if not starts:
        return None
    windows = torch.tensor([ids[start : start + length + 1] for start in starts])
    logits = logits_of(model)(windows[:, :-1])
    return float(F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()))


def _which_heads(found: ForeignModel, values: Mapping[str, Any], tokenizer: Tokenizer) -> UserError:
    """The error that asks for the number of heads, with what each would give on a page."""
    width = values["d_model"]
    counts = [n for n in range(1, width + 1) if width % n == 0 and 8 <= width // n <= 256]
    losses: dict[int, float] = {}
    for n_head in counts:
        loss = page_loss(_our_model(found, build_config({**values, "n_head": n_head})), tokenizer)
        if loss is not None:
            losses[n_head] = loss
    what = "The checkpoint does not say how many heads it has, and no shape tells it."
    best = sorted(losses, key=lambda n: losses[n])[:2]
    if len(best) == 2 and losses[best[0]] < losses[best[1]] - _CLEARLY:
        what += (
            f" A page of English it predicts best with {best[0]} ({losses[best[0]]:.2f} nats a "
            f"token; with {best[1]} {losses[best[1]]:.2f})."
        )
        return UserError(what, fix=f"If that is right, say it: n_head={best[0]}.")
    what += f" Counts that divide its width of {width}: {', '.join(map(str, counts))}."
    return UserError(what, fix="Say the one that it was trained with, as n_head=NUMBER.")
