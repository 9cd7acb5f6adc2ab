"""Which updates are refused, and when so many were that a run must go back."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.train.guard import UpdateGuard
from fromscratch.train.guard_config import GuardConfig
from fromscratch.train.recent import Recent, robust_z


def made(**thresholds) -> UpdateGuard:
    return UpdateGuard(GuardConfig(**thresholds), Recent({}, 200))


def test_the_guard_counts_refusals_in_a_row():
    guard = made(patience=3)
    for applied in [False, False, True, False, False]:
        guard.see(2.0, 1.0, applied=applied)
        assert not guard.at_its_end
    guard.see(2.0, 1.0, applied=False)
    assert guard.at_its_end


def test_the_guard_goes_on_counting_after_a_resume():
    guard = UpdateGuard(GuardConfig(patience=3), Recent({}, 200), in_a_row=2)
    guard.see(2.0, 1.0, applied=False)
    assert guard.at_its_end


@pytest.mark.parametrize(
    ("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, math.inf)]
)
def test_what_is_not_finite_is_refused_whatever_the_thresholds(loss, norm):
    assert made().objection(1, loss, norm) is not None


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=60), st.floats(-100, 100))
def test_robust_z_is_what_numpy_makes_of_it(sample, value):
    centre = np.median(sample)
    spread = 1.4826 * np.median(np.abs(np.array(sample) - centre))
    expected = (value - centre) / max(spread, 0.5)
    assert robust_z(value, sample, least_scale=0.5) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def fed(guard: UpdateGuard, n: int, seed: int = 0) -> UpdateGuard:
    """Losses of 3 with a deviation of 0.05; norms that vary by a fifth."""
    draw = np.random.default_rng(seed)
    for _ in range(n):
        guard.see(3 + 0.05 * draw.normal(), math.exp(0.2 * draw.normal()), applied=True)
    return guard


def test_a_spike_is_refused_where_it_is_switched_on_and_the_warmup_is_over():
    guard = fed(made(spike_z=8, spike_window=50, spike_from_step=60), 50)
    assert guard.objection(59, 30.0, 1.0) is None
    assert "loss 30" in guard.objection(60, 30.0, 1.0)
    assert "gradient norm 40" in guard.objection(60, 3.0, 40.0)
    assert guard.objection(60, 3.1, 1.5) is None
    assert guard.objection(60, 0.5, 0.01) is None, "down is no spike"
    assert fed(made(spike_window=50, spike_from_step=1), 50).objection(60, 30.0, 40.0) is None
    few = fed(made(spike_z=8, spike_window=50, spike_from_step=1), 24)
    assert few.objection(60, 30.0, 40.0) is None


def test_spikes_that_were_refused_do_not_make_the_next_one_ordinary():
    guard = fed(made(spike_z=8, spike_window=50, spike_from_step=1), 50)
    for _ in range(60):
        assert guard.objection(60, 5.0, 1.0) is not None
        guard.see(5.0, 1.0, applied=False)


def test_healthy_noise_is_no_spike():
    """A falling loss with heavier noise than a normal one's; none of 5,000 steps is refused."""
    guard = made(spike_z=8, spike_window=100, spike_from_step=1)
    draw = np.random.default_rng(3)
    for step in range(1, 5001):
        loss = 3 + 6 / (1 + step / 50) + 0.1 * draw.standard_t(8)
        norm = math.exp(0.3 * draw.standard_t(8))
        assert guard.objection(step, loss, norm) is None, step
        guard.see(loss, norm, applied=True)


def test_the_memory_is_all_that_a_verdict_depends_on():
    """It goes through JSON as a checkpoint does, and judges the same to the last bit."""
    config = GuardConfig(spike_z=4, spike_window=50, spike_from_step=1)
    memory: dict[str, object] = {}
    guard = fed(UpdateGuard(config, Recent(memory, 200)), 300)
    assert len(guard.recent.losses) == 200
    again = UpdateGuard(config, Recent(json.loads(json.dumps(memory)), 200))
    for loss in np.linspace(2.8, 3.6, 81):
        assert guard.objection(999, loss, 1.0) == again.objection(999, loss, 1.0)
