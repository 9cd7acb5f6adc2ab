"""What building a batch costs beside the training step that it feeds.

Both are timed in turns in the same process, so that a busy machine slows both; medians. The text
is random ids in shards on disk: a batch does not care what it reads.

    python benchmarks/batches.py            # the `try` recipe, then GPT-2 124M's step of 512 x 1024
    python benchmarks/batches.py --windows 10_000_000   # and the order of a scheduled mixture
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from fromscratch.data.batches import TrainingData, TrainingSource, Windows
from fromscratch.data.mixture import Mixture
from fromscratch.data.shards import Shard, TokenStream
from fromscratch.data.shares import Stage
from fromscratch.foundation.names import documents_file, shard_file
from fromscratch.foundation.schedules import StepSettings
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import build_optimizers
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.recipe_files import load_recipe
from fromscratch.train.objectives import next_token_loss
from fromscratch.train.step import train_step


def stream(folder: Path, tokens: list[int], vocab_size: int, seed: int) -> TokenStream:
    """Shards of random ids."""
    folder.mkdir()
    draw = np.random.default_rng(seed)
    shards = []
    for index, n in enumerate(tokens):
        name = shard_file("train", index)
        np.save(folder / name, draw.integers(0, vocab_size, n).astype(np.uint16))
        shards.append(Shard(name, documents_file("train", index), "train", "made", n, 1, 0, ""))
    return TokenStream(folder, shards)


def training_data(recipe: Recipe, folder: Path, *, mixed: bool) -> TrainingData:
    """One source of 2.4M tokens in two shards, or three of them whose shares change."""
    context, vocab = recipe.model.context, 4096
    folder.mkdir()
    sources = [
        TrainingSource(
            name, weight, Windows(stream(folder / name, [1_200_000] * 2, vocab, i), context), name
        )
        for i, (name, weight) in enumerate(
            [("a", 50.0), ("b", 30.0), ("c", 20.0)] if mixed else [("only", 1.0)]
        )
    ]
    stages = (Stage(2_000.0, (10.0, 40.0, 50.0), 30_000.0),) if mixed else ()
    return TrainingData(sources, seed=0, eot_id=None, stages=stages)


def seconds(work: Callable[[], object]) -> float:
    """How long it takes, once."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def beside_steps(recipe: Recipe, data: TrainingData, rounds: int) -> tuple[float, float]:
    """Median seconds of a batch (with what the log asks of the mixture) and of a training step."""
    model = GPT(recipe.model, seed=0)
    optimizers = build_optimizers(model, recipe.optim)
    n = recipe.samples_per_step
    batch_times, step_times = [], []
    for number in range(rounds + 3):
        first = number * n

        def build(first: int = first) -> None:
            data.micro_batches(first, n, recipe.train.micro_batch)
            data.epochs(first + n)
            if len(data.sources) > 1:
                data.drawn(first + n)
                data.wanted(first + n)

        batches = data.micro_batches(first, n, recipe.train.micro_batch)

        def train(batches: list = batches) -> None:
            train_step(model, next_token_loss, optimizers, batches, settings=StepSettings(clip=1.0))

        step_times.append(seconds(train))
        batch_times.append(seconds(build))
    return statistics.median(batch_times[3:]), statistics.median(step_times[3:])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--windows", type=int, default=0, help="of a scheduled mixture's order")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:
        recipe = load_recipe("try", ["model.vocab_size=4096"])
        for name, mixed in (("one source", False), ("three sources, blending", True)):
            data = training_data(recipe, Path(base, "try-" + name[:3]), mixed=mixed)
            batch, step = beside_steps(recipe, data, arguments.rounds)
            print(
                f"try ({recipe.samples_per_step} x {recipe.model.context}), {name}: batch "
                f"{1e3 * batch:.3f} ms, step {1e3 * step:.1f} ms: {batch / step:.2%}"
            )
        recipe = load_recipe("minigpt-124m", ["train.micro_batch=1"])
        n = recipe.samples_per_step
        for name, mixed in (("one source", False), ("three sources, blending", True)):
            data = training_data(recipe, Path(base, "gpt2-" + name[:3]), mixed=mixed)
            batch = statistics.median(
                seconds(lambda i=i, d=data: d.micro_batches(i * n, n, 8)) for i in range(9)
            )
            print(
                f"GPT-2 124M ({n} x {recipe.model.context}), {name}: batch {1e3 * batch:.1f} ms, "
                f"{recipe.train.tokens_per_step / batch / 1e6:.0f}M tokens/s"
            )
        batch = data.micro_batches(0, 1, 1)
        model = GPT(recipe.model, seed=0)
        optimizers = build_optimizers(model, recipe.optim)

        def one_window() -> None:
            train_step(model, next_token_loss, optimizers, batch, settings=StepSettings(clip=1.0))

        print(
            f"GPT-2 124M, one window of 512 forward and backward here: {seconds(one_window):.1f} s"
        )
    if arguments.windows:
        mixture = Mixture((50.0, 30.0, 20.0), (Stage(1e6, (10.0, 40.0, 50.0), 3e6),))
        took = seconds(lambda: mixture.drawn(arguments.windows))
        print(
            f"order of {arguments.windows:,} windows of a scheduled mixture: {took:.1f} s, "
            f"{1e6 * took / arguments.windows:.2f} microseconds a window"
        )


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
