"""Products of a few rows against float64, and when they are used."""

from __future__ import annotations

import pytest
import torch

from fromscratch.model import few_rows
from fromscratch.model.linear import Linear

pytestmark = pytest.mark.skipif(not few_rows.is_available("cpu"), reason="torch has no MKL here")


@pytest.mark.parametrize("n_rows", [1, 2, 3, 8, 63])
@pytest.mark.parametrize("n_out", [3, 8, 64, 101])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("packed", [True, False])
@torch.no_grad()
def test_products_are_those_of_float64(n_rows: int, n_out: int, bias: bool, packed: bool):
    generator = torch.Generator().manual_seed(n_out)
    x = torch.randn(n_rows, 40, generator=generator)
    weight = torch.randn(n_out, 40, generator=generator)
    added = torch.randn(n_out, generator=generator) if bias else None
    assert few_rows.suits(x)
    other = few_rows.pack(weight) if packed else None
    expected = x.double() @ weight.double().T + (0 if added is None else added.double())
    for shaped in (x, x[:, None], x[None]):
        out = few_rows.product(shaped, weight, added, other)
        assert out.shape == (*shaped.shape[:-1], n_out)
        torch.testing.assert_close(out.view(n_rows, -1).double(), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_two_rows_give_exactly_what_each_gives_and_strides_do_not_matter():
    weight, bias = torch.randn(48, 40), torch.randn(48)
    x = torch.randn(40, 2).t()  # columns
    both = few_rows.product(x.contiguous(), weight, bias)
    for row, out in zip(x, both, strict=True):
        assert torch.equal(few_rows.product(row, weight, bias), out)
        assert torch.equal(few_rows.product(row.contiguous(), weight, bias), out)


def test_a_layer_that_is_trained_does_not_use_them():
    layer = Linear(16, 8)
    zeros = few_rows.pack(torch.zeros(8, 16)).matrix  # would show
    layer.packed = few_rows.Packed(zeros, few_rows.state_of(layer.weight))
    x = torch.randn(3, 16)
    assert not few_rows.suits(x)
    out = layer(x)
    out.sum().backward()
    torch.testing.assert_close(out, x @ layer.weight.T + layer.bias)
    assert layer.weight.grad is not None
    with torch.no_grad():
        torch.testing.assert_close(layer(x), layer.bias.expand(3, -1))
        assert not few_rows.suits(x.double())
        assert not few_rows.suits(torch.randn(64, 16))
        with torch.autocast("cpu"):
            assert not few_rows.suits(x)


@torch.no_grad()
def test_a_copy_of_a_matrix_that_has_changed_since_is_not_used():
    layer = torch.nn.Linear(16, 8)
    packed, x = few_rows.pack(layer.weight), torch.randn(4, 16)
    before = few_rows.product(x, layer.weight, layer.bias, packed)
    layer.weight.grad = torch.ones_like(layer.weight)
    torch.optim.SGD([layer.weight], lr=1.0).step()
    after = few_rows.product(x, layer.weight, layer.bias, packed)
    torch.testing.assert_close(after, layer(x))
    assert (after - before).abs().min() > 1e-3
    larger = torch.nn.Linear(16, 10)
    out = few_rows.product(x, larger.weight, larger.bias, packed)
    torch.testing.assert_close(out, larger(x))
