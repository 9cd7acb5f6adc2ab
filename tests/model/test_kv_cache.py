"""Reading a text in portions through the cache is the same as reading it at once."""

import pytest
import torch

from fromscratch.foundation.errors import UserError
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.model.kv_cache import KVCache

CONTEXT, VOCAB = 16, 11


@pytest.fixture(
    params=[
        {"family": "gpt2"},
        {"family": "gpt2", "positions": "sinusoidal", "norm_placement": "post"},
        {"family": "modern"},
        {"family": "modern", "n_kv_head": 2},
        {"family": "modern", "n_kv_head": 1, "head_dim": 10},
    ],
    ids=str,
)
def model(request):
    shape = {"n_layer": 3, "n_head": 4, "d_model": 24, "context": CONTEXT, "vocab_size": VOCAB}
    return GPT(ModelConfig(init="normal", init_std=0.3, **(shape | request.param)), seed=1).eval()


def some_ids(batch):
    return torch.randint(0, VOCAB, (batch, CONTEXT), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "portions", [[16], [8, 8], [1, 15], [15, 1], [3, 7, 1, 5], [1] * 16, [5, *[1] * 11]], ids=str
)
@torch.no_grad()
def test_portions_give_the_logits_of_the_whole(model, portions):
    ids = some_ids(2)
    cache = KVCache(model.config, batch=2)
    pieces = [model(piece, cache=cache) for piece in ids.split(portions, dim=1)]
    assert cache.length == CONTEXT
    torch.testing.assert_close(torch.cat(pieces, dim=1), model(ids), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_cache_that_was_reset_has_forgotten(model):
    first, second = some_ids(2).split(8, dim=1)
    cache = KVCache(model.config, batch=2)
    model(first, cache=cache)
    cache.reset()
    torch.testing.assert_close(model(second, cache=cache), model(second), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_cache_counts_towards_the_context(model):
    cache = KVCache(model.config, batch=2)
    model(some_ids(2), cache=cache)
    with pytest.raises(UserError, match="17 tokens is longer than the model's context of 16"):
        model(some_ids(2)[:, :1], cache=cache)
