"""What a run takes from the model that it starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fromscratch.checkpoint.bundle import save_model
from fromscratch.foundation.errors import UserError
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.recipe_files import parse_recipe
from fromscratch.runs.starting_model import fill_from_base, find_starting_model, template_of
from fromscratch.tokenizer.build import bytes_tokenizer
from fromscratch.tokenizer.special import with_special_tokens

RECIPE = """
[data]
path = "x.json"
[train]
objective = "sft"
steps = 1
tokens_per_step = 96
micro_batch = 1
"""


def saved(folder: Path, **options: object) -> GPT:
    """A base model in a folder."""
    shape = {"family": "gpt2", "n_layer": 1, "n_head": 2, "d_model": 16, "context": 48}
    config = ModelConfig(**shape | {"vocab_size": 257} | options)
    model = GPT(config, seed=7).eval()
    folder.mkdir(exist_ok=True)
    save_model(folder, model, bytes_tokenizer())
    return model


def recipe_for(folder: Path, *overrides: str) -> Recipe:
    complete = find_starting_model(str(folder)).complete
    return parse_recipe(RECIPE, name="x", overrides=overrides, complete=complete)


def started(recipe: Recipe) -> GPT:
    template = template_of(recipe)
    assert template is not None
    tokenizer = with_special_tokens(bytes_tokenizer(), template.special_tokens)
    model = GPT(recipe.model, seed=0).eval()
    fill_from_base(model, recipe, tokenizer)
    return model


@pytest.mark.parametrize("family", ["gpt2", "modern"])
@pytest.mark.parametrize("padded", [257, 272])
def test_it_speaks_as_before_of_the_tokens_there_were(tmp_path: Path, family: str, padded: int):
    base = saved(tmp_path / "base", family=family, padded_vocab=padded)
    recipe = recipe_for(tmp_path / "base", "model.context=24", "model.dropout=0.25")
    assert recipe.model.vocab_size == 261
    assert recipe.model.padded_vocab == {257: 320, 272: 272}[padded]
    assert (recipe.model.context, recipe.model.dropout) == (24, 0.25)
    model = started(recipe)
    assert model.embed_dropout.p == 0.25
    ids = torch.randint(0, 257, (2, 24), generator=torch.Generator().manual_seed(0))
    expected, found = base(ids)[..., :257], model(ids)
    assert (found[..., :257] - expected).abs().max() < 1e-5
    assert torch.isfinite(found[..., 257:261]).all(), "the roles can be said"
    assert torch.isinf(found[..., 261:]).all()


def test_other_weights_at_its_place_are_refused(tmp_path: Path):
    saved(tmp_path / "base")
    recipe = recipe_for(tmp_path / "base")
    saved(tmp_path / "base", init_std=0.5)
    with pytest.raises(UserError, match=r"not those that this run started from.*--from"):
        started(recipe)


def test_data_of_another_tokenizer_are_refused(tmp_path: Path):
    saved(tmp_path / "base")
    recipe = recipe_for(tmp_path / "base")
    with pytest.raises(UserError, match=r"not that of .*base.*--tokenizer"):
        fill_from_base(GPT(recipe.model), recipe, bytes_tokenizer())


@pytest.mark.parametrize(
    "override",
    ["model.d_model=32", "model.n_layer=2", "model.vocab_size=300", "model.qkv_bias=false"],
)
def test_another_shape_is_refused(tmp_path: Path, override: str):
    saved(tmp_path / "base")
    key = override.partition("=")[0]
    with pytest.raises(UserError, match=f"{key} = .* contradicts"):
        recipe_for(tmp_path / "base", override)


def test_a_model_that_chats_keeps_its_template(tmp_path: Path):
    base = saved(tmp_path / "base", padded_vocab=272)
    first = recipe_for(tmp_path / "base", "chat.template=fgpt")
    template = template_of(first)
    assert template is not None
    model = started(first)
    tokenizer = with_special_tokens(bytes_tokenizer(), template.special_tokens)
    (tmp_path / "chat").mkdir()
    save_model(tmp_path / "chat", model, tokenizer, template)
    again = recipe_for(tmp_path / "chat")
    assert (again.chat.template, again.base.template) == ("fgpt", "fgpt")
    assert again.model.vocab_size == base.config.vocab_size + 2
    continued = find_starting_model(str(tmp_path / "chat")).complete
    pretraining = parse_recipe(
        RECIPE.replace('objective = "sft"', ""), name="x", complete=continued
    )
    kept = template_of(pretraining)
    assert kept is not None
    assert kept.name == "fgpt"
