"""Reads a GGUF file back with other programs' readers and compares it with the model (R57).

In: the file and the model it was made of. Out: what was found, in numbers. transformers' reader is
always asked. Where `llama-cpp-python` is installed, llama.cpp itself is asked too: for the ids of
texts, and for the likeliest token at each position of 32 greedy tokens.

What is compared is our network with the same rounded numbers: that must agree to 1e-4. What the
rounding itself costs is measured beside it, and must stay below `WORST_KL`.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.export.comparing import Difference, check_same, compare, logits_of, some_ids
from fromscratch.export.gguf_model import FileType, GGUFTensors
from fromscratch.foundation.errors import UserError
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.model.huggingface.mapping import from_huggingface, join_padding
from fromscratch.tokenizer.self_test import nasty_texts
from fromscratch.tokenizer.tokenizer import Tokenizer

# Mean over positions of KL(model || exported), in nats, above which rounding has broken the model.
WORST_KL: dict[FileType, float] = {"f32": 1e-6, "f16": 1e-3, "q8_0": 5e-2}
# How far below the likeliest token's logit another may lie that llama.cpp takes instead: it looks
# GELU up in a table of float16, and multiplies quantised matrices with quantised activations.
_TIE: dict[FileType, float] = {"f32": 0.02, "f16": 0.05, "q8_0": 0.3}
_GREEDY = 32
_PROMPT = 8
_TEXTS = 60


@dataclass(frozen=True)
class GGUFCheck:
    """What reading back has found.

    Attributes:
        reader: Between our network with the file's numbers and what transformers made of the file.
        rounding: Between the model as it was and as the file holds it.
        llama_greedy: How many of 32 greedy tokens llama.cpp gives; None where it was not asked.
        llama_version: Of llama-cpp-python.
    """

    reader: Difference
    rounding: Difference
    llama_greedy: int | None = None
    llama_version: str | None = None


def overrides(config: ModelConfig) -> dict[str, int]:
    """What transformers' reader must be told, because it does not take it from the file.

    It leaves GPT-2's context and MLP, and Qwen3's head size, at the defaults of those classes.
    """
    if config.positions == "learned":
        told = {"n_positions": config.context, "n_inner": config.d_ff}
        default = {"n_positions": 1024, "n_inner": 4 * config.d_model}
    else:
        told, default = {"head_dim": config.head_dim}, {"head_dim": 128}
    return {key: value for key, value in told.items() if value != default[key]}


def rounded_model(config: ModelConfig, tensors: GGUFTensors) -> GPT:
    """Our network with the numbers that a reader of the file gets."""
    _, state = from_huggingface(tensors.hf_config, tensors.rounded())
    with torch.device("meta"):
        model = GPT(config)
    model.load_state_dict(join_padding(config, state, None), strict=True, assign=True)
    model.build_tables(torch.device("cpu"))
    return model.eval()


def check_gguf(
    path: Path, bundle: ModelBundle, config: ModelConfig, tensors: GGUFTensors
) -> GGUFCheck:
    """Reads a file back, and compares.

    Args:
        path: The file.
        bundle: The model it was made of.
        config: As `gguf_config` gave it.
        tensors: What was written.

    Raises:
        UserError: It is not the same model.
    """
    ids = some_ids(config.vocab_size, config.context)
    meant = rounded_model(config, tensors)
    found = compare(logits_of(meant), _transformers_logits(path, config), ids)
    check_same(found, "transformers")
    rounding = compare(logits_of(bundle.model), logits_of(meant), ids)
    worst = WORST_KL[tensors.type]
    if config.activation == bundle.model.config.activation and not rounding.kl <= worst:
        raise UserError(
            f"Rounded to {tensors.type}, the model predicts something else: it loses "
            f"{rounding.kl:.2g} nats a token ({worst:g} are allowed). Nothing was kept.",
            fix="Use --type f32.",
        )
    _check_tokenizer(path, bundle.tokenizer)
    llama = llama_library()
    if llama is None:
        return GGUFCheck(found, rounding)
    agreed = _ask_llama(llama, path, bundle.tokenizer, meant, tensors.type)
    return GGUFCheck(found, rounding, agreed, str(llama.__version__))


def llama_library() -> ModuleType | None:
    """The `llama_cpp` package; None where it is not installed or does not start."""
    try:
        import llama_cpp
    except Exception:  # a library that was built for another machine fails in many ways
        return None
    module: ModuleType = llama_cpp
    return module


def _transformers_logits(path: Path, config: ModelConfig) -> Any:
    from transformers import AutoModelForCausalLM

    with _silent():
        theirs = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32, **overrides(config)
        ).eval()
    return lambda ids: theirs(ids).logits


def _check_tokenizer(path: Path, tokenizer: Tokenizer) -> None:
    from transformers import AutoTokenizer

    with _silent():
        theirs = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    for text in _texts(tokenizer):
        found = theirs(text, add_special_tokens=False).input_ids
        _compare_ids(text, tokenizer.encode(text), found, "transformers")


def _texts(tokenizer: Tokenizer) -> Iterator[str]:
    """Texts of all kinds in which no special token is spelled: other programs take it for one."""
    texts = nasty_texts()
    for text in texts[:: max(1, len(texts) // _TEXTS)]:
        plain = text.replace("\x00", "")
        for name in tokenizer.special_ids:
            plain = plain.replace(name, "")
        yield plain


def _compare_ids(text: str, ours: list[int], theirs: list[int], who: str) -> None:
    if ours != theirs:
        raise UserError(
            f"What was written has another tokenizer: {who} encodes {text[:40]!r} as "
            f"{theirs[:8]}, not {ours[:8]}. Nothing was kept.",
            fix="Export it --to hf instead, and please report this.",
        )


def _ask_llama(
    llama: ModuleType, path: Path, tokenizer: Tokenizer, meant: GPT, type: FileType
) -> int:
    """How many of our greedy tokens llama.cpp gives, too.

    Raises:
        UserError: It has other ids for a text, or prefers a token that is clearly less likely.
    """
    context = meant.config.context
    with _silent():
        engine = llama.Llama(
            str(path),
            n_ctx=context,
            n_batch=context,
            logits_all=True,
            verbose=False,
            n_gpu_layers=0,
        )
    try:
        for text in _texts(tokenizer):
            found = engine.tokenize(text.encode(), add_bos=False, special=False)
            _compare_ids(text, tokenizer.encode(text), list(found), "llama.cpp")
        sequence, logits = _greedy(meant)
        engine.reset()
        engine.eval(sequence)
        theirs = torch.from_numpy(engine.scores[: len(sequence)].copy())
    finally:
        engine.close()
    return _agreed(logits, theirs, len(sequence), type)


@torch.inference_mode()
def _greedy(model: GPT) -> tuple[list[int], Tensor]:
    """A short prompt and up to 32 greedy tokens, and (T, V) our logits at each of them."""
    length = min(_PROMPT, max(1, model.config.context - _GREEDY))
    sequence = some_ids(model.config.vocab_size, length)[0].tolist()
    for _ in range(min(_GREEDY, model.config.context - length)):
        last = logits_of(model)(torch.tensor([sequence]))[0, -1]
        sequence.append(int(last.argmax()))
    return sequence, logits_of(model)(torch.tensor([sequence]))[0]


def _agreed(ours: Tensor, theirs: Tensor, length: int, type: FileType) -> int:
    agreed = 0
    for position in range(min(_PROMPT, length) - 1, length - 1):
        best, other = int(ours[position].argmax()), int(theirs[position].argmax())
        agreed += best == other
        gap = float(ours[position, best] - ours[position, other])
        if gap > _TIE[type]:
            raise UserError(
                f"What was written is not the same model: llama.cpp continues with token {other} "
                f"where {best} is likelier by {gap:.2g}. Nothing was kept.",
                fix="Please report this with the version of llama-cpp-python.",
            )
    return agreed


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keeps bars and remarks of libraries, also those written in C, from the terminal."""
    import transformers

    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
        transformers.logging.set_verbosity(level)
