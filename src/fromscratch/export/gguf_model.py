"""A model's weights and shape as a GGUF file, the format of llama.cpp, Ollama and LM Studio.

In: a model bundle and a type of numbers. Out: a file. GPT-2-family models become architecture
`gpt2`, modern ones `qwen3`. What those cannot compute is refused before anything is written.
Matrices are rounded to the type that was asked for; vectors, and GPT-2's positions, stay float32,
as in llama.cpp's own conversion. One tensor at a time is in memory beside the model.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.export.gguf_tokenizer import GGUFTokenizer
from fromscratch.foundation.errors import UserError
from fromscratch.model.config import ModelConfig
from fromscratch.model.huggingface.mapping import (
    cut_padding,
    to_huggingface,
    why_not_expressible,
)

FileType = Literal["f32", "f16", "q8_0"]
BYTES_PER_NUMBER = {"f32": 4.0, "f16": 2.0, "q8_0": 34 / 32}
_FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0"}


def gguf_library() -> ModuleType:
    """The `gguf` package.

    Raises:
        UserError: It, or transformers, which reads the file back, is not installed.
    """
    for package in ("gguf", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"Writing GGUF needs the package {package}, which is not installed.",
                fix="Install it: pip install 'fromscratch[export]'",
            )
    import gguf

    module: ModuleType = gguf
    return module


def gguf_config(config: ModelConfig, *, approximate_gelu: bool) -> ModelConfig:
    """The model as a reader of GGUF computes it.

    Args:
        config: Ours.
        approximate_gelu: Whether the tanh approximation may stand in for the exact GELU.

    Raises:
        UserError: GGUF's architectures cannot compute it.
    """
    reason = why_not_expressible(config)
    if reason is None and config.positions == "learned" and config.activation in ("relu", "relu2"):
        reason = f"activation = {config.activation}"
    if reason is None and config.positions == "rope" and (config.qkv_bias or config.attn_out_bias):
        reason = "attention biases with rotary positions"
    if reason is not None:
        raise UserError(
            f"GGUF cannot express this model: {reason} is in neither of its architectures gpt2 "
            "and qwen3."
        )
    if config.activation == "gelu":
        if not approximate_gelu:
            raise UserError(
                "The model has the exact GELU (activation = gelu); programs that read GGUF compute "
                "GPT-2's tanh approximation of it.",
                fix="Accept that with --approximate-gelu; what it changes is measured and shown.",
            )
        config = config.model_copy(update={"activation": "gelu_tanh"})
    return config


@dataclass(frozen=True)
class GGUFTensors:
    """The tensors of a file, under the names of Hugging Face and with the shapes of GGUF.

    Attributes:
        architecture: `gpt2` or `qwen3`.
        hf_config: The content of config.json that belongs to them.
        tensors: Matrices are (out, in).
        type: What matrices are rounded to.
    """

    architecture: str
    hf_config: dict[str, Any]
    tensors: Mapping[str, Tensor]
    type: FileType

    def numbers(self, name: str) -> npt.NDArray[np.float32]:
        """A tensor in float32, in GGUF's order."""
        tensor = self.tensors[name].detach().float().cpu()
        return np.ascontiguousarray(self._turned(name, tensor).numpy())

    def kind(self, name: str) -> Any:
        """The type that a tensor is stored in, as `gguf` names it."""
        from gguf import GGMLQuantizationType

        tensor = self.tensors[name]
        if tensor.ndim < 2 or name == "transformer.wpe.weight" or self.type == "f32":
            return GGMLQuantizationType.F32
        columns = self._turned(name, tensor).shape[1]
        # A row is cut into blocks of 32 numbers with a scale each.
        if self.type == "f16" or columns % 32:
            return GGMLQuantizationType.F16
        return GGMLQuantizationType.Q8_0

    def layout(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """The shape and element type of `stored`, without making it."""
        from gguf.quants import quant_shape_to_byte_shape

        kind = self.kind(name)
        shape = tuple(self._turned(name, self.tensors[name]).shape)
        if kind.name in ("F32", "F16"):
            return shape, np.dtype(np.float32 if kind.name == "F32" else np.float16)
        return tuple(quant_shape_to_byte_shape(shape, kind)), np.dtype(np.uint8)

    def stored(self, name: str) -> npt.NDArray[Any]:
        """A tensor as its bytes are in the file."""
        from gguf.quants import quantize

        out: npt.NDArray[Any] = quantize(self.numbers(name), self.kind(name))
        return out

    def rounded(self) -> dict[str, Tensor]:
        """Hugging Face's tensors with the numbers that a reader gets, in float32."""
        from gguf.quants import dequantize

        found = {}
        for name in self.tensors:
            numbers = dequantize(self.stored(name), self.kind(name))
            read = torch.from_numpy(np.array(numbers, dtype=np.float32))
            found[name] = self._turned(name, read)
        return found

    def _turned(self, name: str, tensor: Tensor) -> Tensor:
        """GPT-2's matrices in blocks are (in, out) at Hugging Face: its Conv1D."""
        is_conv = self.architecture == "gpt2" and ".h." in name and tensor.ndim == 2
        return tensor.t() if is_conv else tensor


def gguf_tensors(bundle: ModelBundle, config: ModelConfig, type: FileType) -> GGUFTensors:
    """What a file of this model holds.

    Args:
        bundle: The model.
        config: As `gguf_config` gave it.
        type: What matrices are rounded to.

    Raises:
        UserError: A number is too large for float16.
    """
    kept, _ = cut_padding(config, bundle.model.state_dict())
    content, tensors = to_huggingface(config, kept, eot_id=bundle.tokenizer.eot_id)
    limit = torch.finfo(torch.float16).max
    if type == "f16" and any(t.ndim > 1 and t.abs().max() > limit for t in tensors.values()):
        raise UserError(
            "A weight of the model is larger than float16 can hold.", fix="Use --type f32."
        )
    return GGUFTensors(content["model_type"], content, tensors, type)


def write_gguf(
    path: Path,
    config: ModelConfig,
    tensors: GGUFTensors,
    tokenizer: GGUFTokenizer,
    *,
    name: str,
    chat_template: str | None = None,
    end_of_turn: int | None = None,
    licence: str | None = None,
) -> None:
    """Writes a file; it is not forced to the disk.

    Args:
        path: Where to.
        config: As `gguf_config` gave it.
        tensors: As `gguf_tensors` gave them.
        tokenizer: As GGUF has it.
        name: What the model is called.
        chat_template: For `tokenizer.chat_template`.
        end_of_turn: The id that ends an answer.
        licence: Its SPDX name.
    """
    gguf = gguf_library()
    writer = gguf.GGUFWriter(path, tensors.architecture)
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType[_FILE_TYPES[tensors.type]])
    if tensors.type == "q8_0":
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    if licence is not None:
        writer.add_license(licence)
    _add_shape(writer, config)
    _add_tokenizer(writer, tokenizer)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    if end_of_turn is not None:
        writer.add_eot_token_id(end_of_turn)
    _write_tensors(writer, gguf, config, tensors)


def _add_shape(writer: Any, config: ModelConfig) -> None:
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.d_model)
    writer.add_feed_forward_length(config.d_ff)
    writer.add_block_count(config.n_layer)
    writer.add_head_count(config.n_head)
    writer.add_vocab_size(config.vocab_size)
    if config.positions == "learned":
        writer.add_layer_norm_eps(config.norm_eps)
        return
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_head_count_kv(config.n_kv_head)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)


def _add_tokenizer(writer: Any, tokenizer: GGUFTokenizer) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(tokenizer.pre)
    writer.add_token_list(tokenizer.tokens)
    writer.add_token_types(tokenizer.kinds)
    writer.add_token_merges(tokenizer.merges)
    writer.add_bos_token_id(tokenizer.eot_id)
    writer.add_eos_token_id(tokenizer.eot_id)
    writer.add_add_bos_token(False)


def _write_tensors(
    writer: Any, gguf: ModuleType, config: ModelConfig, tensors: GGUFTensors
) -> None:
    architecture = getattr(gguf.MODEL_ARCH, tensors.architecture.upper())
    names = gguf.get_tensor_name_map(architecture, config.n_layer)
    for theirs in tensors.tensors:
        stem, _, end = theirs.rpartition(".")
        shape, dtype = tensors.layout(theirs)
        n_bytes = math.prod(shape) * dtype.itemsize
        writer.add_tensor_info(
            f"{names.get_name(stem)}.{end}", shape, dtype, n_bytes, tensors.kind(theirs)
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for theirs in tensors.tensors:
        writer.write_tensor_data(tensors.stored(theirs))
    writer.close()
