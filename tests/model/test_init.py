"""Initial weights, statistically, against the table in model/init.py."""

import math

import pytest
import torch

from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT

LAYERS, WIDTH, HIDDEN, STD = 3, 96, 160, 0.05

# scheme -> std of embeddings and head, of matrices in, of matrices back into the residual.
TABLE = {
    "gpt2": (STD, lambda n_in: STD, STD / math.sqrt(2 * LAYERS)),
    "normal": (STD, lambda n_in: STD, STD),
    "zero_out": (STD, lambda n_in: 0.7 / math.sqrt(n_in), 0.0),
}


def build(scheme, seed=0, **options):
    shape = {"n_layer": LAYERS, "n_head": 4, "d_model": WIDTH, "d_ff": HIDDEN, "context": 40}
    config = ModelConfig(vocab_size=300, init=scheme, init_std=STD, **(shape | options))
    return GPT(config, seed=seed)


def expected_std(scheme, name, parameter, *, extra=False):
    if scheme == "vaswani":
        if name.startswith("blocks."):
            return math.sqrt(2 / (parameter.shape[0] + parameter.shape[1]))
        return 1 / math.sqrt(WIDTH) if name.startswith("head.") else 1.0
    table, inward, back = TABLE[scheme]
    if scheme == "zero_out" and name.startswith("head."):
        return 0.0
    if not name.startswith("blocks."):
        return table
    if name.endswith("attn.out.weight") and extra and scheme == "zero_out":
        return inward(parameter.shape[1])  # the extra projection after it is the zero one
    if name.endswith(("attn.out.weight", "attn.extra.weight", "mlp.down.weight")):
        return back
    return inward(parameter.shape[1])


@pytest.mark.parametrize("scheme", [*TABLE, "vaswani"])
@pytest.mark.parametrize(
    "options",
    [
        {"family": "gpt2"},
        {"family": "gpt2", "tie_embeddings": False, "head_bias": True, "extra_attn_proj": True},
        {"family": "modern", "n_kv_head": 2, "qkv_bias": True},
        {"family": "modern", "tie_embeddings": True},
    ],
    ids=str,
)
def test_every_parameter_is_drawn_as_the_table_says(scheme, options):
    model = build(scheme, **options)
    for name, parameter in model.named_parameters():
        values = parameter.detach().double().flatten()
        n = len(values)
        if parameter.ndim == 1:
            assert (values == (0.0 if name.endswith("bias") else 1.0)).all(), name
            continue
        std = expected_std(scheme, name, parameter, extra=options.get("extra_attn_proj", False))
        if std == 0:
            assert (values == 0).all(), name
            continue
        # Five standard errors of each estimate.
        assert values.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * n)), name
        assert abs(values.mean()) < 5 * std / math.sqrt(n), name
        kurtosis = (values / std).pow(4).mean().item()
        assert kurtosis == pytest.approx(3.0, abs=5 * math.sqrt(96 / n)), f"{name} is not normal"


@pytest.mark.parametrize("scheme", TABLE)
def test_the_seed_alone_decides_the_weights(scheme):
    torch.manual_seed(1)
    first = build(scheme, seed=7).state_dict()
    torch.manual_seed(2)
    again, other = build(scheme, seed=7).state_dict(), build(scheme, seed=8).state_dict()
    for name, tensor in first.items():
        assert torch.equal(again[name], tensor)
        drawn = tensor.ndim > 1 and tensor.any()
        assert torch.equal(other[name], tensor) == (not drawn)


def test_no_two_matrices_are_drawn_alike():
    matrices = [p for p in build("normal").parameters() if p.ndim > 1]
    assert len({p.flatten()[0].item() for p in matrices}) == len(matrices)


@pytest.mark.parametrize("family", ["gpt2", "modern"])
def test_a_new_model_predicts_every_token_alike(family):
    model = GPT(
        ModelConfig(family=family, n_layer=2, n_head=4, d_model=64, context=32, vocab_size=100)
    )
    ids = torch.randint(0, 100, (8, 32), generator=torch.Generator().manual_seed(0))
    loss = torch.nn.functional.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(100), abs=0.1)
