"""Compiled blocks: the same numbers, compiled once, and never a reason for a run to fail."""

import pytest
import torch
from torch._dynamo.utils import counters

from fromscratch.data.batches import Batch
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT, call_block
from fromscratch.optim.build import build_optimizers
from fromscratch.optim.config import OptimConfig
from fromscratch.optim.run_settings import StepSettings
from fromscratch.train.compiled import compile_blocks, wants_compiling
from fromscratch.train.objectives import next_token_loss
from fromscratch.train.step import train_step


@pytest.fixture(autouse=True)
def _afresh():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def model_of(family="modern", **settings) -> GPT:
    config = ModelConfig(
        family=family, n_layer=4, n_head=2, d_model=32, context=16, vocab_size=50, **settings
    )
    return GPT(config, seed=1).train()


def batch_of(n: int, seed: int) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 50, (n, 17), generator=draw)
    return Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())


def train(model: GPT, steps: int) -> list[float]:
    optimizers = build_optimizers(model, OptimConfig(name="muon"))
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        batches = [batch_of(4, 2 * step), batch_of(4, 2 * step + 1)]
        outcome = train_step(
            model, next_token_loss, optimizers, batches, settings=StepSettings(clip=1.0)
        )
        losses.append(outcome.loss)
    return losses


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt2", "modern"])
def test_the_same_losses_and_one_compilation_for_all_blocks(family):
    """R41: training, validation, samples and another session add none to the first one's."""
    plain, ours = model_of(family), model_of(family)
    before = {name: p.clone() for name, p in ours.named_parameters()}
    torch.manual_seed(5)
    expected_draw = torch.rand(3)
    torch.manual_seed(5)
    assert compile_blocks(ours, 4) is None
    assert torch.equal(torch.rand(3), expected_draw), "randomness was disturbed"
    for name, parameter in ours.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None
    assert counters["stats"]["unique_graphs"] == 1
    assert train(ours, 3) == pytest.approx(train(plain, 3), rel=1e-5)
    for length in (1, 3, 7):  # as generation does, on the plain module
        ours.eval()
        with torch.inference_mode():
            ours(torch.zeros(1, length, dtype=torch.int64))
        ours.train()
    train(ours, 2)
    resumed = model_of(family)
    resumed.load_state_dict(ours.state_dict())
    assert compile_blocks(resumed, 4) is None
    train(resumed, 2)
    assert counters["stats"]["unique_graphs"] <= 2, "the second is the resumed model's"


def test_evaluation_does_not_compile():
    model = model_of()

    def refuse(*_):
        raise AssertionError("the training path was taken")

    model.block_call = refuse
    model.eval()
    model(torch.zeros(1, 4, dtype=torch.int64))
    model.train()
    with pytest.raises(AssertionError):
        model(torch.zeros(1, 4, dtype=torch.int64))


def test_without_a_compiler_the_run_goes_on():
    """As on a machine that has none: said in one line, and the blocks run as they are."""
    from torch._inductor import config

    model = model_of()
    with config.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}):
        reason = compile_blocks(model, 4)
    assert reason is not None
    assert "\n" not in reason
    assert model.block_call is call_block
    assert train(model, 1) == train(model_of(), 1)


@pytest.mark.parametrize(("device", "expected"), [("cuda", True), ("cpu", False), ("mps", False)])
def test_it_is_left_out_where_it_does_not_pay(device, expected):
    assert wants_compiling("auto", torch.device(device)) == expected
    assert wants_compiling(True, torch.device(device))
    assert not wants_compiling(False, torch.device(device))
