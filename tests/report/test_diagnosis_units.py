"""Change points do not depend on units: of the loss, of the learning rate, of the steps."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fromscratch.foundation.schedules import Schedule
from fromscratch.report.diagnosis.jumps import find_jumps
from fromscratch.report.diagnosis.rate_changes import rate_changes

N = 1500
STEPS = np.arange(1.0, N + 1)


@settings(max_examples=15)
@given(
    factor=st.floats(1e-3, 1e3),
    constant=st.floats(-50, 50),
    at=st.integers(400, 1200),
    by=st.sampled_from([-1.0, -0.5, 0.5, 1.0]),
    seed=st.integers(0, 1000),
)
def test_a_constant_and_a_factor_leave_a_jump_where_it_is(factor, constant, at, by, seed):
    noise = 0.1 * np.random.default_rng(seed).normal(size=N)
    loss = 3 + 7 * (1 + STEPS / 5) ** -0.6 + noise + by * (at <= STEPS)
    found = find_jumps(loss)
    assert [abs(jump.index - at) < 8 for jump in found] == [True]
    assert [jump.index for jump in find_jumps(constant + factor * loss)] == [found[0].index]


@settings(max_examples=15)
@given(factor=st.floats(1e-3, 1e3), stretch=st.integers(2, 100), at=st.integers(200, 1300))
def test_other_steps_and_peaks_leave_a_change_of_schedule_where_it_is(factor, stretch, at):
    schedule = Schedule("cosine", N, 100)
    rate = np.array([6e-4 * schedule.at(int(step)) for step in STEPS])
    assert not rate_changes(STEPS, rate)
    changed = np.where(at <= STEPS, 0.7, 1.0) * rate
    (found,) = rate_changes(STEPS, changed)
    assert abs(found.step - at) <= 1
    (again,) = rate_changes(stretch * STEPS, factor * changed)
    assert again.step == stretch * found.step
