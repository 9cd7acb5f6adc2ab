"""Schedules at hand-computed points, against published formulas, and without jumps."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.foundation.schedules import (
    MomentumSchedule,
    PhasedSchedule,
    Schedule,
    ScheduleName,
    Takeover,
)

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


@pytest.mark.parametrize(("warmup", "steps", "fraction"), [(5, 10, 0.9), (3, 4, 1.0), (9, 10, 0.5)])
def test_a_decay_that_would_begin_within_the_warmup_begins_after_it(warmup, steps, fraction):
    """Else the rate would fall from the peak to the middle of the decay in one step."""
    schedule = Schedule("wsd", steps=steps, warmup_steps=warmup, decay_fraction=fraction)
    values = [schedule.at(n) for n in range(1, steps + 2)]
    assert values[warmup - 1] == values[warmup] == 1.0
    falls = [a - b for a, b in pairwise(values[warmup:])]
    assert falls == pytest.approx([1 / (steps - warmup)] * (steps - warmup))


class TestNanochat:
    """Its schedules are a function of `it`, from 0; these are their values written out."""

    N, W = 2000, 1300  # its warmdown ratio of 0.65

    def test_learning_rate(self):
        schedule = Schedule("wsd", steps=self.N, warmup_steps=40, decay_fraction=0.65, floor=0.05)
        assert schedule.at(1) == 1 / 40
        assert schedule.at(40) == schedule.at(701) == 1.0  # it = 700 = N - W
        # it = 1350: half of the warmdown is left.
        assert schedule.at(1351) == pytest.approx(0.5 * 1.0 + 0.5 * 0.05)
        assert schedule.at(2000) == pytest.approx(1 / self.W + (1 - 1 / self.W) * 0.05)

    def test_momentum_rises_from_085_to_097_and_falls_to_090(self):
        schedule = MomentumSchedule(
            peak=0.97, steps=self.N, start=0.85, warmup_steps=400, end=0.90, decay_fraction=0.65
        )
        assert schedule.at(1) == 0.85
        assert schedule.at(101) == pytest.approx(0.88)
        assert schedule.at(401) == schedule.at(701) == 0.97
        assert schedule.at(1351) == pytest.approx((0.97 + 0.90) / 2)
        assert schedule.at(2000) == pytest.approx(0.90 + 0.07 / self.W)

    def test_weight_decay_falls_along_half_a_cosine(self):
        schedule = Schedule("cosine", steps=self.N)
        for it in (0, 1, 999, 1500, 1999):
            expected = 0.5 * (1 + math.cos(math.pi * it / self.N))
            assert schedule.at(it + 1) == pytest.approx(expected, rel=1e-12)


@given(
    peak=st.floats(0.0, 0.99),
    start=st.floats(0.0, 0.99),
    end=st.none() | st.floats(0.0, 0.99),
    steps=st.integers(1, 300),
    warmup=st.integers(0, 400),
    fraction=st.floats(0.01, 1.0),
)
def test_momentum_never_jumps_and_stays_in_range(peak, start, end, steps, warmup, fraction):
    schedule = MomentumSchedule(peak, steps, start if warmup else 0.0, warmup, end, fraction)
    values = [schedule.at(n) for n in range(1, steps + 3)]
    corners = [peak, *([start] if warmup else []), *([] if end is None else [end])]
    assert all(min(corners) - 1e-9 <= v <= max(corners) + 1e-9 for v in values)
    decay_steps = max(1, round(fraction * steps))
    steepest = (1 / max(1, warmup) if warmup else 0) + (0 if end is None else 1 / decay_steps)
    assert all(abs(a - b) <= steepest + 1e-9 for a, b in pairwise(values))


def test_a_schedule_that_takes_over_by_hand():
    """Constant, then linear to a fifth of the peak over four updates, then cosine to zero."""
    schedule = PhasedSchedule(
        Schedule("constant", steps=12, warmup_steps=2),
        (
            Takeover("linear", first=5, last=8, floor=0.2),
            Takeover("cosine", first=9, last=12, floor=0.0),
        ),
    )
    half = 0.5 * math.sqrt(0.5)  # of cos(pi / 4)
    expected = [0.5, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0.2 * (0.5 + half), 0.1, 0.2 * (0.5 - half)]
    assert [schedule.at(n) for n in range(1, 13)] == pytest.approx(expected)
    assert schedule.at(13) == schedule.at(50) == 0.0


@st.composite
def phased(draw: st.DrawFn) -> PhasedSchedule:
    steps = draw(st.integers(5, 200))
    base = Schedule(
        draw(st.sampled_from(NAMES)),
        steps=steps,
        warmup_steps=draw(st.integers(0, 4)),
        decay_fraction=draw(st.floats(0.01, 1.0)),
        floor=draw(st.floats(0.0, 1.0)),
    )
    firsts = sorted(draw(st.sets(st.integers(5, steps), max_size=4)))
    takeovers: tuple[Takeover, ...] = ()
    for first, last in zip(firsts, [*(f - 1 for f in firsts[1:]), steps], strict=False):
        floor = PhasedSchedule(base, takeovers).at(first) * draw(st.floats(0.0, 1.0))
        name = draw(st.sampled_from(NAMES))
        takeovers += (Takeover(name, first, last, floor, draw(st.floats(0.01, 1.0))),)
    return PhasedSchedule(base, takeovers)


@given(schedule=phased())
def test_a_takeover_goes_on_from_the_value_in_force_and_changes_nothing_before_it(schedule):
    for number, takeover in enumerate(schedule.takeovers):
        without = PhasedSchedule(schedule.base, schedule.takeovers[:number])
        assert schedule.at(takeover.first) == without.at(takeover.first), "to the bit: no jump"
        for step in range(1, takeover.first):
            assert without.at(step) == schedule.at(step)
        values = [schedule.at(n) for n in range(takeover.first, takeover.last + 1)]
        assert all(a >= b - 1e-12 for a, b in pairwise(values))
        if takeover.name != "constant":
            assert takeover.at(takeover.last + 1, values[0]) == pytest.approx(takeover.floor)
    if not schedule.takeovers:
        for step in range(1, schedule.base.steps + 5):
            assert schedule.at(step) == schedule.base.at(step)
