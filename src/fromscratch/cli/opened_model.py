"""A model opened to write: on its device, with the template that it converses in."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from fromscratch.foundation.errors import UserError

if TYPE_CHECKING:
    from fromscratch.checkpoint.bundle import ModelBundle


def open_model(named: str, *, device: str, dtype: str, quantize: str | None) -> ModelBundle:
    """Reads a model and puts it where it is to write.

    Args:
        named: A run, a checkpoint, a Hugging Face folder, or a name on the hub.
        device: As for `make_ready`, and so are the others.
        dtype: Of the weights.
        quantize: `int8`, or None.

    Raises:
        UserError: There is no such model or device, or something does not go together.
    """
    from fromscratch.foundation.hardware import resolve_device

    resolve_device(device, setting="--device ")  # refused before a large model is read
    from fromscratch.checkpoint.bundle import load_bundle
    from fromscratch.generate.ready import make_ready

    bundle = load_bundle(named)
    make_ready(bundle.model, device=device, dtype=dtype, quantize_to=quantize)
    return bundle


def conversing(bundle: ModelBundle, wanted: str | None) -> ModelBundle:
    """The model with the template that somebody names; as it is, where nobody does.

    Args:
        bundle: The model.
        wanted: The name of a template, which takes the place of the model's own.

    Raises:
        UserError: There is no such template, or the model lacks a token of it.
    """
    if wanted is None:
        return bundle
    from fromscratch.chat.template import template_named
    from fromscratch.tokenizer.special import with_special_tokens

    template = template_named(wanted)
    # In some folders a role is an added word that is not marked as special; it is taken for one.
    tokenizer = with_special_tokens(bundle.tokenizer, template.special_tokens)
    if tokenizer.vocab_size > bundle.tokenizer.vocab_size:
        ids = bundle.tokenizer.vocab_size
        lacking = [name for name, i in tokenizer.special_ids.items() if i >= ids]
        raise UserError(
            f"The model {bundle.folder} has no token {' and no '.join(lacking)}, which the chat "
            f'template "{wanted}" is made of: it was not taught to converse in it.',
            fix=how_to_teach(str(bundle.folder)),
        )
    return replace(bundle, tokenizer=tokenizer, template=template)


def how_to_teach(named: str) -> str:
    """The command that makes a chat model of a base model."""
    return (
        f"To teach it to answer: fromscratch train sft-110 --from {shlex.quote(named)} "
        "data.path=instructions.json"
    )
