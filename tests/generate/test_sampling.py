"""The distribution that is drawn from, and the draws, against plain numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fromscratch.foundation.errors import UserError
from fromscratch.generate.sampling import (
    Sampler,
    SamplingOptions,
    _likeliest,
    distribution,
    next_token,
)

LOGITS = [2.0, -1.0, 0.3, 1.9, -torch.inf, 0.0, 1.1, -4.0, 0.9, -torch.inf]


def reference(logits, temperature, top_k, top_p, min_p=0.0):
    """One row, in float64: temperature, then the k likeliest, then the nucleus of those."""
    scores = np.array(logits, dtype=np.float64) / temperature
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    kept = order[:top_k] if top_k else order
    weight = np.zeros(len(scores))
    weight[kept] = np.exp(scores[kept] - scores.max())
    weight /= weight.sum()
    nucleus, reached = [], 0.0
    for i in kept:
        if reached < top_p and weight[i] >= min_p * weight.max():
            nucleus.append(i)
            reached += weight[i]
    final = np.zeros(len(scores))
    final[nucleus] = weight[nucleus] / weight[nucleus].sum()
    return final


def options(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    return SamplingOptions(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)


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
    {"min_p": 0.2},
    {"temperature": 1.5, "top_k": 6, "top_p": 0.9, "min_p": 0.3},
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


PLAIN = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}


def fits(drawn, expected):
    """Pearson's chi-square: whether these draws may come from that distribution."""
    counts = np.bincount(drawn, minlength=len(expected))
    possible = expected > 0
    if counts[~possible].sum():
        return False
    wanted = expected[possible] * len(drawn)
    chi_square = ((counts[possible] - wanted) ** 2 / wanted).sum()
    freedom = possible.sum() - 1
    return chi_square <= freedom + 5 * math.sqrt(2 * freedom)


def drawn_by(choice, n_draws=20_000):
    rows = torch.tensor([LOGITS]).expand(n_draws, -1)
    return next_token(rows, options(**choice), torch.Generator().manual_seed(4)).numpy()


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_draws_follow_the_distribution(choice):
    assert fits(drawn_by(choice), reference(LOGITS, **(PLAIN | choice)))


WRONG = [
    ({}, {"temperature": 1.1}),
    ({"temperature": 0.5}, {"temperature": 0.55}),
    ({"top_k": 3}, {"top_k": 4}),
    ({"top_k": 4}, {"top_k": 3}),
    ({"top_p": 0.5}, {"top_p": 0.8}),
    ({"min_p": 0.2}, {"min_p": 0.4}),
    ({"min_p": 0.2}, {}),
]


@pytest.mark.parametrize(("choice", "other"), WRONG, ids=str)
def test_draws_do_not_follow_another_distribution(choice, other):
    """So the test above can fail."""
    assert not fits(drawn_by(choice), reference(LOGITS, **(PLAIN | other)))


@pytest.mark.parametrize(
    "more",
    [
        {"logit_bias": {1: 2.5, 4: -math.inf}},
        {"repetition_penalty": 1.8},
        {"presence_penalty": 0.7, "frequency_penalty": 0.4},
        {"logit_bias": {0: -1.0}, "repetition_penalty": 1.3, "min_p": 0.1, "temperature": 0.9},
    ],
    ids=str,
)
def test_a_sampler_draws_from_the_changed_logits(more):
    """Each draw is the third of a sequence: the prompt 0, 6 and then 3, 3 were there before."""
    changed = np.array(LOGITS)
    for token, bias in more.get("logit_bias", {}).items():
        changed[token] += bias
    for token in {0, 6, 3}:
        factor = more.get("repetition_penalty", 1.0)
        changed[token] = changed[token] / factor if changed[token] > 0 else changed[token] * factor
    changed[3] -= more.get("presence_penalty", 0.0) + 2 * more.get("frequency_penalty", 0.0)
    plain = {"temperature": more.get("temperature", 1.0), "min_p": more.get("min_p", 0.0)}
    expected = reference(changed, **(PLAIN | plain))
    drawn = []
    for seed in range(1_000):
        sampler = Sampler(
            SamplingOptions(**({"temperature": 1.0, "top_k": 0, "seed": seed} | more)), [0, 6]
        )
        forced = torch.full((len(LOGITS),), -torch.inf)
        forced[3] = 0.0
        for _ in range(2):
            assert sampler.choose(forced) == 3
        drawn.append(sampler.choose(torch.tensor(LOGITS)))
    assert fits(np.array(drawn), expected)
    assert not fits(np.array(drawn), reference(LOGITS, **(PLAIN | plain)))


@given(
    seed=st.integers(0, 99),
    k=st.integers(1, 80),
    vocab=st.integers(2, 12_000),
    levels=st.integers(1, 50),
)
def test_the_likeliest_are_those_of_a_sort(seed, k, vocab, levels):
    """Also where many are equal: few levels."""
    values = torch.randint(0, levels, (2, vocab), generator=torch.Generator().manual_seed(seed))
    k = min(k, vocab)
    found, ids = _likeliest(values.float(), k)
    assert torch.equal(found, values.float().sort(descending=True).values[:, :k])
    assert torch.equal(values.gather(1, ids).float(), found)
    assert all(len(set(row)) == k for row in ids.tolist())


@pytest.mark.parametrize("scale", [0.01, 4.0])
@pytest.mark.parametrize("top_p", [0.3, 0.95, 0.999])
def test_a_nucleus_of_a_large_vocabulary_is_that_of_a_sort(scale, top_p):
    """Small enough to be found among the first, or not."""
    logits = scale * torch.randn(1, 5_000, generator=torch.Generator().manual_seed(0))
    expected = reference(logits[0].tolist(), 1.0, 0, top_p)
    ours = distribution(logits, options(top_p=top_p))[0].numpy()
    assert abs(int((ours > 0).sum()) - int((expected > 0).sum())) <= 2  # the sum is float32's
    np.testing.assert_allclose(ours, expected, atol=1e-5 + expected.max() * 1e-2 * (scale < 1))


def test_greedy_takes_the_likeliest_of_the_changed_logits():
    sampler = Sampler(SamplingOptions(temperature=0.0, logit_bias={0: -math.inf, 5: 9.0}))
    assert sampler.choose(torch.tensor(LOGITS)) == 5


def test_samples_have_seeds_of_their_own():
    first = SamplingOptions(seed=3)
    seeds = {first.of_sample(number).seed for number in range(50)}
    assert first.of_sample(0) is first
    assert len(seeds) == 50


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
    "wrong",
    [
        {"temperature": -0.1},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"min_p": 1.1},
        {"repetition_penalty": 0.0},
        {"presence_penalty": math.nan},
        {"frequency_penalty": math.inf},
        {"logit_bias": {-1: 0.0}},
        {"logit_bias": {1: math.inf}},
        {"logit_bias": {1: math.nan}},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        SamplingOptions(**wrong)
