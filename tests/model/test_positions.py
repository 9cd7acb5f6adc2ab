"""Fixed positions: against their formulas and the property that rotary ones exist for."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fromscratch.model.positions import rope_table, rotate, sinusoidal_table

CPU = torch.device("cpu")
CONTEXT = 64


def rotated(x, position, theta=10_000.0):
    cos, sin = rope_table(CONTEXT, len(x), theta, CPU).double()
    return rotate(x[None, None, None], cos[position : position + 1], sin[position : position + 1])


@given(
    query=st.integers(0, CONTEXT - 1),
    key=st.integers(0, CONTEXT - 1),
    shift=st.integers(0, CONTEXT - 1),
    half=st.integers(1, 16),
    theta=st.sampled_from([10.0, 10_000.0, 1e6]),
)
@settings(deadline=None)
def test_rotary_scores_depend_on_the_distance_alone(query, key, shift, half, theta):
    shift %= CONTEXT - max(query, key)
    generator = torch.Generator().manual_seed(half)
    q, k = torch.randn(2, 2 * half, dtype=torch.float64, generator=generator)
    here = (rotated(q, query, theta) * rotated(k, key, theta)).sum()
    there = (rotated(q, query + shift, theta) * rotated(k, key + shift, theta)).sum()
    assert here.item() == pytest.approx(there.item(), abs=1e-4)


def test_rotary_scores_do_depend_on_the_distance():
    q, k = torch.randn(2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scores = [(rotated(q, 0) * rotated(k, distance)).sum().item() for distance in range(8)]
    assert len({round(s, 3) for s in scores}) == 8


def test_rotation_keeps_lengths():
    x = torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(rotated(x, 0).flatten(), x)
    for position in (1, 17, CONTEXT - 1):
        assert rotated(x, position).norm().item() == pytest.approx(x.norm().item(), rel=1e-6)


@pytest.mark.parametrize(("context", "width"), [(1, 2), (7, 6), (100, 64)])
def test_the_sinusoidal_table_is_vaswanis(context, width):
    table = sinusoidal_table(context, width, CPU)
    assert table.shape == (context, width)
    for position in range(context):
        for i in range(width // 2):
            angle = position / 10_000 ** (2 * i / width)
            assert table[position, 2 * i].item() == pytest.approx(math.sin(angle), abs=2e-5)
            assert table[position, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=2e-5)
