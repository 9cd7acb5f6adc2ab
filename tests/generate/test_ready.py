"""Models made ready: eight bits against float64 arithmetic on the same integers."""

from __future__ import annotations

import math

import pytest
import torch

from fromscratch.foundation.errors import UserError
from fromscratch.generate.engine import generate_ids
from fromscratch.generate.ready import make_ready, quantize
from fromscratch.generate.sampling import SamplingOptions
from fromscratch.model import int8
from fromscratch.model.config import ModelConfig
from fromscratch.model.cross_entropy import token_losses
from fromscratch.model.gpt import GPT

SHAPE = {"n_layer": 2, "n_head": 4, "d_model": 32, "context": 24, "vocab_size": 61}
KINDS = [
    {"family": "gpt2"},
    {"family": "gpt2", "tie_embeddings": False, "head_bias": True, "extra_attn_proj": True},
    {"family": "gpt2", "positions": "sinusoidal", "norm_placement": "post", "logit_softcap": 9.0},
    {"family": "modern", "n_kv_head": 2},
]
GREEDY = SamplingOptions(temperature=0.0)
needs_int8 = pytest.mark.skipif(not int8.is_supported(), reason="torch has no FBGEMM here")


def build(kind: dict[str, object]) -> GPT:
    return GPT(ModelConfig(**(SHAPE | kind), padded_vocab=64, init="normal", init_std=0.2), seed=3)


@needs_int8
@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_a_product_is_that_of_the_nearest_integers(rows: int, bias: bool):
    generator = torch.Generator().manual_seed(rows)
    weight = torch.randn(48, 40, generator=generator)
    added = torch.randn(48, generator=generator) if bias else None
    x = torch.randn(rows, 40, generator=generator) * torch.arange(1, rows + 1)[:, None]
    out = int8.Int8Linear(weight, added)(x)
    # The same in float64: the integers of weights and inputs, each with its scale.
    w_scale = weight.double().abs().amax(1) / 127
    x_scale = x.double().abs().amax(1) / (127 if torch.cpu._is_vnni_supported() else 63)
    w = (weight.double() / w_scale[:, None]).round()
    products = (x.double() / x_scale[:, None]).round() @ w.T
    expected = products * x_scale[:, None] * w_scale + (0 if added is None else added.double())
    # A quotient on the border between two integers may fall to either.
    step = (x_scale[:, None] * w_scale * 127).max().item()
    torch.testing.assert_close(out.double(), expected, atol=1.01 * step, rtol=0)
    assert (out.double() - expected).abs().median() < 1e-4 * expected.abs().max()
    torch.testing.assert_close(
        out, x @ weight.T + (0 if added is None else added), atol=1.5, rtol=0.1
    )


@needs_int8
@torch.no_grad()
def test_a_row_does_not_depend_on_the_rows_beside_it():
    layer = int8.Int8Linear(torch.randn(32, 16), torch.randn(32))
    x = torch.randn(6, 16) * torch.tensor([1e-3, 1.0, 50.0, 0.0, 2.0, 1e4])[:, None]
    whole = layer(x)
    for rows in ([0, 1], [2, 3, 4], [5, 0, 2]):
        assert torch.equal(layer(x[rows]), whole[rows])
    assert torch.equal(whole[3], layer.bias)
    assert torch.equal(layer(x[3:4])[0], layer.bias)


@needs_int8
@pytest.mark.parametrize("kind", KINDS, ids=str)
@torch.inference_mode()
def test_a_quantised_model_says_nearly_the_same(kind: dict[str, object]):
    model = build(kind).eval()
    ids = torch.randint(0, 61, (4, 24), generator=torch.Generator().manual_seed(0))
    before = model(ids)[..., :61].log_softmax(-1)
    assert quantize(model, "int8") is model
    after = model(ids)
    assert (after[..., 61:] == -torch.inf).all()
    after = after[..., :61].log_softmax(-1)
    differences = (before - after).abs()
    assert 0 < differences.mean() < 0.05
    assert not [p for p in model.parameters() if p.dim() == 2 and p.shape[0] in (96, 128, 32)]
    # What evaluation reads off it is the same model.
    losses = token_losses(model.output, model.hidden(ids)[0, :-1], ids[0, 1:], ignore=-1)
    expected = -after[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
    torch.testing.assert_close(losses, expected, atol=1e-4, rtol=1e-4)


@needs_int8
@torch.inference_mode()
def test_a_quantised_model_generates_the_same_cached_and_not():
    model = quantize(build({"family": "modern"}).eval(), "int8")
    ids = list(generate_ids(model, [1, 2, 3], max_new_tokens=20, options=GREEDY))
    text = [1, 2, 3]
    for _ in range(20):
        text.append(int(model(torch.tensor([text]))[0, -1].argmax()))
    assert text[3:] == ids


@needs_int8
def test_what_cannot_be_quantised_is_refused():
    model = build({"family": "gpt2"}).eval()
    with pytest.raises(UserError, match=r'int3 is not a quantisation\. Did you mean "int8"\?'):
        quantize(model, "int3")
    with pytest.raises(UserError, match="float32 on a CPU"):
        quantize(build({"family": "gpt2"}).bfloat16(), "int8")
    quantize(model, "int8")
    with pytest.raises(UserError, match="already"):
        quantize(model, "int8")
    with pytest.raises(UserError, match="bfloat is not a type"):
        make_ready(model, dtype="bfloat")
    with pytest.raises(UserError, match="device"):
        make_ready(model, device="gpu0")


@pytest.mark.parametrize("kind", KINDS, ids=str)
@torch.inference_mode()
def test_sixteen_bits_say_nearly_the_same(kind: dict[str, object]):
    model = build(kind).eval()
    ids = torch.randint(0, 61, (2, 20), generator=torch.Generator().manual_seed(0))
    before = model(ids)[..., :61].log_softmax(-1)
    assert make_ready(model, device="cpu", dtype="bfloat16") is model
    after = model(ids)
    assert after.dtype == torch.bfloat16
    assert (after[..., :61].float().log_softmax(-1) - before).abs().mean() < 0.05
    ids = list(generate_ids(model, [5], max_new_tokens=30, options=GREEDY))
    assert len(ids) == 30
    assert math.isfinite(float(before.sum()))


def test_ready_is_float32_on_a_cpu():
    model = make_ready(build({"family": "modern"}).eval(), device="cpu")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.position_table.dtype == torch.float32
