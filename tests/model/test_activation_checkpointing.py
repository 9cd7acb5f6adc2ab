"""Activation checkpointing: the same gradients from much less memory."""

import pytest
import torch
import torch.nn.functional as F

from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT

SHAPE = {"n_layer": 4, "n_head": 4, "d_model": 64, "context": 32, "vocab_size": 97}


def run(family: str, *, checkpointing: bool, dropout: float, packed: bool, half: bool):
    """Loss, gradients, and the bytes that autograd kept for the backward pass of the blocks."""
    model = GPT(ModelConfig(family=family, dropout=dropout, **SHAPE), seed=2).train()
    model.activation_checkpointing = checkpointing
    ids = torch.randint(0, 97, (4, 32), generator=torch.Generator().manual_seed(0))
    segments = (torch.arange(32) >= 11).long().expand(4, 32) if packed else None
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(5)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            hidden = model.hidden(ids, segments=segments)
        loss = F.cross_entropy(model.logits(hidden).flatten(0, 1).float(), ids.flatten())
    loss.backward()
    after = torch.rand(3)  # the generator must stand where it stood
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return loss.detach(), gradients, sum(kept.values()), after


@pytest.mark.parametrize("family", ["gpt2", "modern"])
@pytest.mark.parametrize(
    ("dropout", "packed", "half"), [(0.0, False, False), (0.3, True, False), (0.3, False, True)]
)
def test_gradients_are_the_same_to_the_bit_and_memory_is_less(family, dropout, packed, half):
    options = {"dropout": dropout, "packed": packed, "half": half}
    loss, gradients, kept, after = run(family, checkpointing=True, **options)
    plain, expected, whole, before = run(family, checkpointing=False, **options)
    assert torch.equal(loss, plain)
    assert all(torch.equal(gradients[name], expected[name]) for name in expected)
    assert torch.equal(after, before)
    assert kept < 0.35 * whole


def test_it_is_no_part_of_the_model_and_nothing_outside_training():
    model = GPT(ModelConfig(family="modern", **SHAPE), seed=2)
    ids = torch.zeros(1, 8, dtype=torch.long)
    expected = model.eval()(ids)
    keys = list(model.state_dict())
    model.activation_checkpointing = True
    assert list(model.state_dict()) == keys
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    model.blocks[0].register_forward_pre_hook(count)
    assert torch.equal(model.eval()(ids), expected)
    with torch.no_grad():
        assert torch.equal(model.train()(ids), expected)
    assert calls == 2
    model.train()(ids)[..., :97].sum().backward()
    assert calls == 4, "training computes each block again"
