"""The linear layer that chooses its library, against float64."""

import pytest
import torch
from torch import nn

from fromscratch.model import linear
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.model.linear import Linear, suits_onednn


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(64,), (2, 96), (3, 5, 40), (7,), (1, 1)])
def test_result_and_gradients(shape, bias):
    torch.manual_seed(0)
    layer = Linear(24, 36, bias=bias)
    exact = nn.Linear(24, 36, bias=bias, dtype=torch.float64)
    exact.load_state_dict(layer.state_dict())
    x = torch.randn(*shape, 24, requires_grad=True)
    x64 = x.detach().double().requires_grad_()
    out, wanted = layer(x), exact(x64)
    by_out = torch.randn_like(out)
    out.backward(by_out)
    wanted.backward(by_out.double())
    torch.testing.assert_close(out.double(), wanted, rtol=1e-5, atol=1e-5)
    assert x.grad is not None
    torch.testing.assert_close(x.grad.double(), x64.grad, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(layer.parameters(), exact.parameters(), strict=True):
        assert ours.grad is not None
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-5, atol=1e-4)


def test_strided_inputs_and_frozen_weights():
    torch.manual_seed(0)
    layer = Linear(24, 36).requires_grad_(False)
    x = torch.randn(24, 100, requires_grad=True)
    layer(x.mT).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0)[:, None].expand(24, 100).contiguous())
    assert layer.weight.grad is None


def test_only_many_rows_of_float32_on_a_cpu_go_to_onednn():
    many = torch.randn(100, 24)
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    assert suits_onednn(many)
    assert not suits_onednn(many[:10])
    assert not suits_onednn(many.double())
    assert not suits_onednn(many.to("meta"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not suits_onednn(many)
        assert Linear(24, 36)(many).dtype == torch.bfloat16


def test_it_is_saved_as_any_linear_layer():
    assert list(Linear(3, 4).state_dict()) == list(nn.Linear(3, 4).state_dict())


@pytest.mark.parametrize("family", ["gpt2", "modern"])
def test_an_activation_is_computed_again_instead_of_kept(family):
    """The same gradients as in float64, where everything is kept; fewer bytes kept."""
    config = ModelConfig(family=family, n_layer=2, n_head=2, d_model=64, context=96, vocab_size=40)
    model, exact = GPT(config, seed=2).train(), GPT(config, seed=2).double()
    ids = torch.arange(96).reshape(1, 96) % 40
    kept: dict[int, int] = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = model.hidden(ids)
    activated = 96 * config.d_ff * 4
    parameters = sum(p.numel() * 4 for p in model.parameters())
    plain = dict(kept)
    direction = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(1))
    (hidden * direction).sum().backward()
    (exact.hidden(ids) * direction).sum().backward()
    for (name, ours), theirs in zip(model.named_parameters(), exact.parameters(), strict=True):
        if theirs.grad is None:  # a head of its own had no part in this
            continue
        scale = float(theirs.grad.abs().max())
        torch.testing.assert_close(
            ours.grad.double(), theirs.grad, rtol=1e-3, atol=1e-5 * scale, msg=name
        )
    kept.clear()
    with (
        pytest.MonkeyPatch.context() as patch,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        patch.setattr(linear, "suits_onednn", lambda x: False)
        model.hidden(ids)
    saving = sum(kept.values()) - sum(plain.values())
    assert saving >= config.n_layer * activated, (saving, activated, parameters)
