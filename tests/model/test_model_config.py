"""A configuration is complete, or refused with what would be right."""

import pytest
from pydantic import ValidationError

from fromscratch.model.config import ModelConfig

SHAPE = {"n_layer": 2, "n_head": 4, "d_model": 24, "context": 10, "vocab_size": 50}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n_head": 5}, "Valid head counts for this width: 1, 2, 3, 4, 6, 8, 12, 24."),
        ({"n_kv_head": 3}, "Valid counts: 1, 2, 4."),
        ({"padded_vocab": 49}, "smaller than model.vocab_size = 50"),
        ({"n_head": 8, "family": "modern"}, "even head size"),
        ({"d_model": 25, "n_head": 5, "positions": "sinusoidal"}, "even model.d_model"),
        ({"norm": "rmsnorm", "norm_bias": True}, "no effect with RMSNorm"),
        ({"tie_embeddings": True, "head_bias": True}, "tie_embeddings=false"),
        ({"n_heads": 4}, "n_heads"),
        ({"family": "llama"}, "family"),
        ({"dropout": 1.0}, "dropout"),
        ({"n_layer": 0}, "n_layer"),
    ],
)
def test_what_cannot_be_is_refused(options, sentence):
    with pytest.raises(ValidationError, match=sentence):
        ModelConfig(**SHAPE | options)


@pytest.mark.parametrize("family", ["gpt2", "modern"])
def test_nothing_is_left_open(family):
    config = ModelConfig(family=family, **SHAPE)
    assert None not in config.model_dump().values()
    assert ModelConfig(**config.model_dump()) == config


@pytest.mark.parametrize(
    ("d_model", "d_ff"), [(24, 64), (192, 512), (768, 2048), (1000, 2672), (1024, 2736)]
)
def test_a_gated_mlp_is_eight_thirds_wide_in_multiples_of_eight(d_model, d_ff):
    assert ModelConfig(**SHAPE | {"d_model": d_model}).d_ff == d_ff
    assert ModelConfig(**SHAPE | {"d_model": d_model, "family": "gpt2"}).d_ff == 4 * d_model
