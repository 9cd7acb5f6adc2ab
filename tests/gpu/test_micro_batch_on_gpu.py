"""What only a GPU can show: memory against its estimate, and the largest batch that fits."""

import json
from pathlib import Path

import pytest
import torch

from fromscratch.foundation.hardware import available_memory, peak_flops, precisions_of
from fromscratch.plan.memory import divisors, step_memory
from fromscratch.runs.climb import best_of, climb
from fromscratch.runs.recipe_files import load_recipe
from fromscratch.runs.trials import Trials

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize(
    ("name", "micro_batch"), [("rtx3090-163m", 6), ("modern-124m", 8), ("minigpt-124m", 8)]
)
def test_a_step_takes_the_memory_that_plan_estimates(name: str, micro_batch: int, tmp_path: Path):
    recipe = load_recipe(name, [f"train.micro_batch={micro_batch}"])
    half = "bf16" in precisions_of(torch.device("cuda"))
    with Trials(recipe, tmp_path / "scratch") as trials:
        trial = trials.attempt(micro_batch)
    assert trial.problem is None, trial.problem
    estimate = step_memory(recipe.model, recipe.optim, micro_batch=micro_batch, half=half).total
    assert trial.peak_bytes == pytest.approx(estimate, rel=0.15)
    if name == "rtx3090-163m" and half:
        assert trial.peak_bytes <= 8 * 2**30


def test_the_largest_that_fits_is_found_and_all_memory_given_back(tmp_path: Path):
    before = available_memory(torch.device("cuda"))
    room = min(before, 6 * 2**30)
    recipe = load_recipe("minigpt-124m")
    with Trials(recipe, tmp_path / "scratch", allowed=room) as trials:
        made = climb(divisors(recipe.samples_per_step), trials.attempt, lambda _: False)
        chosen = best_of(made, largest=True)
    assert chosen is not None
    assert chosen.peak_bytes <= room
    failed = [t.micro_batch for t in made if t.out_of_memory]
    assert failed
    assert min(failed) > chosen.micro_batch
    assert available_memory(torch.device("cuda")) > before - 2**28


def test_real_out_of_memory_is_an_answer_and_not_the_end(tmp_path: Path):
    recipe = load_recipe("minigpt-124m", ["train.tokens_per_step=1_073_741_824", "train.steps=1"])
    with Trials(recipe, tmp_path / "scratch") as trials:
        large = trials.attempt(2**16)
        assert large.out_of_memory, json.dumps(large.problem)
        assert trials.attempt(1).problem is None


def test_a_measured_peak_is_near_the_data_sheet():
    device = torch.device("cuda")
    for precision in precisions_of(device):
        peak = peak_flops(device, precision)
        assert 1e12 < peak.flops < 1e16
