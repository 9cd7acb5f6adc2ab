"""Warnings during a run: they come where there is something to warn of, and once."""

import json
import math

import numpy as np
import pytest

from fromscratch.track.tracker import HealthResult
from fromscratch.train.recent import Recent
from fromscratch.train.watch import TREND, Watch


class Run:
    """Feeds a watch with updates and collects the names of what it says."""

    def __init__(self, *, warmup_steps: int = 0) -> None:
        self.memory: dict[str, object] = {}
        self.warmup_steps = warmup_steps
        self.steps = 0
        self.said: list[tuple[int, str]] = []
        self.reopen()

    def reopen(self) -> None:
        """As after a kill: from what a checkpoint keeps."""
        self.memory = json.loads(json.dumps(self.memory))
        self.recent = Recent(self.memory, TREND)
        self.watch = Watch(self.memory, self.recent, warmup_steps=self.warmup_steps)

    def go(self, norms, *, clip: float = 0.0, lr_fraction: float = 1.0) -> list[str]:
        new = []
        for norm in norms:
            self.steps += 1
            self.recent.add(3.0, float(norm), clipped=bool(clip) and norm > clip)
            new += [
                s.name
                for s in self.watch.after_step(self.steps, lr_fraction=lr_fraction, clip=clip)
            ]
        return new


def noise(n: int, seed: int = 0):
    return np.exp(0.3 * np.random.default_rng(seed).standard_normal(n))


def rising(n: int = 400) -> np.ndarray:
    return noise(n) * np.exp(np.linspace(0, 3, n))


def test_a_rising_norm_is_told_once_also_across_a_kill():
    run = Run()
    assert run.go(0.5 * noise(300)) == []
    assert run.go(0.5 * rising()) == ["grad_norm_rises"]
    run.reopen()
    assert run.go(10 * rising()) == [], "it was said a short while ago"
    run.go(noise(1000))
    assert run.go(rising()) == ["grad_norm_rises"], "a new rise is news"


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_falling_norms_are_no_rise(seed):
    run = Run()
    falling = noise(4000, seed) * (1 + 10 * np.exp(-np.arange(4000) / 300))
    assert run.go(falling) == []
    single = noise(1000, seed)
    single[::97] *= 30
    assert run.go(single) == [], "spikes are not a trend"


def test_norms_that_rise_as_the_rate_falls_or_in_the_warmup_are_no_sign():
    assert Run().go(rising(), lr_fraction=0.5) == []
    assert Run(warmup_steps=400).go(rising()) == []


def test_gradients_that_are_all_clipped():
    assert Run().go(noise(500) * 0.3, clip=1.0) == []
    assert Run().go(noise(600) * 10, clip=1.0) == ["mostly_clipped"]
    assert Run().go(noise(900) * 10, clip=0.0) == []
    assert Run().go(noise(900) * 2, clip=1.0) == [], "a little above it, as many good runs are"


def health(step: int, **blocks: dict[str, float]) -> HealthResult:
    ordinary = {"grad_norm": 0.1, "param_norm": 10.0, "update_norm": 0.01, "update_ratio": 1e-3,
                "activation_std": 2.0}  # fmt: skip
    parts = {f"blocks.{i}": dict(ordinary) for i in range(4)}
    for name, numbers in blocks.items():
        parts[name.replace("_", ".")] |= numbers
    return HealthResult(step, parts, {})


def signs(trouble: dict[str, dict[str, float]], before: int = 5) -> list[str]:
    watch = Run().watch
    for row in range(before):
        assert watch.after_health(health(50 * row + 50)) == []
    found = watch.after_health(health(50 * before + 50, **trouble))
    assert watch.after_health(health(50 * before + 100, **trouble)) == [], "said twice"
    return [f"{sign.name}: {sign.message}" for sign in found]


def test_layers_that_are_as_they_were_say_nothing():
    assert signs({"blocks_1": {"grad_norm": 0.4, "activation_std": 6.0}}) == []


@pytest.mark.parametrize(
    ("numbers", "name"),
    [
        ({"grad_norm": 0.0}, "dead_layer"),
        ({"grad_norm": 5.0}, "exploding_gradient"),
        ({"activation_std": 100.0}, "exploding_activation"),
        ({"activation_std": math.nan}, "exploding_activation"),
        ({"activation_std": math.inf}, "exploding_activation"),
        ({"update_ratio": 0.9}, "far_update"),
    ],
)
def test_a_layer_that_is_not(numbers, name):
    (said,) = signs({"blocks_2": numbers})
    assert said.startswith(name)
    assert "blocks.2" in said


def test_several_layers_are_one_warning():
    (said,) = signs({f"blocks_{i}": {"grad_norm": 0.0} for i in range(4)})
    assert "blocks.0" in said
    assert "3 more" in said


def test_the_first_steps_of_a_head_that_starts_at_zero_are_not_dead_layers():
    watch = Run().watch
    assert watch.after_health(health(1, blocks_2={"grad_norm": 0.0})) == []
