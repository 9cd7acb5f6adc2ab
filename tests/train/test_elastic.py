"""Guarantee 2: the batch of a step, and the update made from it, do not depend on micro_batch."""

import numpy as np
import pytest
import torch
from tiny import double_loss, weights

from fromscratch.data.batches import TrainingData, TrainingSource, Windows
from fromscratch.data.shards import Shard, TokenStream
from fromscratch.foundation.schedules import StepSettings
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import build_optimizers
from fromscratch.optim.config import OptimConfig
from fromscratch.train.step import train_step

PER_STEP, CONTEXT = 12, 8


@pytest.fixture
def data(tmp_path) -> TrainingData:
    """Two sources whose last windows are short, mixed three to one."""
    sources = []
    for number, (length, weight) in enumerate([(203, 3.0), (101, 1.0)]):
        tokens = np.random.default_rng(number).integers(0, 23, length).astype(np.uint16)
        np.save(tmp_path / f"{number}.npy", tokens)
        shard = Shard(f"{number}.npy", "", "train", "", length, 1, length, "")
        windows = Windows(TokenStream(tmp_path, [shard]), CONTEXT)
        sources.append(TrainingSource(f"s{number}", weight, windows, f"f{number}"))
    return TrainingData(sources, seed=5, eot_id=0)


def micro_batches(data: TrainingData, step: int, size: int):
    first = step * PER_STEP
    return [data.batch(first + offset, size) for offset in range(0, PER_STEP, size)]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6])
def test_the_global_batch_is_the_same(data, size):
    for step in (0, 3, 17, 1000):
        (whole,) = micro_batches(data, step, PER_STEP)
        parts = micro_batches(data, step, size)
        for field in ("ids", "targets", "segments"):
            joined = torch.cat([getattr(part, field) for part in parts])
            assert torch.equal(joined, getattr(whole, field))


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_so_are_the_updates_over_several_epochs(data, name):
    def train(size: int):
        config = ModelConfig(
            family="modern", n_layer=1, n_head=2, d_model=16, context=CONTEXT, vocab_size=23
        )
        model = GPT(config, seed=1).double().train()
        optimizers = build_optimizers(model, OptimConfig(name=name, lr=0.003))
        losses = [
            train_step(
                model, double_loss, optimizers, micro_batches(data, step, size),
                settings=StepSettings(clip=1.0),
            ).loss
            for step in range(8)
        ]  # fmt: skip
        return losses, weights(model)

    losses, expected = train(PER_STEP)
    assert data.epochs(8 * PER_STEP)["s0"] > 2
    tolerance = 1e-4 if name == "muon" else 1e-8  # its iteration is in float32
    for size in (1, 3, 4):
        ours, found = train(size)
        assert ours == pytest.approx(losses, rel=tolerance)
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=0, atol=tolerance)
