"""What a recipe becomes at another size and length."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fromscratch.foundation.errors import UserError
from fromscratch.plan.ladder import sizes_of
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.recipe_files import load_recipe, parse_recipe, read_recipe
from fromscratch.runs.scale_rules import FEWEST_STEPS, check_scalable, settings_for

PRETRAINING = ("try", "modern-124m", "minigpt-124m", "rtx3090-163m", "fgpt-662m")


def reference_of(recipe: Recipe) -> int:
    steps = recipe.steps()
    assert steps is not None
    return steps * recipe.train.tokens_per_step


@settings(max_examples=20)
@given(st.sampled_from(PRETRAINING), st.integers(0, 11), st.floats(0.5, 100))
def test_every_size_and_length_is_a_recipe(name: str, number: int, ratio: float):
    recipe = load_recipe(name)
    size = sizes_of(recipe.model)[number]
    tokens = max(FEWEST_STEPS * recipe.model.context, int(ratio * size.parameters))
    changed = settings_for(recipe, size, tokens, reference=reference_of(recipe))
    overrides = [f"{key}={value}" for key, value in changed.items()]
    found = parse_recipe(read_recipe(name)[1], name=name, overrides=overrides)
    assert found.model == size.model
    steps = found.steps()
    assert steps is not None
    trained = steps * found.train.tokens_per_step
    assert trained == pytest.approx(tokens, abs=found.train.tokens_per_step)
    assert steps >= FEWEST_STEPS
    assert found.train.micro_batch == "auto" or found.micro_batch <= recipe.micro_batch
    assert 10 * found.schedule.warmup_steps <= steps
    found.settings(steps)  # schedule and rates go together


@pytest.mark.parametrize("name", ["try", "modern-124m"])
def test_its_own_size_and_length_give_the_recipe_back(name: str):
    recipe = load_recipe(name)
    (own,) = (size for size in sizes_of(recipe.model) if size.model == recipe.model)
    changed = settings_for(recipe, own, reference_of(recipe), reference=reference_of(recipe))
    assert int(changed["train.tokens_per_step"]) == recipe.train.tokens_per_step
    assert int(changed["train.steps"]) == recipe.steps()
    assert float(changed["optim.lr"]) == recipe.optim.lr
    assert int(changed["train.micro_batch"]) == recipe.micro_batch


def test_rates_follow_the_width():
    adamw, muon = load_recipe("minigpt-124m"), load_recipe("try")
    half = {}
    for recipe in (adamw, muon):
        (size,) = (s for s in sizes_of(recipe.model) if 2 * s.heads == recipe.model.n_head)
        half[recipe.name] = settings_for(recipe, size, 10**7, reference=10**9)
    assert float(half["minigpt-124m"]["optim.lr"]) == pytest.approx(2 * adamw.optim.lr, rel=1e-3)
    floor = float(half["minigpt-124m"]["schedule.min_lr"])
    assert floor == pytest.approx(2 * adamw.schedule.min_lr, rel=1e-3)
    assert float(half["try"]["optim.lr"]) == pytest.approx(2**0.5 * muon.optim.lr, rel=1e-3)
    assert float(half["try"]["optim.embed_lr"]) == pytest.approx(2**0.5 * 0.3, rel=1e-3)
    assert "optim.muon_lr" not in half["try"]


def test_a_hundredth_of_the_text_takes_a_sixth_of_the_batch():
    recipe = load_recipe("modern-124m")
    size = sizes_of(recipe.model)[5]
    changed = settings_for(recipe, size, 26_000_000, reference=2_600_000_000)
    windows = int(changed["train.tokens_per_step"]) // recipe.model.context
    assert windows == 96  # 512 * 0.01^0.383 = 87.8, and 96 is nearer than 64


def test_what_is_bound_to_a_length_is_refused():
    recipe = load_recipe("try", ['train.phase=[{from_step=3, schedule="linear"}]'])
    with pytest.raises(UserError, match=r"\[\[train.phase\]\]"):
        check_scalable(recipe)
    train = recipe.train.model_copy(update={"objective": "sft", "phase": []})
    with pytest.raises(UserError, match='"sft"'):
        check_scalable(recipe.model_copy(update={"train": train}))
