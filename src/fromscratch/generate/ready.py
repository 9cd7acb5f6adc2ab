"""A model made ready for generation: the device, the type of its weights, eight bits.

In: a model as it was loaded, float32 on the CPU. Out: the same object, changed for good. It can
generate and be evaluated, not be trained or saved.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from fromscratch.foundation.errors import UserError, did_you_mean
from fromscratch.foundation.hardware import available_memory, resolve_device
from fromscratch.model import few_rows, int8
from fromscratch.model.gpt import GPT
from fromscratch.model.linear import Linear

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
QUANTIZATIONS = ("int8",)


def make_ready(
    model: GPT, *, device: str = "auto", dtype: str = "auto", quantize_to: str | None = None
) -> GPT:
    """Puts a model where it is to generate.

    Args:
        model: In evaluation mode.
        device: As for `resolve_device`; `auto` is the CPU where the model is to be quantised.
        dtype: Of weights and cache: `float32`, `bfloat16`, `float16`, or `auto`: bfloat16 on a
            CUDA device that has it in hardware, float32 elsewhere.
        quantize_to: `int8`, or None.

    Returns:
        The model.

    Raises:
        UserError: Something of this is not there, or does not go together.
    """
    if quantize_to is not None and device == "auto":
        device = "cpu"
    where = resolve_device(device, setting="--device ")
    if dtype == "auto":
        has_bf16 = where.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = "bfloat16" if has_bf16 else "float32"
    if dtype not in DTYPES:
        hint = did_you_mean(dtype, DTYPES)
        raise UserError(f"{dtype} is not a type for weights.{hint}", fix=f"One of {_list(DTYPES)}.")
    model.to(device=where, dtype=DTYPES[dtype])
    # The angles of rotary positions are computed in float32 and rounded where they are used.
    model.build_tables(where)
    return model if quantize_to is None else quantize(model, quantize_to)


def quantize(model: GPT, to: str) -> GPT:
    """Replaces a model's matrices by integers; the embeddings and norms stay as they are.

    Args:
        model: In evaluation mode, float32 on a CPU.
        to: `int8`: a byte a weight, one scale for each output (see `model/int8.py`).

    Returns:
        The same model. Its float32 matrices are gone, but for the embedding.

    Raises:
        UserError: An unknown name, a model elsewhere, or a torch without such products.
    """
    if to not in QUANTIZATIONS:
        raise UserError(
            f"{to} is not a quantisation.{did_you_mean(to, QUANTIZATIONS)}",
            fix=f"There is {_list(QUANTIZATIONS)}.",
        )
    if model.int8_head is not None:
        raise UserError("The model is quantised already.")
    if model.device.type != "cpu" or model.embed.weight.dtype != torch.float32:
        raise UserError(
            f"int8 is made from float32 on a CPU; this model is {model.embed.weight.dtype} on "
            f"{model.device}.",
            fix="Choose the device cpu; on a GPU, generate in bfloat16 instead.",
        )
    if not int8.is_supported():
        raise UserError(
            "This torch has no products of eight bits (FBGEMM) for this processor.",
            fix="Leave int8 out.",
        )
    model.eval()
    head = model.output
    for module in list(model.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, Linear):
                setattr(module, name, int8.Int8Linear(layer.weight, layer.bias))
    model.int8_head = int8.Int8Linear(head.weight, head.bias)
    model.head = None  # the embedding has the shape of the head, which is all that is asked of it
    return model


@contextmanager
def for_one_sequence(model: GPT) -> Iterator[None]:
    """Within, a step of one token makes a third fewer calls: its products are prepared."""
    layers = [
        module
        for module in model.modules()
        if isinstance(module, Linear) and few_rows.can_prepare(module.weight)
    ]
    for layer in layers:
        layer.of_one_row = few_rows.product_of_one_row(layer.weight, layer.bias)
    try:
        yield
    finally:
        for layer in layers:
            layer.of_one_row = None


def pack_for_batches(model: GPT) -> None:
    """Makes steps of three rows and more up to twice as fast, for a second copy of the matrices.

    Does nothing where that would not help (on a GPU, in 16 or 8 bits) or where the copy would take
    more than a quarter of the memory that is free.
    """
    head, weight = model.output, model.embed.weight
    if weight.dtype != torch.float32 or not few_rows.is_available(weight.device.type):
        return
    if model.int8_head is not None or model.packed_head is not None:
        return
    layers = [module for module in model.modules() if isinstance(module, Linear)]
    n_bytes = 4 * sum(layer.weight.numel() for layer in layers) + 4 * head.weight.numel()
    if 4 * n_bytes > available_memory(weight.device):
        return
    for layer in layers:
        layer.packed = few_rows.pack(layer.weight)
    model.packed_head = few_rows.pack(head.weight)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
