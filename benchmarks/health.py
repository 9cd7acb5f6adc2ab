"""What it costs to look at every layer, beside the steps that go by without.

A step with the look and one without are timed in turns in the same process, so that a busy machine
slows both; the cost at `train.health_every` = 50 is the difference of the medians over 50 steps.

    python benchmarks/health.py        # the `try` recipe, 6 layers of 384, GPT-2 124M at 1 x 1024
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch

from fromscratch.data.batches import Batch
from fromscratch.foundation.hardware import resolve_device
from fromscratch.foundation.schedules import StepSettings
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import build_optimizers
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.recipe_files import load_recipe
from fromscratch.train.health import HealthProbe
from fromscratch.train.objectives import next_token_loss
from fromscratch.train.step import train_step

EVERY = 50
SHAPES = {
    "try": ("try", []),
    "6 x 384, 8 x 256": (
        "minigpt-124m",
        ["model.n_layer=6", "model.n_head=6", "model.d_model=384", "model.d_ff=1536",
         "model.context=256", "train.tokens_per_step=2048", "train.micro_batch=8"],
    ),
    "GPT-2 124M, 1 x 1024": (
        "minigpt-124m", ["train.tokens_per_step=1024", "train.micro_batch=1"]
    ),
}  # fmt: skip


def steps_of(recipe: Recipe, device: torch.device) -> Callable[[bool], None]:
    """A function that makes one step, with or without the look."""
    model = GPT(recipe.model).to(device).train()
    optimizers = build_optimizers(model, recipe.optim)
    probe = HealthProbe(model, optimizers)
    draw = torch.Generator().manual_seed(0)
    size, context = recipe.train.micro_batch, recipe.model.context
    batches = []
    for _ in range(recipe.samples_per_step // size):
        ids = torch.randint(recipe.model.vocab_size, (size, context + 1), generator=draw)
        batches.append(Batch(ids[:, :-1], ids[:, 1:]))

    def step(look: bool) -> None:
        outcome = train_step(
            model, next_token_loss, optimizers, batches,
            settings=StepSettings(lr=0.1, clip=1.0),
            around_update=probe.around_update if look else nullcontext,
        )  # fmt: skip
        assert outcome is not None
        if look:
            probe.result(1, outcome.grad_norm, batches[0], nullcontext)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def main() -> None:
    """Prints a line for each shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--shape", choices=list(SHAPES), action="append")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    print(f"{'shape':24}{'step':>10}{'with':>10}{'every 50':>10}")
    for name in arguments.shape or SHAPES:
        step = steps_of(load_recipe(SHAPES[name][0], SHAPES[name][1]), device)
        step(True)
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(arguments.repeats):
            for look in (False, True):
                begin = time.perf_counter()
                step(look)
                seconds[look].append(time.perf_counter() - begin)
        plain, looked = (statistics.median(seconds[look]) for look in (False, True))
        cost = (looked - plain) / (EVERY * plain)
        print(f"{name:24}{plain:9.3f}s{looked:9.3f}s{cost:10.2%}")


if __name__ == "__main__":
    main()
