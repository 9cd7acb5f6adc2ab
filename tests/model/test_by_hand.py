"""Attention by hand on a CPU: the same numbers and gradients as torch's own operations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fromscratch.model import by_hand
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.model.positions import rope_table, rotate

EPS = 1e-6


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def by_torch(
    qkv: Tensor, weights: tuple[Tensor, Tensor], rope: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """What `normed_and_rotated` says, operation by operation."""
    (n_head, size), n_kv_head = weights[0].shape, len(weights[1])
    heads = qkv.unflatten(-1, (-1, size)).permute(2, 0, 1, 3)  # (heads, B, T, hd)
    q, k, v = heads.split((n_head, n_kv_head, n_kv_head))
    return (
        rotate(F.rms_norm(q, (size,), eps=EPS) * weights[0][:, None, None], *rope),
        rotate(F.rms_norm(k, (size,), eps=EPS) * weights[1][:, None, None], *rope),
        v,
    )


def rope(length: int, size: int) -> tuple[Tensor, Tensor]:
    cos, sin = rope_table(length, size, 10_000.0, torch.device("cpu")).double()
    return cos, sin


@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 5),
    kv=st.integers(1, 2),
    groups=st.integers(1, 3),
    half=st.integers(1, 4),
)
def test_normed_and_rotated_equals_torch_s_operations(
    batch: int, length: int, kv: int, groups: int, half: int
) -> None:
    n_head, size = kv * groups, 2 * half
    inputs = (
        drawn(batch, length, (n_head + 2 * kv) * size),
        drawn(n_head, size, seed=1),
        drawn(kv, size, seed=2),
    )
    angles = rope(length, size)
    ours = by_hand.normed_and_rotated(inputs[0], inputs[1:], angles, eps=EPS)
    theirs = by_torch(inputs[0], inputs[1:], angles)
    for mine, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, its)
    by_out = [torch.randn_like(its) for its in theirs]
    for mine, its in zip(
        torch.autograd.grad(ours, inputs, by_out),
        torch.autograd.grad(theirs, inputs, by_out),
        strict=True,
    ):
        torch.testing.assert_close(mine, its)


@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 7),
    n_head=st.integers(1, 3),
    size=st.integers(1, 5),
)
def test_short_attention_equals_torch_s(batch: int, length: int, n_head: int, size: int) -> None:
    q, k, v = (drawn(n_head, batch, length, size, seed=i) for i in range(3))
    ours = by_hand.short_attention(q, k, v)
    theirs = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(ours, theirs)
    by_out = torch.randn_like(ours)
    for mine, its in zip(
        torch.autograd.grad(ours, (q, k, v), by_out),
        torch.autograd.grad(theirs, (q, k, v), by_out),
        strict=True,
    ):
        torch.testing.assert_close(mine, its)


@pytest.mark.parametrize("family", ["gpt2", "modern"])
@pytest.mark.parametrize("length", [16, by_hand.SHORT + 8])
@pytest.mark.parametrize("n_kv_head", [4, 2])
def test_a_model_gives_the_same_with_and_without(
    family: str, length: int, n_kv_head: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ModelConfig.model_validate(
        {
            "family": family, "n_layer": 2, "n_head": 4, "n_kv_head": n_kv_head, "d_model": 32,
            "context": length, "vocab_size": 50, "dropout": 0.0,
        }
    )  # fmt: skip
    model = GPT(config, seed=1).train()
    ids = torch.randint(0, 50, (2, length), generator=torch.Generator().manual_seed(0))

    def run() -> list[Tensor]:
        logits = model(ids)[..., :50]
        return [logits.detach(), *torch.autograd.grad(logits.square().mean(), model.parameters())]

    with_them = run()
    monkeypatch.setattr(by_hand, "suits", lambda x: False)
    for mine, its in zip(with_them, run(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-6)
