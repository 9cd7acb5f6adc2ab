"""Attention against the textbook, spelled out in float64."""

import math

import pytest
import torch

from fromscratch.model.attention import Attention, AttentionInputs
from fromscratch.model.config import ModelConfig
from fromscratch.model.positions import rope_table


def config(**options):
    shape = {"n_layer": 1, "n_head": 4, "d_model": 24, "context": 10, "vocab_size": 5}
    plain = {"family": "gpt2", "positions": "sinusoidal"}
    return ModelConfig(**(shape | plain | options))


def attention(config):
    torch.manual_seed(3)
    module = Attention(config, layer=0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return module.eval()


def rms(x, weight, eps):
    return x / (x.square().mean() + eps).sqrt() * weight


def turn(x, position, theta):
    """RoPE as complex numbers: pair (i, i + hd/2) is turned by position * theta^(-2i/hd)."""
    half = len(x) // 2
    angle = position * theta ** (-torch.arange(half, dtype=torch.float64) / half)
    turned = torch.complex(x[:half], x[half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat((turned.real, turned.imag))


def reference(module, config, x, may_look, rope=False):
    """Attention query by query, key by key. x: (T, C) float64; may_look[t][s]: t looks at s."""
    weights = {name: p.detach().double() for name, p in module.named_parameters()}
    hd, group = config.head_dim, config.n_head // config.n_kv_head
    projected = x @ weights["qkv.weight"].T + weights.get("qkv.bias", 0)
    q, k, v = projected.split([config.n_head * hd, *[config.n_kv_head * hd] * 2], dim=1)
    heads = []
    for head in range(config.n_head):
        mine, shared = slice(head * hd, head * hd + hd), head // group
        theirs = slice(shared * hd, shared * hd + hd)
        queries, keys = list(q[:, mine]), list(k[:, theirs])
        if config.qk_norm:
            queries = [rms(u, weights["q_norm.weight"], config.norm_eps) for u in queries]
            keys = [rms(u, weights["k_norm.weight"], config.norm_eps) for u in keys]
        if rope:
            queries = [turn(u, t, config.rope_theta) for t, u in enumerate(queries)]
            keys = [turn(u, t, config.rope_theta) for t, u in enumerate(keys)]
        rows = []
        for t, query in enumerate(queries):
            seen = [s for s in range(len(x)) if may_look[t][s]]
            scores = torch.stack([query @ keys[s] / math.sqrt(hd) for s in seen]).exp()
            shares = scores / scores.sum()
            rows.append(sum(p * v[s, theirs] for p, s in zip(shares, seen, strict=True)))
        heads.append(torch.stack(rows))
    y = torch.cat(heads, dim=1) @ weights["out.weight"].T + weights.get("out.bias", 0)
    if config.extra_attn_proj:
        y = y @ weights["extra.weight"].T + weights.get("extra.bias", 0)
    return y


def random_input(config, length):
    return torch.randn(2, length, config.d_model, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("length", [1, 2, 10])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_kv_head": 2},
        {"n_kv_head": 1, "head_dim": 10},
        {"n_head": 1},
        {"qkv_bias": False, "attn_out_bias": False},
        {"qk_norm": True, "n_kv_head": 2},
        {"extra_attn_proj": True},
        {"dropout": 0.5},  # none of it in evaluation mode
    ],
    ids=str,
)
def test_causal_attention_equals_the_float64_loop(options, length):
    shape = config(**options)
    module, x = attention(shape), random_input(shape, length)
    causal = torch.ones(length, length).tril().bool()
    y = module(x, AttentionInputs())
    for row, out in zip(x, y, strict=True):
        expected = reference(module, shape, row.double(), causal)
        torch.testing.assert_close(out.double(), expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("n_kv_head", [4, 2])
def test_masked_attention_equals_the_float64_loop(n_kv_head):
    shape = config(n_kv_head=n_kv_head)
    module, x = attention(shape), random_input(shape, 10)
    causal = torch.ones(10, 10).tril()
    masks = [torch.block_diag(torch.ones(3, 3), torch.ones(1, 1), torch.ones(6, 6)) * causal,
             torch.block_diag(torch.ones(7, 7), torch.ones(3, 3)) * causal]  # fmt: skip
    mask = torch.stack(masks).bool()
    y = module(x, AttentionInputs(mask=mask[:, None]))
    for row, out, may_look in zip(x, y, mask, strict=True):
        expected = reference(module, shape, row.double(), may_look)
        torch.testing.assert_close(out.double(), expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"n_kv_head": 2, "head_dim": 8, "qk_norm": True}])
def test_rotary_attention_equals_complex_rotation(options):
    shape = config(rope_theta=50.0, **options)
    module, x = attention(shape), random_input(shape, 10)
    cos, sin = rope_table(10, shape.head_dim, shape.rope_theta, torch.device("cpu"))
    y = module(x, AttentionInputs(rope=(cos, sin)))
    causal = torch.ones(10, 10).tril().bool()
    for row, out in zip(x, y, strict=True):
        expected = reference(module, shape, row.double(), causal, rope=True)
        torch.testing.assert_close(out.double(), expected, atol=5e-6, rtol=1e-5)


def test_attention_dropout_acts_in_training_only():
    shape = config(dropout=0.5)
    module, x = attention(shape), random_input(shape, 10)
    module.resid_dropout.p = 0.0  # what is left is the dropout of attention weights
    assert torch.equal(module(x, AttentionInputs()), module(x, AttentionInputs()))
    module.train()
    assert not torch.equal(module(x, AttentionInputs()), module(x, AttentionInputs()))


def test_16_bit_queries_are_normed_by_a_fused_kernel_under_autocast(recwarn):
    """PyTorch warns, and runs several times slower, when input and weight differ in dtype."""
    module = attention(config(qk_norm=True))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        module(random_input(config(), 10), AttentionInputs())
    assert not [w for w in recwarn if "fused" in str(w.message)]
