"""Reads a GGUF file back with other programs' readers and compares it with the model (R57).

In: the file and the model it was made of. Out: what was found, in numbers. transformers' reader is
always asked. Where `llama-cpp-python` is installed, llama.cpp itself is asked too: for the ids of
texts, and for the likeliest token at each position of 32 greedy tokens.

What is compared is our network with the same rounded numbers: that must agree to 1e-4. What the
rounding itself costs is measured beside it, and must stay below `WORST_KL`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fromscratch.chat.conversations import Message
from fromscratch.chat.rendering import prompt_ids
from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.export.comparing import Difference, check_same, compare, logits_of, some_ids
from fromscratch.export.gguf_model import FileType, GGUFTensors
from fromscratch.export.quiet import silent
from fromscratch.export.texts import as_dicts, check_ids, check_texts
from fromscratch.foundation.errors import UserError
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.model.huggingface.mapping import from_huggingface, join_padding

# Mean over positions of KL(model || exported), in nats, above which rounding has broken the model.
WORST_KL: dict[FileType, float] = {"f32": 1e-6, "f16": 1e-3, "q8_0": 5e-2}
# How far below the likeliest token's logit another may lie that llama.cpp takes instead: it looks
# GELU up in a table of float16, and multiplies quantised matrices with quantised activations.
_TIE: dict[FileType, float] = {"f32": 0.02, "f16": 0.05, "q8_0": 0.3}
# No role is spelled in it: programs that read GGUF would take that for the role.
_CONVERSATION = (
    Message("system", "You are brief."),
    Message("user", "What is 2 + 2 in caf\u00e9s?\n\nQuick!"),
    Message("assistant", "Four."),
    Message("user", "  And 3 + 3?"),
)
_GREEDY = 32
_PROMPT = 8


@dataclass(frozen=True)
class GGUFCheck:
    """What reading back has found.

    Attributes:
        reader: Between our network with the file's numbers and what transformers made of the file.
        rounding: Between the model as it was and as the file holds it.
        llama_greedy: How many greedy tokens llama.cpp gives, too; None where it was not asked.
        llama_asked: Of how many: 32, or as many as the context has room for.
        llama_version: Of llama-cpp-python.
    """

    reader: Difference
    rounding: Difference
    llama_greedy: int | None = None
    llama_asked: int = 0
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
    same_network = config.activation == bundle.model.config.activation
    rounding = found.none()
    if tensors.type != "f32" or not same_network:
        rounding = compare(logits_of(bundle.model), logits_of(meant), ids)
    worst = WORST_KL[tensors.type]
    if same_network and not rounding.kl <= worst:
        raise UserError(
            f"Rounded to {tensors.type}, the model predicts something else: it loses "
            f"{rounding.kl:.2g} nats a token ({worst:g} are allowed). Nothing was kept.",
            fix="Use --type f32.",
        )
    _check_tokenizer(path, bundle)
    llama = llama_library()
    if llama is None:
        return GGUFCheck(found, rounding)
    agreed, asked = _ask_llama(llama, path, bundle, meant, tensors.type)
    return GGUFCheck(found, rounding, agreed, asked, str(llama.__version__))


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

    with silent():
        theirs = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32, **overrides(config)
        )
        theirs.eval()  # type: ignore[no-untyped-call]
    return lambda ids: theirs(ids).logits


def _check_tokenizer(path: Path, bundle: ModelBundle) -> None:
    """The same ids of texts and of a conversation."""
    from transformers import AutoTokenizer

    tokenizer = bundle.tokenizer

    with silent():
        theirs = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    check_texts(tokenizer, lambda text: theirs(text, add_special_tokens=False).input_ids)
    if bundle.template is not None:
        found: Any = theirs.apply_chat_template(
            as_dicts(_CONVERSATION), add_generation_prompt=True, return_dict=False
        )
        ours = prompt_ids(bundle.template, tokenizer, _CONVERSATION)
        check_ids("a conversation", ours, found, "transformers")


def _ask_llama(
    llama: ModuleType, path: Path, bundle: ModelBundle, meant: GPT, type: FileType
) -> tuple[int, int]:
    """How many of our greedy tokens llama.cpp gives, too, and of how many.

    Raises:
        UserError: It has other ids for a text, or prefers a token that is clearly less likely.
    """
    context, tokenizer = meant.config.context, bundle.tokenizer
    with silent():
        engine = llama.Llama(
            str(path),
            n_ctx=context,
            n_batch=context,
            logits_all=True,
            verbose=False,
            n_gpu_layers=0,
        )
    try:
        check_texts(
            tokenizer,
            lambda text: list(engine.tokenize(text.encode(), add_bos=False, special=False)),
            "llama.cpp",
        )
        if bundle.template is not None:
            jinja = llama.llama_chat_format.Jinja2ChatFormatter(
                bundle.template.jinja(()), eos_token="", bos_token=""
            )
            text = jinja(messages=as_dicts(_CONVERSATION)).prompt
            found = engine.tokenize(text.encode(), add_bos=False, special=True)
            ours = prompt_ids(bundle.template, tokenizer, _CONVERSATION)
            check_ids("a conversation", ours, found, "llama.cpp")
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


def _agreed(ours: Tensor, theirs: Tensor, length: int, type: FileType) -> tuple[int, int]:
    agreed = 0
    predicting = range(max(0, length - 1 - _GREEDY), length - 1)
    for position in predicting:
        best, other = int(ours[position].argmax()), int(theirs[position].argmax())
        agreed += best == other
        gap = float(ours[position, best] - ours[position, other])
        if gap > _TIE[type]:
            raise UserError(
                f"What was written is not the same model: llama.cpp continues with token {other} "
                f"where {best} is likelier by {gap:.2g}. Nothing was kept.",
                fix="Please report this with the version of llama-cpp-python.",
            )
    return agreed, len(predicting)
