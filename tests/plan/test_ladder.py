"""Ladders: within the seconds given, wide enough for a law, in the recipe's proportions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fromscratch.model.config import ModelConfig
from fromscratch.model.count import count_parameters
from fromscratch.plan.ladder import RATIOS, Size, choose_ladder, sizes_of

MODEL = ModelConfig(
    family="modern", n_layer=12, n_head=12, d_model=768, context=1024, vocab_size=50257
)
TINY = ModelConfig(family="gpt2", n_layer=2, n_head=4, d_model=64, context=128, vocab_size=256)


def ladder(seconds: float, flops: float = 1e13, model: ModelConfig = MODEL, most: float = 1e15):
    """A ladder on a device of constant speed."""
    return choose_ladder(
        sizes_of(model),
        lambda size: flops / size.flops_per_token,
        seconds,
        each=2.0,
        least_tokens=32 * model.context,
        most_tokens=most,
    )


@pytest.mark.parametrize("model", [MODEL, TINY])
def test_a_family_keeps_the_recipe_s_proportions(model: ModelConfig):
    sizes = sizes_of(model)
    assert model in [size.model for size in sizes]
    assert [s.parameters for s in sizes] == sorted({count_parameters(s.model).total for s in sizes})
    assert sizes[-1].parameters > 20 * count_parameters(model).total
    for size in sizes:
        assert size.model.head_dim == model.head_dim
        assert size.model.n_layer == max(1, round(model.n_layer * size.heads / model.n_head))
        assert size.model.vocab_size == model.vocab_size


@settings(max_examples=25)
@given(st.floats(60, 1e6), st.sampled_from([1e10, 1e12, 1e14]), st.sampled_from([MODEL, TINY]))
def test_a_ladder_keeps_to_its_seconds(seconds: float, flops: float, model: ModelConfig):
    rungs = ladder(seconds, flops, model)
    assert sum(rung.seconds for rung in rungs) <= seconds
    for rung in rungs:
        taken = 2.0 + rung.tokens * rung.size.flops_per_token / flops
        assert rung.seconds == pytest.approx(taken)
    if rungs:
        assert len(rungs) >= 8
        assert len({rung.size.heads for rung in rungs}) >= 3
        assert len({rung.tokens for rung in rungs}) >= 3
        assert rungs == sorted(rungs, key=lambda rung: (rung.seconds, rung.tokens))
        assert rungs[-1].size.parameters <= 30 * min(r.size.parameters for r in rungs)


def test_more_time_gives_larger_models():
    def largest(seconds: float) -> Size:
        return max((rung.size for rung in ladder(seconds)), key=lambda size: size.parameters)

    sizes = [largest(seconds).parameters for seconds in (2e3, 2e4, 2e5, 2e6)]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 5 * sizes[0]


def test_most_of_the_time_is_used():
    for seconds in (3e3, 3e4, 3e5):
        assert sum(rung.seconds for rung in ladder(seconds)) > 0.5 * seconds


def test_lengths_are_multiples_of_the_size_and_end_with_the_text():
    rungs = ladder(1e5)
    for heads in {rung.size.heads for rung in rungs}:
        own = sorted(r.tokens / r.size.parameters for r in rungs if r.size.heads == heads)
        assert [ratio / own[0] for ratio in own] == pytest.approx([r / RATIOS[0] for r in RATIOS])


def test_text_that_ends_bounds_the_sizes():
    free, bound = ladder(1e6), ladder(1e6, most=2e9)
    assert max(rung.tokens for rung in free) > 2e9 >= max(rung.tokens for rung in bound)
    assert len(bound) == len({(r.size.heads, r.tokens) for r in bound}) >= 12
    # A little text is still a ladder, of the smallest sizes on less than they should have.
    assert max(rung.tokens for rung in ladder(1e6, most=2e7)) == pytest.approx(2e7, rel=1e-6)


def test_too_little_time_gives_no_ladder():
    assert ladder(5.0) == []
