"""A model as a folder for transformers and the hub, with its card.

In: a model. Out: a folder that was read back by transformers: the weights' logits, the tokenizer's
ids, the chat template's ids. A checkpoint's own folder opens in transformers, too; this one has
nothing else in it, may be rounded to two bytes a number, and tells where the model comes from.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from fromscratch.chat.conversations import Message
from fromscratch.chat.rendering import prompt_ids
from fromscratch.checkpoint.bundle import ModelBundle, load_bundle, write_model
from fromscratch.evaluate.evaluated import run_of
from fromscratch.export.card import CardOptions, model_card
from fromscratch.export.card_facts import card_facts
from fromscratch.export.comparing import Difference, check_same, compare, logits_of, some_ids
from fromscratch.export.placing import new_folder
from fromscratch.export.quiet import silent
from fromscratch.export.texts import as_dicts, check_ids, check_texts
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import dump_json, read_json, write_atomically
from fromscratch.foundation.names import CARD, CARD_CURVES, CHECKPOINT_CONFIG
from fromscratch.model.huggingface.mapping import why_not_expressible
from fromscratch.report.shown import shown

DType = Literal["float32", "bfloat16", "float16"]
_TORCH: dict[DType, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
# Mean over positions of KL(model || rounded), in nats, above which rounding has broken the model.
WORST_KL: dict[DType, float] = {"float32": 1e-6, "bfloat16": 5e-2, "float16": 1e-3}
_CONVERSATION = (
    Message("system", "You are brief."),
    Message("user", "Say <|end|>, <|im_end|> and <|endoftext|> in caf\u00e9 \U0001f600."),
)


@dataclass(frozen=True)
class HFExport:
    """A folder that was written and read back.

    Attributes:
        path: The folder.
        n_bytes: Of all its files.
        reader: Between our network with the folder's numbers and what transformers made of them.
        rounding: Between the model as it was and as the folder holds it.
        template: The chat template whose ids were compared, too; None for a base model.
    """

    path: Path
    n_bytes: int
    reader: Difference
    rounding: Difference
    template: str | None


def check_transformers() -> None:
    """Refuses where transformers, which reads back what is written, is not installed.

    Raises:
        UserError: It is not.
    """
    if importlib.util.find_spec("transformers") is None:
        raise UserError(
            "An export is read back with transformers, which is not installed.",
            fix="Install it: pip install 'fromscratch[export]'",
        )


def export_hf(
    named: str | Path,
    bundle: ModelBundle,
    out: Path,
    *,
    dtype: DType = "float32",
    name: str | None = None,
    licence: str | None = None,
    price: float | None = None,
    watts: float | None = None,
) -> HFExport:
    """Writes a folder for transformers and the hub.

    Args:
        named: The model as it was named, which says where its run is.
        bundle: The same, read.
        out: The folder; not there yet.
        dtype: Of the weights.
        name: What the model is called; the folder's name if not given.
        licence: As the hub names it, where one was chosen.
        price: Dollars an hour and device, for the card.
        watts: Power of a device, for the card.

    Raises:
        UserError: transformers cannot express the model, the folder is there or cannot be written,
            or what was read back is not the same model.
    """
    check_transformers()
    numbers = sum(p.numel() for p in bundle.model.parameters())
    with new_folder(out, n_bytes=numbers * _TORCH[dtype].itemsize) as folder:
        sha256, reader, rounding = write_checked(folder, bundle, dtype)
        options = CardOptions(
            name=name or out.name,
            dtype=dtype,
            sha256=sha256,
            checked=checked_sentence(reader),
            licence=licence,
            price=price,
            watts=watts,
        )
        known = card_facts(named, bundle)
        if known.record is not None and known.facts is not None and len(known.record.training):
            # matplotlib takes longer to import than all the rest.
            from fromscratch.report.picture import picture

            run = run_of(named)
            assert run is not None
            write_atomically(folder / CARD_CURVES, picture(shown([(run, known.record)])))
        write_atomically(folder / CARD, model_card(bundle, known, options))
        n_bytes = sum(path.stat().st_size for path in folder.rglob("*"))
    template = bundle.template.name if bundle.template is not None else None
    return HFExport(out, n_bytes, reader, rounding, template)


def checked_sentence(reader: Difference) -> str:
    """What was compared, for the card."""
    import transformers

    return (
        f"Read back by transformers {transformers.__version__}: over {reader.positions:,} "
        f"positions logits differ from the trainer's own by {reader.largest:.1e} at most."
    )


def write_checked(
    folder: Path, bundle: ModelBundle, dtype: DType
) -> tuple[str, Difference, Difference]:
    """Writes weights, configuration and tokenizer, and reads them back with transformers.

    Returns:
        The weights' sha256, what the reader made of them, and what rounding did to them.

    Raises:
        UserError: transformers cannot express the model, or has read another one.
    """
    reason = why_not_expressible(bundle.model.config)
    if reason is not None:
        raise UserError(f"transformers cannot express this model: {reason}.")
    state = _rounded(bundle, dtype)
    _, sha256 = write_model(folder, bundle.model.config, state, bundle.tokenizer, bundle.template)
    content = read_json(folder / CHECKPOINT_CONFIG) | {"dtype": dtype}
    write_atomically(folder / CHECKPOINT_CONFIG, dump_json(content, indent=2) + "\n")
    meant = load_bundle(folder)
    ids = some_ids(meant.model.config.vocab_size, meant.model.config.context)
    reader = compare(logits_of(meant.model), _opened(folder), ids)
    check_same(reader, "transformers")
    rounding = reader.none()
    if dtype != "float32":
        rounding = compare(logits_of(bundle.model), logits_of(meant.model), ids)
    if not rounding.kl <= WORST_KL[dtype]:
        raise UserError(
            f"Rounded to {dtype}, the model predicts something else: it loses {rounding.kl:.2g} "
            f"nats a token ({WORST_KL[dtype]:g} are allowed). Nothing was kept.",
            fix="Use --dtype float32.",
        )
    _check_tokenizer(folder, replace(bundle, tokenizer=meant.tokenizer))
    return sha256, reader, rounding


def _rounded(bundle: ModelBundle, dtype: DType) -> dict[str, Tensor]:
    kind = _TORCH[dtype]
    found = {}
    for name, tensor in bundle.model.state_dict().items():
        found[name] = tensor.to(kind)
        if not found[name].isfinite().all() and tensor.isfinite().all():
            raise UserError(
                f"{name} has numbers that are too large for {dtype}.",
                fix="Use --dtype bfloat16 or float32.",
            )
    return found


def _opened(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    with silent():
        theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        theirs.eval()  # type: ignore[no-untyped-call]
    return lambda ids: theirs(ids).logits


def _check_tokenizer(folder: Path, bundle: ModelBundle) -> None:
    """The same ids of texts, and of a conversation in which a user spells special tokens."""
    from transformers import AutoTokenizer

    tokenizer = bundle.tokenizer
    with silent():
        theirs = AutoTokenizer.from_pretrained(folder)
    check_texts(tokenizer, lambda text: theirs(text, add_special_tokens=False).input_ids)
    if bundle.template is None:
        return
    found: Any = theirs.apply_chat_template(
        as_dicts(_CONVERSATION), add_generation_prompt=True, return_dict=False
    )
    ours = prompt_ids(bundle.template, tokenizer, _CONVERSATION)
    check_ids("a conversation", ours, found, "transformers")
