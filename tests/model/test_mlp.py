"""Activations: the gradient that is written down is the one that autograd finds."""

from __future__ import annotations

import pytest
import torch

from fromscratch.model.mlp import _ACTIVATIONS


@pytest.mark.parametrize("name", _ACTIVATIONS)
def test_the_gradient_is_that_of_the_function(name: str) -> None:
    activation = _ACTIVATIONS[name]
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, 8, generator=draw, dtype=torch.float64).requires_grad_()
    y = activation(x)
    by_y = torch.randn(y.shape, generator=draw, dtype=torch.float64)
    (theirs,) = torch.autograd.grad(y, x, by_y)
    with torch.no_grad():
        ours = activation.gradient(by_y, x)
    torch.testing.assert_close(ours, theirs)
    assert ours.is_contiguous()
