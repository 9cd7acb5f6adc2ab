"""What a run will take from each source is known, checked and warned of before it starts."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fromscratch.foundation.errors import UserError
from fromscratch.report.mixture_picture import bars, png, shares_at
from fromscratch.runs.mixture_plan import (
    MixturePlan,
    epochs_refusal,
    mixture_warnings,
    plan_mixture,
)
from fromscratch.runs.planning import make_plan
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.recipe_files import load_recipe, parse_recipe

STEP = 1024  # tokens; the context is 128


def mixed(*sources: str, stages: str = "", steps: int = 1000, more: tuple[str, ...] = ()) -> Recipe:
    """A recipe with sources `NAME WEIGHT [MAX_EPOCHS]`."""
    tables = ""
    for source in sources:
        name, weight, *limit = source.split()
        tables += f'[[data.source]]\nname = "{name}"\npath = "{name}-text"\nweight = {weight}\n'
        tables += f"max_epochs = {limit[0]}\n" if limit else ""
    text = f"""
[model]
family = "modern"
n_layer = 1
n_head = 2
d_model = 16
context = 128
[data]
tokenizer = "bytes"
{tables}
{stages}
[train]
steps = {steps}
tokens_per_step = {STEP}
micro_batch = 8
"""
    return parse_recipe(text, name="mixed", overrides=more)


def planned(recipe: Recipe, **available: int) -> MixturePlan:
    plan = plan_mixture(recipe, recipe.steps(), available)
    assert plan is not None
    return plan


THREE_LINES = """
[[data.stage]]
weights = {c4 = 90, new = 10}
blend_tokens = 500_000_000
"""


def test_a_growing_share_in_three_lines() -> None:
    recipe = mixed("c4 1", "new 0", stages=THREE_LINES, steps=10**9 // STEP)
    plan = planned(recipe)
    total = 10**9 // STEP * STEP
    # By hand: a triangle of 10% over half a billion tokens, then 10% of the rest.
    new = 25_000_000 + 0.1 * (total - 500_000_000)
    assert [s.tokens for s in plan.sources] == [round(total - new), round(new)]
    assert shares_at(plan, 250_000_000) == pytest.approx([0.95, 0.05])
    assert shares_at(plan, 700_000_000) == pytest.approx([0.9, 0.1])
    assert plan.warnings == []


def test_stages_are_counted_each_and_add_up() -> None:
    stages = """
[[data.stage]]
from_tokens = 100_000
weights = {a = 1, b = 3}
blend_tokens = 200_000
[[data.stage]]
from_tokens = 500_000
weights = {a = 0, b = 2}
"""
    plan = planned(mixed("a 1", "b 1", stages=stages), a=64_000, b=10**6)
    first, second, third = plan.stages
    assert first.tokens == {"a": 50_000, "b": 50_000}
    # From 50:50 to 25:75 over 200,000, then 25:75 over 200,000.
    assert second.tokens == {"a": 75_000 + 50_000, "b": 125_000 + 150_000}
    assert third.tokens == {"a": 0, "b": 1000 * STEP - 500_000}
    assert (third.from_tokens, third.to_tokens) == (500_000, 1000 * STEP)
    a, b = plan.sources
    assert (a.tokens, b.tokens) == (175_000, 1000 * STEP - 175_000)
    assert a.share == pytest.approx(175_000 / (1000 * STEP))
    assert a.epochs == pytest.approx(175_000 / 64_000)
    assert (a.available, b.max_epochs) == (64_000, None)


def test_of_what_is_not_prepared_the_plan_says_that_it_does_not_know() -> None:
    a, b = planned(mixed("a 1 3", "b 1"), b=100_000).sources
    assert (a.available, a.epochs, a.max_epochs) == (None, None, 3)
    assert b.epochs == pytest.approx(500 * STEP / (782 * 128))  # in whole windows


# --- max_epochs -----------------------------------------------------------------------------------


@given(
    weights=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    tokens=st.integers(10_000, 400_000),
    limit=st.sampled_from([0.5, 1, 2, 3.5]),
    staged=st.booleans(),
)
def test_the_advice_of_a_refusal_is_the_most_that_is_not_refused(
    weights: tuple[int, int], tokens: int, limit: float, staged: bool
) -> None:
    stage = "[[data.stage]]\nfrom_tokens = 9_999\nweights = {a = 1, b = 2}\nblend_tokens = 30_000"
    sources = (f"a {weights[0]} {limit}", f"b {weights[1]}")

    def refusal(*more: str, steps: int = 1000) -> UserError | None:
        recipe = mixed(*sources, stages=stage if staged else "", steps=steps, more=more)
        return epochs_refusal(recipe, recipe.steps() or 0, {"a": tokens})

    refused = refusal()
    windows = -(-tokens // 128)
    wanted = mixed(*sources, stages=stage if staged else "").data.shares(unit=128).wanted(8000)[0]
    assert (refused is not None) == (wanted > limit * windows + 1e-6)
    assume(refused is not None)
    assert refused is not None
    assert f"{tokens:,} training tokens" in refused.what
    assert f"max_epochs is {limit:g}" in refused.what
    fix = str(refused.fix)
    if found := re.search(r"train\.tokens=([\d_]+)", fix):
        most = int(found[1].replace("_", ""))
        assert refusal(f"train.tokens={most}") is None
        assert refusal(f"train.tokens={most + STEP}") is not None
    found = re.search(r"weight of ([\d.e+-]+) at most", fix)
    assert (found is None) == staged or (found is None and limit * windows >= 8000)
    if found:
        less = mixed(f"a {found[1]} {limit}", sources[1])
        assert epochs_refusal(less, 1000, {"a": tokens}) is None
    enough = re.search(r"max_epochs = (\d+(?:\.\d+)?)", fix)
    assert enough
    raised = mixed(f"a {weights[0]} {enough[1]}", sources[1], stages=stage if staged else "")
    assert epochs_refusal(raised, 1000, {"a": tokens}) is None


def test_a_source_that_runs_out_is_in_the_plan() -> None:
    plan = planned(mixed("a 1 2", "b 1"), a=128_000)
    assert len(plan.refusals) == 1
    assert '"a" has 128,000 training tokens' in plan.refusals[0]
    assert "4.00 times" in plan.refusals[0]


# --- jumps (R01) ----------------------------------------------------------------------------------


def switch(blend: int, *, to: str = "{a = 0, b = 1}") -> str:
    return f"[[data.stage]]\nfrom_tokens = 400_000\nweights = {to}\nblend_tokens = {blend}\n"


def test_a_switch_is_warned_of_with_the_line_that_mends_it() -> None:
    (warning,) = map(str, mixture_warnings(mixed("a 1", "b 0", stages=switch(0)), 1000))
    assert "400,000 tokens" in warning
    assert 'share of "a" goes from 100% to 0% at once' in warning
    found = re.search(r"write blend_tokens = ([\d_]+)", warning)
    assert found
    mended = mixed("a 1", "b 0", stages=switch(int(found[1])))
    assert mixture_warnings(mended, 1000) == []


@pytest.mark.parametrize(
    ("stage", "n_warnings"),
    [
        (switch(0, to="{a = 90, b = 10}"), 0),  # ten points are no jump
        (switch(0, to="{a = 89, b = 11}"), 1),
        (switch(10_000), 1),  # 1% of the run
        (switch(600_000), 0),
        (switch(0).replace("400_000", "4_000_000"), 1),  # never begins
    ],
)
def test_what_counts_as_a_jump(stage: str, n_warnings: int) -> None:
    assert len(mixture_warnings(mixed("a 1", "b 0", stages=stage), 1000)) == n_warnings


@given(
    share=st.integers(0, 100),
    begin=st.integers(1, 900),
    blend=st.integers(0, 500_000),
    steps=st.integers(20, 100_000),
)
def test_following_the_advice_ends_the_warning(
    share: int, begin: int, blend: int, steps: int
) -> None:
    def warned(blend: int) -> list[str]:
        stage = f"""[[data.stage]]
from_tokens = {begin * steps * STEP // 1000}
weights = {{a = {share}, b = {100 - share}}}
blend_tokens = {blend}"""
        recipe = mixed("a 50", "b 50", stages=stage, steps=steps)
        return [str(advice) for advice in mixture_warnings(recipe, steps)]

    warnings = warned(blend)
    assert len(warnings) <= 1
    if abs(share - 50) <= 10:
        assert not warnings
    if warnings and "room" not in warnings[0]:
        found = re.search(r"blend_tokens = ([\d_]+)", warnings[0])
        assert found
        assert warned(int(found[1])) == []


def test_the_shipped_switch_warns_and_the_shipped_mixture_does_not() -> None:
    mixture, switched = (make_plan(load_recipe(n)).mixture for n in ("mix-503020", "mix-switch"))
    assert mixture is not None
    assert switched is not None
    assert mixture.warnings == []
    assert 'share of "help" goes from 100% to 0% at once' in switched.warnings[0]
    # The same tokens of each source, to a fraction of a window.
    for one, other in zip(mixture.sources, switched.sources, strict=True):
        assert one.name == other.name
        assert abs(one.tokens - other.tokens) <= 1
    assert [s.share for s in mixture.sources] == pytest.approx([0.5, 0.3, 0.2])


def test_rangeflow_mixes_half_cosmopedia() -> None:
    mixture = make_plan(load_recipe("rangeflow-124m")).mixture
    assert mixture is not None
    assert [(s.name, s.tokens) for s in mixture.sources] == [
        ("cosmopedia", 25_000 * 129_024 * 5 // 10),
        ("alpaca", 25_000 * 129_024 * 3 // 10),
        ("python", 25_000 * 129_024 * 2 // 10),
    ]


# --- the picture ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ascii_only", [False, True])
def test_bars_show_the_shares_of_their_moment(ascii_only: bool) -> None:
    plan = planned(mixed("a 1", "b 1", stages=switch(300_000, to="{a = 0, b = 1}")))
    legend, *rows = bars(plan, width=40, rows=10, ascii_only=ascii_only)
    first, second = ("#", ".") if ascii_only else ("█", "░")
    assert f"{first} a" in legend
    assert f"{second} b" in legend
    assert len(rows) == 10
    for number, row in enumerate(rows):
        a, _ = shares_at(plan, (number + 0.5) * 102_400)
        bar = row.split()[1]
        assert bar.count(first) == pytest.approx(40 * a, abs=1)
        assert bar.count(first) + bar.count(second) == len(bar) == 40
    assert len(bars(planned(mixed("a 3", "b 1")), ascii_only=ascii_only)) == 2


@given(weights=st.lists(st.integers(0, 1000), min_size=2, max_size=9).filter(any))
def test_every_source_that_takes_part_is_seen(weights: list[int]) -> None:
    plan = planned(mixed(*(f"s{i} {w}" for i, w in enumerate(weights))))
    bar = bars(plan, width=40, ascii_only=True)[1].split()[1]
    assert len(bar) == 40
    assert len(set(bar)) == sum(w > 0 for w in weights)


def test_the_png_is_a_picture() -> None:
    plan = planned(mixed("a$x 1", "b 1", stages=switch(0).replace("a =", '"a$x" =')))
    assert png(plan, title="costs $5 and $6").startswith(b"\x89PNG")
