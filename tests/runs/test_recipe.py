"""Recipes: what is read, what is refused, what comes back."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.foundation.errors import UserError
from fromscratch.runs.planning import make_plan
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.recipe_files import load_recipe, parse_recipe, shipped_recipes

SHIPPED = shipped_recipes()


def test_the_five_systems_the_default_and_try_are_shipped():
    assert set(SHIPPED) >= {
        "rangeflow-124m", "minigpt-124m", "transformer-room-3m", "rtx3090-163m", "fgpt-662m",
        "modern-124m", "try",
    }  # fmt: skip


@pytest.mark.parametrize("name", shipped_recipes(with_model=True))
def test_a_resolved_recipe_reads_back_as_itself(name: str):
    recipe = load_recipe(name)
    again = parse_recipe(recipe.to_toml(), name="another")
    assert again == recipe
    assert again.hash == recipe.hash


# DESIGN's table: the numbers that the authors of the five systems published.
@pytest.mark.parametrize(
    ("name", "tokens_per_step", "steps", "total_tokens"),
    [
        ("rangeflow-124m", 129_024, 25_000, 25_000 * 129_024),
        ("minigpt-124m", 524_288, 953, 953 * 524_288),
        ("rtx3090-163m", 6 * 1024, 534_200, 3_282_124_800),
        ("fgpt-662m", 84 * 6 * 1024, 40_000, 40_000 * 516_096),
    ],
)
def test_the_published_runs_have_their_length(name, tokens_per_step, steps, total_tokens):
    plan = make_plan(load_recipe(name))
    assert (plan.tokens_per_step, plan.steps) == (tokens_per_step, steps)
    assert plan.total_tokens == total_tokens


def test_the_rtx3090_validation_is_3200_batches_of_6():
    assert load_recipe("rtx3090-163m").eval.tokens == 19_660_800 == 3_200 * 6 * 1024


@pytest.mark.parametrize("name", sorted(set(SHIPPED) - set(shipped_recipes(with_model=True))))
def test_a_recipe_that_finetunes_asks_for_its_model(name: str):
    with pytest.raises(UserError, match=f"train {name} --from MODEL"):
        load_recipe(name)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["chat.packing=false"], "chat has no effect"),
        (["base.model=runs/one"], "written by a run"),
        (["train.objective=sft", "chat.examples_per_step=4"], "finetunes a model"),
    ],
)
def test_a_table_of_another_objective_is_refused(overrides: list[str], said: str):
    with pytest.raises(UserError, match=said):
        load_recipe("try", overrides)


def of_a_base(*overrides: str) -> Recipe:
    """`try` as if it finetuned itself."""
    return load_recipe(
        "try",
        ["train.objective=sft", "train.micro_batch=2", *overrides],
        complete=lambda values: values | {"base": {"model": "m", "sha256": "s"}},
    )


def test_examples_per_step_fix_the_step_of_padded_rows():
    recipe = of_a_base("chat.packing=false", "chat.examples_per_step=6")
    assert recipe.samples_per_step == 6
    assert parse_recipe(recipe.to_toml(), name="again") == recipe
    said_later = of_a_base(
        "chat.packing=false", "chat.examples_per_step=6", "train.tokens_per_step=8192"
    )
    assert said_later.train.tokens_per_step == 8192
    with pytest.raises(UserError, match=r"chat\.packing=false"):
        of_a_base("chat.examples_per_step=6")
    with pytest.raises(UserError, match=r"data\.render has no effect"):
        of_a_base("data.render=alpaca")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_file_says_what_it_is_and_why(name: str):
    from importlib import resources

    text = (resources.files("fromscratch.runs") / "recipes" / f"{name}.toml").read_text("utf-8")
    assert text.count("#") >= 3
    assert text.startswith("description = ")


def test_overrides_replace_each_other_and_the_length_of_the_run():
    recipe = load_recipe("try", ["train.tokens=1_000_000", "optim.lr=1e-3", "optim.lr=2e-3"])
    assert recipe.train.steps is None
    assert recipe.steps() == -(-1_000_000 // recipe.train.tokens_per_step)
    assert recipe.optim.lr == 2e-3


def test_one_text_and_several_sources_replace_each_other():
    sources = 'data.source=[{name="a", path="a.txt"}]'
    recipe = load_recipe("try", [sources])
    assert (recipe.data.path, [s.name for s in recipe.data.source]) == (None, ["a"])
    recipe = load_recipe("mix-switch", ["data.path=a.txt"])
    assert (recipe.data.path, recipe.data.source, recipe.data.stage) == ("a.txt", [], [])


def test_an_override_takes_toml_values_and_bare_words():
    recipe = load_recipe(
        "try", ["optim.betas=[0.5, 0.6]", "model.tie_embeddings=true", "data.path=some where"]
    )
    assert recipe.optim.betas == (0.5, 0.6)
    assert recipe.model.tie_embeddings is True
    assert recipe.data.path == "some where"


@given(st.text(max_size=30))
def test_any_text_as_an_override_is_taken_or_refused_in_a_sentence(text: str):
    with contextlib.suppress(UserError):  # anything else would be a traceback
        assert isinstance(load_recipe("try", [text]), Recipe)


@given(st.sampled_from(["train", "model", "optim", "data.source"]), st.text("abcdefg_", min_size=1))
def test_no_unknown_key_is_ever_ignored(table: str, key: str):
    known = load_recipe("try").model_dump()
    if key in known.get(table, {}):
        return
    with pytest.raises(UserError):
        load_recipe("try", [f"{table}.{key}=1"])


def test_unknown_keys_inside_a_list_of_tables_are_refused():
    text = load_recipe("rangeflow-124m").to_toml().replace("weight = 50.0", "wieght = 50.0")
    with pytest.raises(UserError, match=r'data\.source\.wieght.*"data\.source\.weight"'):
        parse_recipe(text, name="x")


def test_epochs_become_steps_once_the_data_is_known():
    recipe = load_recipe("transformer-room-3m")
    assert recipe.steps() is None
    assert recipe.steps(windows_per_epoch=3_200) == 40 * 3_200 // 32
