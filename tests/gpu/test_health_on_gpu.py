"""What is measured on a GPU is what is measured on a CPU, and the weights do not notice."""

from contextlib import nullcontext

import pytest
import torch

from fromscratch.data.batches import Batch
from fromscratch.foundation.schedules import StepSettings
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import build_optimizers
from fromscratch.optim.config import OptimConfig
from fromscratch.track.tracker import HealthResult
from fromscratch.train.health import HealthProbe
from fromscratch.train.objectives import next_token_loss
from fromscratch.train.step import train_step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]


def trained(device: str, *, look: bool, steps: int = 5) -> tuple[GPT, list[HealthResult]]:
    config = ModelConfig(
        family="modern", n_layer=3, n_head=4, d_model=64, context=64, vocab_size=101
    )
    model = GPT(config, seed=1).to(device).train()
    optimizers = build_optimizers(model, OptimConfig(name="muon", lr=0.003))
    probe = HealthProbe(model, optimizers)
    draw = torch.Generator().manual_seed(0)
    found = []
    for step in range(1, steps + 1):
        ids = torch.randint(0, 101, (4, 65), generator=draw)
        batch = Batch(ids[:, :-1], ids[:, 1:])
        outcome = train_step(
            model, next_token_loss, optimizers, [batch], settings=StepSettings(clip=1.0),
            around_update=probe.around_update if look else nullcontext,
        )  # fmt: skip
        assert outcome is not None
        result = probe.result(step, outcome.grad_norm, batch, nullcontext)
        if result is not None:
            found.append(result)
    return model, found


def test_the_numbers_are_those_of_the_cpu():
    _, ours = trained("cuda", look=True, steps=1)
    _, theirs = trained("cpu", look=True, steps=1)
    for part, row in theirs[0].parts.items():
        for key, value in row.items():
            assert ours[0].parts[part][key] == pytest.approx(value, rel=0.05, abs=1e-6), (part, key)


def test_weights_and_random_numbers_do_not_notice():
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.cuda.manual_seed(3)
    plain, none = trained("cuda", look=False)
    state = torch.cuda.get_rng_state()
    torch.cuda.manual_seed(3)
    probed, rows = trained("cuda", look=True)
    assert len(rows) == 5
    assert not none
    assert torch.equal(state, torch.cuda.get_rng_state())
    for name, value in plain.state_dict().items():
        assert torch.equal(probed.state_dict()[name], value), name
