"""The chunked head against torch's own cross-entropy of all logits at once, in float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from fromscratch.model import cross_entropy
from fromscratch.model.cross_entropy import (
    Head,
    summed_cross_entropy,
    target_log_probs,
    token_losses,
)

IGNORE = -100


def problem(n, width, vocab, padding, *, bias, softcap, seed, dtype=torch.float64):
    """Hidden states, a head, and targets of which some are none."""
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, width, generator=draw, dtype=dtype).requires_grad_()
    weight = torch.randn(vocab + padding, width, generator=draw, dtype=dtype).requires_grad_()
    offsets = torch.randn(vocab + padding, generator=draw, dtype=dtype).requires_grad_()
    targets = torch.randint(0, vocab, (n,), generator=draw)
    targets[torch.rand(n, generator=draw) < 0.3] = IGNORE
    return Head(weight, offsets if bias else None, vocab, softcap), hidden, targets


def reference(head, hidden, targets, reduction):
    """Without chunks and without any of the code under test."""
    logits = hidden @ head.weight.T + (0.0 if head.bias is None else head.bias)
    if head.softcap:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    return F.cross_entropy(
        logits[:, : head.vocab_size], targets, ignore_index=IGNORE, reduction=reduction
    )


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 40),
    width=st.integers(1, 9),
    vocab=st.integers(2, 30),
    padding=st.integers(0, 5),
    rows=st.integers(1, 50),
    bias=st.booleans(),
    softcap=st.sampled_from([0.0, 2.0, 15.0]),
    scale=st.sampled_from([1.0, 1 / 7, 1e3]),
    seed=st.integers(0, 2**31),
)
def test_equal_to_cross_entropy_of_all_logits(
    n, width, vocab, padding, rows, bias, softcap, scale, seed
):
    head, hidden, targets = problem(n, width, vocab, padding, bias=bias, softcap=softcap, seed=seed)
    leaves = [t for t in (hidden, head.weight, head.bias) if t is not None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_entropy, "CHUNK_BYTES", 4 * (vocab + padding) * rows)
        patch.setattr(cross_entropy, "_CACHED_BYTES", 4 * (vocab + padding) * 3)
        loss = summed_cross_entropy(head, hidden, targets, ignore=IGNORE)
        each = token_losses(head, hidden, targets, ignore=IGNORE)
        log_probs = target_log_probs(head, hidden, targets, ignore=IGNORE)
        # A function of them that is no sum: each has another gradient, and some have none.
        bent = torch.autograd.grad((log_probs.cos() * scale).sum(), leaves)
    gradients = torch.autograd.grad(loss * scale, leaves)
    expected = reference(head, hidden, targets, "sum")
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(each, reference(head, hidden, targets, "none").detach())
    wanted = torch.autograd.grad(expected * scale, leaves)
    for ours, theirs in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9 * scale)
    negative = -reference(head, hidden, targets, "none")
    torch.testing.assert_close(log_probs, negative, rtol=1e-12, atol=1e-12)
    wanted = torch.autograd.grad((negative.cos() * scale).sum(), leaves)
    for ours, theirs in zip(bent, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9 * scale)


@pytest.mark.parametrize("frozen", ["hidden", "weight", "both"])
def test_what_needs_no_gradient_gets_none(frozen):
    head, hidden, targets = problem(8, 4, 11, 2, bias=True, softcap=0.0, seed=1)
    if frozen in ("hidden", "both"):
        hidden.requires_grad_(False)
    if frozen in ("weight", "both"):
        head.weight.requires_grad_(False)
    summed_cross_entropy(head, hidden, targets, ignore=IGNORE).backward()
    assert (hidden.grad is None) == (frozen in ("hidden", "both"))
    assert (head.weight.grad is None) == (frozen in ("weight", "both"))
    assert head.bias is not None
    wanted = torch.autograd.grad(reference(head, hidden, targets, "sum"), head.bias)[0]
    torch.testing.assert_close(head.bias.grad, wanted)


def test_padding_gets_no_gradient():
    """R21: its logits take no probability, so its rows stay where they are."""
    head, hidden, targets = problem(8, 4, 11, 3, bias=True, softcap=5.0, seed=2)
    summed_cross_entropy(head, hidden, targets, ignore=IGNORE).backward()
    assert head.weight.grad is not None
    assert head.weight.grad[:11].abs().sum() > 0
    assert head.weight.grad[11:].abs().sum() == 0


def summed_log_probs(head, hidden, targets, *, ignore):
    """The same sum by way of each loss, whose gradients are computed on the way back."""
    return -target_log_probs(head, hidden, targets, ignore=ignore).sum()


@pytest.mark.parametrize("summed", [summed_cross_entropy, summed_log_probs])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_only_the_products_are_in_16_bits(dtype, summed):
    """As near to the float64 loss as torch's own cross-entropy under the same autocast."""
    head, hidden, targets = problem(
        200, 32, 500, 12, bias=False, softcap=0.0, seed=3, dtype=torch.float32
    )
    leaves = [hidden, head.weight]
    with torch.autocast("cpu", dtype=dtype):
        ours = summed(head, hidden, targets, ignore=IGNORE)
        theirs = F.cross_entropy(
            F.linear(hidden, head.weight)[:, :500].float(),
            targets,
            ignore_index=IGNORE,
            reduction="sum",
        )
    assert ours.dtype == torch.float32
    exact_leaves = [t.detach().double().requires_grad_() for t in leaves]
    exact = reference(Head(exact_leaves[1], None, 500, 0.0), exact_leaves[0], targets, "sum")
    assert abs(ours.item() - exact.item()) <= 2 * abs(theirs.item() - exact.item()) + 1e-3
    wanted = torch.autograd.grad(exact, exact_leaves)
    scale = 2.0**17  # more than fp16 holds: what its loss scale may come to
    got_scaled = torch.autograd.grad(ours * scale, leaves)
    for got, other, true in zip(
        [g / scale for g in got_scaled], torch.autograd.grad(theirs, leaves), wanted, strict=True
    ):
        error, usual = (got - true).norm(), (other - true).norm()
        assert got.dtype == torch.float32
        assert error <= 1.5 * usual


class Largest(TorchDispatchMode):
    """Remembers the most elements that any tensor had."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


@pytest.mark.parametrize("gradients", ["of the sum", "of each", "none"])
def test_all_logits_never_exist_at_once(gradients, monkeypatch):
    """The largest tensor of forward and backward is a chunk, or the head itself."""
    rows, width, vocab = 512, 8, 1000
    monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", 4 * vocab * 16)
    head, hidden, targets = problem(
        rows, width, vocab, 0, bias=True, softcap=3.0, seed=4, dtype=torch.float32
    )
    with Largest() as seen:
        if gradients == "of the sum":
            summed_cross_entropy(head, hidden, targets, ignore=IGNORE).backward()
        elif gradients == "of each":
            target_log_probs(head, hidden, targets, ignore=IGNORE).cos().sum().backward()
        else:
            token_losses(head, hidden, targets, ignore=IGNORE)
    assert seen.elements <= 16 * vocab
    with Largest() as seen:
        reference(head, hidden, targets, "sum")
    assert seen.elements == rows * vocab, "the test could not tell"


def test_it_cannot_be_differentiated_twice():
    """The gradients are handed out in place: a second time they would be wrong."""
    head, hidden, targets = problem(4, 3, 5, 0, bias=False, softcap=0.0, seed=5)
    loss = summed_cross_entropy(head, hidden, targets, ignore=IGNORE)
    loss.backward(retain_graph=True)
    with pytest.raises(AssertionError):
        loss.backward()
