"""The distribution that is drawn from, and the draws, against plain numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fromscratch.foundation.errors import UserError
from fromscratch.generate.sampling import SamplingOptions, distribution, next_token

LOGITS = [2.0, -1.0, 0.3, 1.9, -torch.inf, 0.0, 1.1, -4.0, 0.9, -torch.inf]


def reference(logits, temperature, top_k, top_p):
    """One row, in float64: temperature, then the k likeliest, then the nucleus of those."""
    scores = np.array(logits, dtype=np.float64) / temperature
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    kept = order[:top_k] if top_k else order
    weight = np.zeros(len(scores))
    weight[kept] = np.exp(scores[kept] - scores.max())
    weight /= weight.sum()
    nucleus, reached = [], 0.0
    for i in kept:
        if reached < top_p:
            nucleus.append(i)
            reached += weight[i]
    final = np.zeros(len(scores))
    final[nucleus] = weight[nucleus] / weight[nucleus].sum()
    return final


def options(temperature=1.0, top_k=0, top_p=1.0):
    return SamplingOptions(temperature=temperature, top_k=top_k, top_p=top_p)


CHOICES = [
    {},
    {"temperature": 0.5},
    {"temperature": 3.0},
    {"top_k": 1},
    {"top_k": 3},
    {"top_k": 9},
    {"top_k": 500},
    {"top_p": 0.01},
    {"top_p": 0.5},
    {"top_p": 0.95},
    {"temperature": 0.7, "top_k": 5, "top_p": 0.8},
    {"temperature": 2.0, "top_k": 4, "top_p": 0.7},
]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_the_distribution_is_numpys(choice):
    rows = torch.tensor([LOGITS, LOGITS[::-1]])
    result = distribution(rows, options(**choice))
    for row, logits in zip(result, (LOGITS, LOGITS[::-1]), strict=True):
        expected = reference(logits, **({"temperature": 1.0, "top_k": 0, "top_p": 1.0} | choice))
        np.testing.assert_allclose(row.numpy(), expected, atol=1e-6)


@given(
    logits=st.lists(st.integers(-400, 400), min_size=1, max_size=40, unique=True),
    temperature=st.floats(0.05, 50.0),
    top_k=st.integers(0, 45),
    top_p=st.floats(0.01, 1.0),
)
@settings(deadline=None)
def test_the_distribution_holds_the_likeliest_and_sums_to_one(logits, temperature, top_k, top_p):
    row = torch.tensor([logits]) / 40.0
    result = distribution(row, options(temperature, top_k, top_p))[0]
    assert result.sum().item() == pytest.approx(1.0, abs=1e-5)
    kept = result > 0
    assert kept[row[0].argmax()]
    assert kept.sum() <= (top_k or len(logits))
    if not kept.all():
        assert result[kept].min() >= result[~kept].max()
        full = (row[0] / temperature).softmax(-1)
        assert full[kept].min() >= full[~kept].max()


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_top_k_keeps_k_also_among_equals(top_k):
    kept = distribution(torch.tensor([[0.0, 1.0, 1.0, 1.0, 1.0]]), options(top_k=top_k))[0]
    assert kept[0] == 0
    assert sorted(kept[1:].tolist()) == [0.0] * (4 - top_k) + [1 / top_k] * top_k


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_draws_follow_the_distribution(choice):
    n_draws = 20_000
    expected = reference(LOGITS, **({"temperature": 1.0, "top_k": 0, "top_p": 1.0} | choice))
    rows = torch.tensor([LOGITS]).expand(n_draws, -1)
    drawn = next_token(rows, options(**choice), torch.Generator().manual_seed(4))
    counts = np.bincount(drawn.numpy(), minlength=len(LOGITS))
    assert counts[expected == 0].sum() == 0
    possible = expected > 0
    wanted = expected[possible] * n_draws
    chi_square = ((counts[possible] - wanted) ** 2 / wanted).sum()
    freedom = possible.sum() - 1
    assert chi_square <= freedom + 5 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("n_padding", [1, 60])
def test_impossible_ids_are_never_drawn_at_any_temperature(n_padding):
    logits = torch.tensor([[0.0, 1.0, 2.0] + [-torch.inf] * n_padding]).expand(5_000, -1)
    for temperature in (1e-3, 1.0, 1e6):
        drawn = next_token(logits, options(temperature), torch.Generator().manual_seed(0))
        assert drawn.max() <= 2
    assert set(drawn.tolist()) == {0, 1, 2}


def test_temperature_zero_takes_the_likeliest():
    rows = torch.tensor([LOGITS, LOGITS[::-1]])
    drawn = next_token(rows, options(temperature=0.0), torch.Generator())
    assert drawn.tolist() == [0, len(LOGITS) - 1]


def test_half_precision_logits_are_drawn_from_in_float32():
    rows = torch.tensor([LOGITS]).bfloat16()
    assert distribution(rows, options()).dtype == torch.float32


@pytest.mark.parametrize(
    "wrong", [{"temperature": -0.1}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}], ids=str
)
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        options(**wrong)
