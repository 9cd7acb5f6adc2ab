"""On a GPU: the copy that a checkpoint is written from is of one step, and page-locked."""

import pytest
import torch

from fromscratch.checkpoint.host_copy import HostCopy
from fromscratch.checkpoint.state import Progress, TrainState
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import build_optimizers
from fromscratch.optim.config import OptimConfig
from fromscratch.tokenizer.build import bytes_tokenizer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def state_of(seed: int) -> TrainState:
    config = ModelConfig(
        family="gpt2", n_layer=4, n_head=8, d_model=512, context=64, vocab_size=257
    )
    model = GPT(config, seed=seed).cuda().train()
    optimizers = build_optimizers(model, OptimConfig(name="adamw", lr=0.01))
    return TrainState(model, optimizers, bytes_tokenizer(), "", Progress(7, "d", "t", "r"))


def advance(state: TrainState) -> None:
    ids = torch.arange(64, device="cuda")[None]
    state.model(ids)[..., :257].float().logsumexp(-1).sum().backward()
    state.optimizers.step()
    state.optimizers.zero_grad()


def everything(state: TrainState) -> dict[str, torch.Tensor]:
    return state.model.state_dict() | state.optimizers.state()


def test_the_copy_is_of_the_step_though_updates_are_queued_behind_it(tmp_path):
    state, copy = state_of(0), HostCopy()
    for _ in range(3):
        advance(state)
        expected = {name: t.clone() for name, t in everything(state).items()}
        snapshot = copy.take(state.now())
        for _ in range(3):
            advance(state)
        copied = dict(snapshot.weights) | dict(snapshot.optimizer)
        assert copied.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.equal(copied[name], tensor.cpu()), name
            assert copied[name].is_pinned() or not tensor.is_cuda
    assert copy.missing_bytes(state.now()) == 0
    snapshot.write(tmp_path)
    other = state_of(1)
    advance(other)
    other.read(tmp_path)
    for name, tensor in everything(other).items():
        assert tensor.device == everything(state)[name].device
        assert torch.equal(tensor, expected[name]), name


def test_a_state_on_a_gpu_is_written_without_a_copy_of_all_of_it(tmp_path):
    state = state_of(0)
    advance(state)
    state.write(tmp_path)
    other = state_of(1)
    other.read(tmp_path)
    for name, tensor in everything(state).items():
        assert torch.equal(everything(other)[name], tensor), name
