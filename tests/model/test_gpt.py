"""The network's own promises: padding, context, packed documents, soft cap, initial state."""

import pytest
import torch
import torch.nn.functional as F

from fromscratch.foundation.errors import UserError
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT

CONTEXT, VOCAB = 16, 11


def build(family="modern", **options):
    shape = {"n_layer": 2, "n_head": 4, "d_model": 24, "context": CONTEXT, "vocab_size": VOCAB}
    loud = {"init": "normal", "init_std": 0.3}  # so that every part of the network shows
    return GPT(ModelConfig(family=family, **(shape | loud | options)), seed=1).eval()


def some_ids(*shape):
    return torch.randint(0, VOCAB, shape, generator=torch.Generator().manual_seed(0))


KINDS = {
    "learned": {"family": "gpt2"},
    "sinusoidal": {"family": "gpt2", "positions": "sinusoidal", "norm_placement": "post"},
    "rope": {"family": "modern"},
    "rope-gqa": {"family": "modern", "n_kv_head": 2, "tie_embeddings": True},
}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def model(request):
    return build(**request.param)


# --- what a position sees -------------------------------------------------------------------------


def test_logits_depend_on_the_past_alone(model):
    ids = some_ids(1, CONTEXT)
    logits = model(ids)
    for position in range(CONTEXT):
        changed = ids.clone()
        changed[0, position] = (ids[0, position] + 1) % VOCAB
        differs = (model(changed) != logits).any(dim=-1)[0]
        assert not differs[:position].any()
        assert differs[position]


@pytest.mark.parametrize("lengths", [[16], [5, 11], [1, 1, 14], [3, 4, 9], [1] * 16], ids=str)
def test_packed_documents_give_what_each_gives_alone(model, lengths):
    ids = some_ids(1, CONTEXT)
    segments = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None]
    packed = model(ids, segments=segments)
    alone = torch.cat([model(document) for document in ids.split(lengths, dim=1)], dim=1)
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-5)


def test_each_row_of_a_batch_has_its_own_documents(model):
    ids = some_ids(2, CONTEXT)
    cuts = (4, 9)
    segments = torch.stack([(torch.arange(CONTEXT) >= cut).long() + 7 for cut in cuts])
    packed = model(ids, segments=segments)
    for row, cut in enumerate(cuts):
        alone = torch.cat([model(ids[row : row + 1, :cut]), model(ids[row : row + 1, cut:])], dim=1)
        torch.testing.assert_close(packed[row : row + 1], alone, atol=1e-5, rtol=1e-5)


def test_a_packed_neighbour_is_seen_without_segments(model):
    ids = some_ids(1, CONTEXT)
    segments = (torch.arange(CONTEXT) >= 5).long()[None]
    assert (model(ids)[0, 5:] - model(ids, segments=segments)[0, 5:]).abs().max() > 1e-2


@pytest.mark.parametrize("family", ["gpt2", "modern"])
def test_the_order_of_the_past_matters(family):
    model, ids = build(family), some_ids(1, CONTEXT)
    swapped = ids.clone()
    swapped[0, [0, 1]] = ids[0, [1, 0]]
    assert ids[0, 0] != ids[0, 1]
    assert (model(ids) - model(swapped))[0, -1].abs().max() > 1e-3


def test_a_sequence_longer_than_the_context_is_refused(model):
    assert model(some_ids(1, CONTEXT)).shape == (1, CONTEXT, VOCAB)
    with pytest.raises(UserError, match="17 tokens is longer than the model's context of 16"):
        model(some_ids(1, CONTEXT + 1))


# --- the head -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("softcap", [0.0, 5.0])
def test_padding_takes_no_probability_and_no_gradient(tied, softcap):
    model = build("gpt2", padded_vocab=32, tie_embeddings=tied, logit_softcap=softcap)
    table = model.embed.weight if tied else model.head.weight
    with torch.no_grad():
        table[VOCAB:] = 100.0  # the likeliest ids by far, were they real
    ids = some_ids(2, CONTEXT)
    logits = model(ids)
    probabilities = logits.softmax(dim=-1)
    assert (probabilities[..., VOCAB:] == 0).all()
    assert torch.allclose(probabilities[..., :VOCAB].sum(dim=-1), torch.ones(2, CONTEXT))
    F.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
    assert (table.grad[VOCAB:] == 0).all()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert table.grad[:VOCAB].abs().max() > 0


@pytest.mark.parametrize("cap", [0.5, 3.0])
@pytest.mark.parametrize("tied", [True, False])
def test_the_soft_cap_bounds_logits_smoothly(cap, tied):
    plain = build(tie_embeddings=tied, init_std=1.0)
    capped = build(tie_embeddings=tied, init_std=1.0, logit_softcap=cap)
    raw = plain(some_ids(2, CONTEXT)).double()
    assert raw.abs().max() > cap
    logits = capped(some_ids(2, CONTEXT))
    torch.testing.assert_close(logits.double(), cap * torch.tanh(raw / cap), atol=1e-4, rtol=1e-4)
    assert logits.abs().max() <= cap


def test_the_head_bias_is_added():
    model = build("gpt2", tie_embeddings=False, head_bias=True)
    ids = some_ids(1, CONTEXT)
    before = model(ids)
    with torch.no_grad():
        model.head.bias.copy_(torch.arange(VOCAB))
    torch.testing.assert_close(model(ids) - before, torch.arange(VOCAB).expand_as(before) * 1.0)


# --- blocks ---------------------------------------------------------------------------------------


def test_post_norm_blocks_end_in_a_norm():
    model = build("gpt2", norm_placement="post", tie_embeddings=False)
    hidden = model.hidden(some_ids(2, CONTEXT))
    torch.testing.assert_close(hidden.mean(dim=-1), torch.zeros(2, CONTEXT), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        hidden.var(dim=-1, correction=0), torch.ones(2, CONTEXT), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("family", ["gpt2", "modern"])
def test_zero_out_starts_every_block_as_the_identity(family):
    model = build(family, init="zero_out")
    ids = some_ids(1, CONTEXT)
    x = model.embed(ids)
    if model.positions is not None:
        x = x + model.positions.weight[:CONTEXT]
    torch.testing.assert_close(model.hidden(ids), model.final_norm(x))


@pytest.mark.parametrize("options", [{}, {"extra_attn_proj": True}, {"family": "gpt2"}], ids=str)
def test_zero_out_leaves_no_parameter_without_a_gradient_for_long(options):
    """A product of two zero matrices would stay zero for ever."""
    model = build(**{"init": "zero_out", "tie_embeddings": False} | options)
    ids = some_ids(4, CONTEXT)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
        optimizer.step()
    still = [name for name, p in model.named_parameters() if not p.grad.any()]
    assert not still


def test_dropout_acts_in_training_only():
    model = build("gpt2", dropout=0.3)
    ids = some_ids(2, CONTEXT)
    assert torch.equal(model(ids), model(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))
    torch.manual_seed(5)
    first = model(ids)
    torch.manual_seed(5)
    assert torch.equal(model(ids), first)


# --- dtypes and state -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_model_runs_in_other_dtypes(model, dtype):
    ids = some_ids(2, CONTEXT)
    logits = model(ids)
    converted = model.to(dtype)(ids)
    assert converted.dtype == dtype
    tolerance = 1e-4 if dtype == torch.float64 else 0.05 * logits.abs().max().item()
    torch.testing.assert_close(converted.double(), logits.double(), atol=tolerance, rtol=0)


def test_autocast_gives_nearly_the_same_loss_and_gradients(model):
    ids = some_ids(4, CONTEXT)

    def gradients(half):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            logits = model(ids)
        F.cross_entropy(logits.flatten(0, 1).float(), ids.flatten()).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    exact, half = gradients(False), gradients(True)
    assert half.isfinite().all()
    assert F.cosine_similarity(exact, half, dim=0) > 0.99


def test_only_parameters_are_saved(model):
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}
