"""The configuration of a foreign model: from the shapes of its tensors, then what its file says.

In: tensors by what they are, the file's settings, what a person typed. Out: a `ModelConfig`, and
sentences about what was taken on trust. Shapes decide all they can. The number of heads is in no
shape; nor is the activation, which is then that of the code whose names the tensors have.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from fromscratch.export.foreign_names import ForeignModel, Style
from fromscratch.foundation.errors import UserError, did_you_mean
from fromscratch.model.config import ModelConfig

_HEADS = ("n_head", "n_heads", "num_heads", "num_attention_heads", "heads", "nhead")
# By the code that these names come from: nanoGPT, fgpt and rangeflow call torch's exact GELU.
_ACTIVATIONS: dict[Style, str] = {
    "gpt2": "gelu_tanh",
    "nanogpt": "gelu",
    "book": "gelu_tanh",
    "rangeflow": "gelu",
    "other": "gelu",
}
_OPEN = ("n_head", "activation", "norm_eps", "dropout")


def said(settings: Mapping[str, Any], names: Sequence[str]) -> int | None:
    """The first of these settings that is a whole number."""
    values = (settings.get(name) for name in names)
    return next((v for v in values if isinstance(v, int) and not isinstance(v, bool)), None)


def foreign_config(
    model: ForeignModel,
    settings: Mapping[str, Any],
    *,
    vocab_size: int,
    overrides: Sequence[str] = (),
) -> tuple[ModelConfig | None, list[str], dict[str, Any]]:
    """Works out a configuration.

    Args:
        model: The tensors.
        settings: What the file says; names in lower case.
        vocab_size: Real ids; rows beyond are padding.
        overrides: `key=value` for what no shape tells.

    Returns:
        The configuration, None where only the number of heads is missing; what was taken on trust;
        and the values of all other fields.

    Raises:
        UserError: The shapes contradict each other, or a value cannot be.
    """
    values = _from_shapes(model, vocab_size)
    notes = []
    typed = _typed(overrides)
    values["activation"] = _ACTIVATIONS[model.style]
    if "activation" not in typed:
        notes.append(
            f"activation {values['activation']} is taken from the code whose names the tensors "
            "have; no shape tells it"
        )
    values |= typed
    if "n_head" not in values:
        heads = said(settings, _HEADS)
        if heads is not None:
            values["n_head"] = heads
            notes.append(f"n_head {heads} is as the file says")
    if "n_head" not in values:
        return None, notes, values
    return build_config(values), notes, values


def build_config(values: Mapping[str, Any]) -> ModelConfig:
    """The configuration of these values.

    Raises:
        UserError: They do not fit together.
    """
    try:
        return ModelConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        why = first.get("ctx", {}).get("error")
        if isinstance(why, UserError):
            raise why from None
        raise UserError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from None


def _from_shapes(model: ForeignModel, vocab_size: int) -> dict[str, Any]:
    rows, width = model.top["embed.weight"].shape
    first = model.blocks[0]
    if vocab_size > rows:
        raise UserError(
            f"The tokenizer has {vocab_size:,} ids and the checkpoint {rows:,}: they do not belong "
            "together.",
            fix="Name the tokenizer that the model was trained with: --tokenizer.",
        )
    head = model.top.get("head.weight")
    return {
        "family": "gpt2",
        "n_layer": len(model.blocks),
        "d_model": width,
        "d_ff": first["up.weight"].shape[0],
        "context": model.top["positions.weight"].shape[0],
        "vocab_size": vocab_size,
        "padded_vocab": rows,
        "qkv_bias": "qkv.bias" in first or "q.bias" in first,
        "attn_out_bias": "out.bias" in first,
        "mlp_bias": "up.bias" in first,
        "norm_bias": "attn_norm.bias" in first,
        "tie_embeddings": head is None or head.equal(model.top["embed.weight"]),
        "head_bias": "head.bias" in model.top,
    }


def _typed(overrides: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for override in overrides:
        key, equals, value = override.removeprefix("model.").partition("=")
        if not equals or key not in _OPEN:
            raise UserError(
                f'"{override}" is not something that can be said of a checkpoint.'
                f"{did_you_mean(key, _OPEN)}",
                fix=f"Say what no shape tells, as key=value: {', '.join(_OPEN)}.",
            )
        try:
            found[key] = tomllib.loads(f"x = {value}")["x"]
        except tomllib.TOMLDecodeError:  # a word without quotes
            found[key] = value
    return found
