"""Schedules at hand-computed points, against published formulas, and without jumps."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.foundation.schedules import Schedule, ScheduleName

NAMES: tuple[ScheduleName, ...] = ("cosine", "wsd", "linear", "constant")
SHAPES = st.fixed_dictionaries(
    {
        "steps": st.integers(2, 300),
        "decay_fraction": st.floats(0.01, 1.0),
        "floor": st.floats(0.0, 1.0),
    }
)


def build_nanogpt(it: int, *, max_steps: int, warmup_steps: int, max_lr: float, min_lr: float):
    """karpathy/build-nanogpt, train_gpt2.py, `get_lr`; `it` counts from 0."""
    if it < warmup_steps:
        return max_lr * (it + 1) / warmup_steps
    if it > max_steps:
        return min_lr
    decay_ratio = (it - warmup_steps) / (max_steps - warmup_steps)
    assert 0 <= decay_ratio <= 1
    coeff = 0.5 * (1.0 + math.cos(math.pi * decay_ratio))
    return min_lr + coeff * (max_lr - min_lr)


@pytest.mark.parametrize(("warmup", "steps"), [(100, 953), (1750, 25_000), (0, 10), (715, 19_073)])
def test_cosine_is_build_nanogpts(warmup: int, steps: int) -> None:
    schedule = Schedule("cosine", steps=steps, warmup_steps=warmup, floor=0.1)
    for step in {1, 2, warmup, warmup + 1, steps // 2, steps - 1, steps, steps + 1, 2 * steps}:
        if step < 1:
            continue
        theirs = build_nanogpt(
            step - 1, max_steps=steps, warmup_steps=warmup, max_lr=6e-4, min_lr=6e-5
        )
        assert 6e-4 * schedule.at(step) == pytest.approx(theirs, rel=1e-12)


def test_hand_computed_values() -> None:
    cosine = Schedule("cosine", steps=14, warmup_steps=4, floor=0.2)
    assert [cosine.at(n) for n in range(1, 6)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert cosine.at(10) == pytest.approx(0.6)  # half way between 1 and the floor
    assert cosine.at(14) == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(0.9 * math.pi)))

    linear = Schedule("linear", steps=5, warmup_steps=1)
    assert [linear.at(n) for n in range(1, 7)] == pytest.approx([1, 1, 0.75, 0.5, 0.25, 0])

    wsd = Schedule("wsd", steps=10, warmup_steps=2, decay_fraction=0.4, floor=0.0)
    assert [wsd.at(n) for n in range(1, 11)] == pytest.approx(
        [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    )
    floored = Schedule("wsd", steps=10, decay_fraction=0.2, floor=0.5)
    assert [floored.at(n) for n in (8, 9, 10, 11, 50)] == pytest.approx([1, 1, 0.75, 0.5, 0.5])

    constant = Schedule("constant", steps=10, warmup_steps=2, floor=0.3)
    assert [constant.at(n) for n in (1, 2, 3, 10, 99)] == [0.5, 1, 1, 1, 1]


@pytest.mark.parametrize("name", NAMES)
def test_the_first_update_of_a_warmup_is_small_and_the_peak_comes_at_its_end(
    name: ScheduleName,
) -> None:
    schedule = Schedule(name, steps=1000, warmup_steps=100)
    assert schedule.at(1) == 0.01  # neither 0 nor the peak (R23)
    assert schedule.at(100) == 1.0
    assert schedule.at(101) == 1.0


@pytest.mark.parametrize("name", NAMES)
@given(shape=SHAPES, warmup_share=st.floats(0.0, 0.9))
def test_up_then_never_up_again_between_floor_and_peak(
    name: ScheduleName, shape: dict, warmup_share: float
) -> None:
    steps = shape["steps"]
    warmup = min(int(warmup_share * steps), steps - 1)
    schedule = Schedule(name, warmup_steps=warmup, **shape)
    values = [schedule.at(n) for n in range(1, steps + 10)]
    assert all(0.0 <= v <= 1.0 for v in values)
    rising, falling = values[:warmup], values[warmup:]
    assert all(a < b for a, b in pairwise(rising))
    assert all(a >= b - 1e-12 for a, b in pairwise(falling))
    assert all(v >= shape["floor"] - 1e-12 for v in falling)


@given(shape=SHAPES, warmup_share=st.floats(0.0, 0.9))
def test_cosine_and_linear_never_jump(shape: dict, warmup_share: float) -> None:
    """A cosine that ends at 0 and then jumps to its floor is R23."""
    steps = shape["steps"]
    warmup = min(int(warmup_share * steps), steps - 1)
    span = steps - warmup
    for name, steepest in (("cosine", math.pi / 2 / span), ("linear", 1 / span)):
        schedule = Schedule(name, warmup_steps=warmup, **shape)  # type: ignore[arg-type]
        values = [schedule.at(n) for n in range(max(1, warmup), steps + 10)]
        jumps = [abs(a - b) for a, b in pairwise(values)]
        assert max(jumps) <= steepest + 1e-12
        assert values[-1] == pytest.approx(shape["floor"])


@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_one_step(name: ScheduleName) -> None:
    assert Schedule(name, steps=1).at(1) == 1.0


def test_steps_are_numbered_from_one() -> None:
    with pytest.raises(AssertionError):
        Schedule("cosine", steps=10).at(0)
