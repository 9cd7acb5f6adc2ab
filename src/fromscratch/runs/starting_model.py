"""The model that a run starts from (`train --from MODEL`).

In: a run, a checkpoint, a Hugging Face folder or a hub's name. Out: what a recipe leaves to it (the
model's shape, the tokenizer, the chat template), and its weights in the run's own model. The recipe
keeps where it lay and the sha256 of its weights; once the run has a checkpoint, it is not needed.

What always holds: a recipe may lower the context and set the dropout, and changes nothing else of
the model's shape. The special tokens of a chat template take the vocabulary's padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fromscratch.chat.template import DEFAULT, Template, template_named
from fromscratch.checkpoint.bundle import (
    load_bundle,
    model_folder,
    read_model_config,
    with_template,
)
from fromscratch.checkpoint.chat_template import template_in
from fromscratch.checkpoint.hub_model import is_hub_name
from fromscratch.checkpoint.model_files import weights_sha256
from fromscratch.data.batches import TrainingData
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import read_json
from fromscratch.foundation.names import CHECKPOINT_RECIPE, CHECKPOINT_STATE
from fromscratch.foundation.sharded import fill
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.model.vocabulary import grow_vocabulary
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.recipe_files import load_recipe
from fromscratch.tokenizer.special import with_special_tokens
from fromscratch.tokenizer.tokenizer import Tokenizer, load_tokenizer

Notes = list[tuple[str, str]]
"""Name and sentence of what the person should know."""

_FREE = {"context", "dropout", "family", "init", "init_std"}
"""What a recipe's [model] may say for itself: lowered, set, or of no meaning for weights that are
there."""


@dataclass(frozen=True)
class StartingModel:
    """What is known of a model without reading its weights.

    Attributes:
        named: As a recipe keeps it: a hub's name, or the folder.
        folder: Where it lies.
        sha256: Of its weights.
        config: Its shape.
        tokenizer: The one it was trained with.
        template: Its chat template; None for a base model.
    """

    named: str
    folder: Path
    sha256: str
    config: ModelConfig
    tokenizer: Tokenizer
    template: Template | None

    def complete(self, values: dict[str, Any]) -> dict[str, Any]:
        """A recipe's tables with what it leaves to the model.

        Raises:
            UserError: The recipe says another shape or tokenizer.
        """
        train = values.get("train", {})
        finetunes = train.get("objective", "pretrain") != "pretrain"
        data, config = dict(values.get("data", {})), self.config
        base = {"model": self.named, "sha256": self.sha256}
        if self.template is not None:
            base["template"] = self.template.name
        completed = values | {"base": base}
        if finetunes:
            if "tokenizer" in data:
                raise UserError(
                    f"data.tokenizer = {data['tokenizer']!r}: the tokenizer is that of the model "
                    "that is started from.",
                    fix="Leave it out.",
                )
            own = DEFAULT if self.template is None else self.template.name
            template = values.get("chat", {}).get("template") or own
            completed |= {"chat": values.get("chat", {}) | {"template": template}}
            config = self._grown(template_named(template))
        data.setdefault("tokenizer", str(self.folder))
        model = _completed_model(values.get("model", {}), config)
        return completed | {"model": model, "data": data}

    def _grown(self, template: Template) -> ModelConfig:
        """The shape with the template's special tokens in the vocabulary."""
        tokenizer = with_special_tokens(self.tokenizer, template.special_tokens)
        with torch.device("meta"):
            model = GPT(self.config)
        grow_vocabulary(model, tokenizer.vocab_size)
        return model.config


def find_starting_model(named: str) -> StartingModel:
    """Looks a model up, and downloads it where it is on the hub.

    Args:
        named: As for `load_bundle`.

    Raises:
        UserError: There is no model there, or not one that this package can run.
    """
    folder = model_folder(named)
    config, tokenizer = read_model_config(folder), load_tokenizer(folder)
    return StartingModel(
        named=named if is_hub_name(named) else str(folder.resolve()),
        folder=folder.resolve(),
        sha256=weights_sha256(folder),
        config=config.model_copy(update={"vocab_size": tokenizer.vocab_size}),
        tokenizer=tokenizer,
        template=template_in(folder, tokenizer),
    )


def template_of(recipe: Recipe) -> Template | None:
    """The chat template that a run's model is written with; None for a base model."""
    name = recipe.chat.template or recipe.base.template
    return template_named(name) if name else None


def fill_from_base(model: GPT, recipe: Recipe, tokenizer: Tokenizer) -> None:
    """Gives a run's model the weights of the model that it starts from.

    Args:
        model: Of the recipe's shape; on any device, shared out or not.
        recipe: One with a [base].
        tokenizer: That of the run's data.

    Raises:
        UserError: The model is no longer there or no longer the same, or its tokenizer is not the
            data's.
    """
    base = recipe.base
    bundle = load_bundle(base.model)
    if bundle.sha256 != base.sha256:
        raise UserError(
            f"The weights of {base.model} are not those that this run started from (sha256 "
            f"{bundle.sha256[:12]} instead of {base.sha256[:12]}).",
            fix="Restore them, or start a new run with --from.",
        )
    if recipe.chat.template:
        bundle = with_template(bundle, template_named(recipe.chat.template))
    if bundle.tokenizer.fingerprint != tokenizer.fingerprint:
        raise UserError(
            f'The data was prepared with the tokenizer "{tokenizer.name}", which is not that of '
            f"{base.model}.",
            fix=f"Prepare it with the model's own: fromscratch prepare SOURCE --out DATA "
            f"--tokenizer {bundle.folder}.",
        )
    weights = bundle.model.state_dict()
    if "positions.weight" in weights:
        weights["positions.weight"] = weights["positions.weight"][: recipe.model.context]
    ours = model.state_dict()
    assert {n: t.shape for n, t in weights.items()} == {n: t.shape for n, t in ours.items()}
    for name, tensor in ours.items():
        fill(tensor, weights[name])


def read_by(model: str) -> dict[str, float]:
    """How often a model has gone through which texts; nothing where no run of ours made it."""
    state = _state_of(model).get("read")
    return dict(state) if isinstance(state, dict) else {}


def consumed_notes(
    recipe: Recipe, data: TrainingData, before: Mapping[str, float], *, model: str = ""
) -> Notes:
    """Which of the texts that come have been trained on before (R03).

    Args:
        recipe: Of the run that begins, or goes on with other data.
        data: What comes.
        before: Sources of which something was read by then, with the epochs.
        model: The one that begins the run; empty where it goes on.
    """
    if not before:
        return []
    parts = [f'{epochs:.3g} times through "{name}"' for name, epochs in before.items()]
    said = f"{model or 'the run'} was trained on this very text before: {', '.join(parts)}"
    if _state_of(model).get("data_fingerprint") == data.fingerprint:
        settings = load_recipe(str(Path(model) / CHECKPOINT_RECIPE))
        if settings.data.seed == recipe.data.seed:
            said += ", and it comes again in the same order; data.seed chooses another"
    return [("consumed_data", said)]


def _state_of(model: str) -> dict[str, Any]:
    """What a checkpoint of ours says of its training; nothing for another model."""
    path = Path(model) / CHECKPOINT_STATE
    content = read_json(path) if model and path.is_file() else {}
    return content if isinstance(content, dict) else {}


def unfinetuned_notes(recipe: Recipe) -> Notes:
    """Whether DPO starts from a model that has learned to answer nobody yet."""
    if recipe.train.objective != "dpo" or recipe.base.template:
        return []
    said = (
        f"{recipe.base.model} has no chat template, so it seems not to be finetuned on "
        "conversations: DPO makes likelier what a model already says, and teaches it no answers. "
        "Finetune it first (train.objective=sft), or use the recipe orpo, which does both at once"
    )
    return [("not_finetuned", said)]


def _completed_model(written: Mapping[str, Any], config: ModelConfig) -> dict[str, Any]:
    """The model's shape, with what a recipe may say for itself."""
    shape = config.model_dump()
    for key, value in written.items():
        automatic = value == 0 and key in ("n_kv_head", "head_dim", "d_ff", "padded_vocab")
        if key in _FREE or automatic or key not in shape or shape[key] == value:
            continue
        raise UserError(
            f"model.{key} = {value} contradicts the model that is started from, which has "
            f"{shape[key]}.",
            fix=f"Leave model.{key} out: the shape is that model's.",
        )
    context = written.get("context", config.context)
    if isinstance(context, int) and context > config.context:
        raise UserError(
            f"model.context = {context:,} is more than the {config.context:,} positions that the "
            "model that is started from knows.",
            fix=f"Say at most model.context={config.context}.",
        )
    return shape | {k: v for k, v in written.items() if k in ("context", "dropout")}
