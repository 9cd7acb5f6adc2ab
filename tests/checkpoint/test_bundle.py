"""Model folders against transformers: the same weights must give the same numbers, both ways."""

import hashlib
import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from fromscratch.checkpoint.bundle import load_bundle, load_model, save_model
from fromscratch.foundation.errors import UserError
from fromscratch.model.config import ModelConfig
from fromscratch.model.count import count_parameters
from fromscratch.model.gpt import GPT
from fromscratch.model.huggingface.mapping import cut_padding, to_huggingface, why_not_expressible
from fromscratch.tokenizer.build import bytes_tokenizer
from tests.random_weights import randomise

VOCAB = 257  # the bytes and end-of-text
CONTEXT = 12


def gpt2(**options):
    shape = {"n_layer": 2, "n_head": 3, "d_model": 24, "context": CONTEXT, "vocab_size": VOCAB}
    return ModelConfig(**(shape | {"family": "gpt2"} | options))


def modern(**options):
    shape = {"n_layer": 2, "n_head": 4, "d_model": 32, "context": CONTEXT, "vocab_size": VOCAB}
    return ModelConfig(**(shape | {"family": "modern"} | options))


def some_ids(seed=0):
    return torch.randint(0, VOCAB, (3, CONTEXT), generator=torch.Generator().manual_seed(seed))


def assert_same_logits(ours, theirs):
    ids = some_ids()
    with torch.no_grad():
        mine, reference = ours(ids), theirs(ids).logits
    assert reference.shape[-1] == VOCAB
    assert reference.std() > 0.3, "too flat to tell models apart"
    torch.testing.assert_close(mine[..., :VOCAB], reference, atol=1e-4, rtol=0)
    assert (mine[..., VOCAB:] == -torch.inf).all()


def opened_by_transformers(folder):
    theirs, report = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", output_loading_info=True
    )
    assert not any(report.values()), report  # nothing missing, nothing left over
    return theirs.eval()


def edit_config(folder, **changes):
    """Sets keys of config.json; None removes one."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def edit_tensors(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.fixture
def saved(tmp_path):
    """Saves a randomised model of a configuration; gives the model and its folder."""

    def save(config):
        model = randomise(GPT(config))
        save_model(tmp_path, model, bytes_tokenizer())
        return model, tmp_path

    return save


# --- theirs, read by us ---------------------------------------------------------------------------

GPT2_SHAPE = {
    "vocab_size": VOCAB,
    "n_positions": CONTEXT,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 3,
}
QWEN3_SHAPE = {
    "vocab_size": VOCAB,
    "max_position_embeddings": CONTEXT,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 8,
}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tie_word_embeddings": False},
        {"n_inner": 40, "n_layer": 3, "n_head": 1},
        {"layer_norm_epsilon": 1e-2},
        *({"activation_function": a} for a in ("gelu", "gelu_pytorch_tanh", "relu", "relu2")),
    ],
    ids=str,
)
def test_gpt2_of_transformers_gives_the_same_logits(tmp_path, options):
    theirs = randomise(GPT2LMHeadModel(GPT2Config(**GPT2_SHAPE | options)))
    theirs.save_pretrained(tmp_path)
    assert_same_logits(load_model(tmp_path).eval(), theirs)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tie_word_embeddings": True},
        {"num_key_value_heads": 2},
        {"num_key_value_heads": 1, "head_dim": 12},
        {"head_dim": 4, "num_hidden_layers": 1},
        {"attention_bias": True},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}},
        {"rms_norm_eps": 1e-2},
    ],
    ids=str,
)
def test_qwen3_of_transformers_gives_the_same_logits(tmp_path, options):
    theirs = randomise(Qwen3ForCausalLM(Qwen3Config(**QWEN3_SHAPE | options)))
    theirs.save_pretrained(tmp_path)
    assert_same_logits(load_model(tmp_path).eval(), theirs)


def test_rope_theta_is_read_where_older_transformers_wrote_it(tmp_path):
    theirs = Qwen3Config(**QWEN3_SHAPE, rope_parameters={"rope_type": "default", "rope_theta": 99})
    model = randomise(Qwen3ForCausalLM(theirs))
    model.save_pretrained(tmp_path)
    edit_config(tmp_path, rope_parameters=None, rope_scaling=None, rope_theta=99.0)
    assert_same_logits(load_model(tmp_path).eval(), model)


def test_openai_weights_without_prefix_and_with_mask_buffers_load(tmp_path):
    theirs = randomise(GPT2LMHeadModel(GPT2Config(**GPT2_SHAPE)))
    theirs.save_pretrained(tmp_path)
    tensors = {
        name.removeprefix("transformer."): tensor
        for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    for layer in range(GPT2_SHAPE["n_layer"]):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, CONTEXT, CONTEXT).tril()
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, tmp_path / "model.safetensors")
    assert_same_logits(load_model(tmp_path).eval(), theirs)


@pytest.mark.parametrize("own_key", [True, False])
def test_a_tied_head_may_be_written_twice_but_not_two_ways(saved, own_key):
    model, folder = saved(modern(tie_embeddings=True))
    if not own_key:
        edit_config(folder, fromscratch=None)
    edit_tensors(folder, lambda tensors: tensors.update({"lm_head.weight": model.embed.weight}))
    ids = some_ids()
    assert torch.equal(load_model(folder).eval()(ids), model(ids))
    edit_tensors(folder, lambda tensors: tensors["lm_head.weight"].mul_(2))
    with pytest.raises(UserError, match="tied"):
        load_model(folder)


def test_half_precision_weights_become_float32(tmp_path):
    theirs = randomise(Qwen3ForCausalLM(Qwen3Config(**QWEN3_SHAPE)))
    theirs.to(torch.bfloat16).save_pretrained(tmp_path)
    widened = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert_same_logits(load_model(tmp_path).eval(), widened.eval())


# --- ours, read by transformers -------------------------------------------------------------------

EXPRESSIBLE = [
    gpt2(),
    gpt2(tie_embeddings=False),
    gpt2(padded_vocab=320),
    gpt2(padded_vocab=320, tie_embeddings=False),
    gpt2(n_layer=1, n_head=8, d_model=16, d_ff=20, norm_eps=1e-2),
    *(gpt2(activation=a) for a in ("gelu", "gelu_tanh", "relu", "relu2")),
    gpt2(qkv_bias=False),
    gpt2(attn_out_bias=False),
    gpt2(mlp_bias=False),
    gpt2(norm_bias=False),
    gpt2(norm_weight=False),
    gpt2(
        qkv_bias=False,
        attn_out_bias=False,
        mlp_bias=False,
        norm_bias=False,
        norm_weight=False,
        dropout=0.2,
    ),
    modern(),
    modern(tie_embeddings=True),
    modern(padded_vocab=320),
    modern(padded_vocab=320, tie_embeddings=True, n_kv_head=2),
    modern(n_kv_head=1, head_dim=12),
    modern(head_dim=4, d_ff=20, n_layer=1),
    modern(qkv_bias=True),
    modern(attn_out_bias=True),
    modern(qkv_bias=True, attn_out_bias=True, n_kv_head=2),
    modern(norm_weight=False),
    modern(rope_theta=100.0, norm_eps=1e-2),
]


def differences(config):
    """What sets a configuration apart from its family's plain one; names a test case."""
    if not isinstance(config, ModelConfig):
        return None
    plain = (gpt2() if config.family == "gpt2" else modern()).model_dump()
    changed = [f"{k}={v}" for k, v in config.model_dump().items() if plain[k] != v]
    return "-".join([config.family, *changed])


@pytest.mark.parametrize("config", EXPRESSIBLE, ids=differences)
def test_transformers_gives_our_logits_from_our_folder(saved, config):
    ours, folder = saved(config)
    assert_same_logits(ours, opened_by_transformers(folder))


@pytest.mark.parametrize("config", EXPRESSIBLE, ids=differences)
def test_a_folder_without_our_key_is_read_as_the_same_model(saved, config):
    ours, folder = saved(config)
    edit_config(folder, fromscratch=None)
    read = load_model(folder).eval()
    ids = some_ids()
    with torch.no_grad():
        torch.testing.assert_close(read(ids), ours(ids)[..., :VOCAB], atol=1e-5, rtol=0)
    assert read.config.context == config.context
    assert read.config.tie_embeddings == config.tie_embeddings


@pytest.mark.parametrize(
    "config",
    [
        gpt2(),
        gpt2(tie_embeddings=False, padded_vocab=320, activation="relu"),
        modern(),
        modern(tie_embeddings=True, n_kv_head=2, head_dim=12, padded_vocab=320),
        modern(qkv_bias=True, attn_out_bias=True),
    ],
    ids=differences,
)
def test_gradients_equal_those_of_transformers(saved, config):
    ours, folder = saved(config)
    theirs = opened_by_transformers(folder)
    ids = some_ids()
    theirs(ids, labels=ids).loss.backward()
    F.cross_entropy(ours(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()

    gradients = {name: p.grad for name, p in ours.named_parameters()}
    real, padding = cut_padding(config, gradients)
    _, mapped = to_huggingface(config, real, eot_id=None)
    reference = {name: p.grad for name, p in theirs.named_parameters()}
    assert mapped.keys() == reference.keys()
    for name, gradient in reference.items():
        assert gradient.abs().max() > 1e-4, name
        torch.testing.assert_close(mapped[name], gradient, atol=1e-6, rtol=1e-4, msg=name)
    assert all((rows == 0).all() for rows in padding.values())


def test_dropout_falls_where_transformers_lets_it_fall(saved):
    """In training the same seed drops the same numbers: in embedding, attention, residuals."""
    ours, folder = saved(gpt2(dropout=0.3))
    theirs, ids = opened_by_transformers(folder), some_ids()
    logits = []
    for forward in (lambda: ours.train()(ids), lambda: theirs.train()(ids).logits):
        torch.manual_seed(0)
        logits.append(forward())
    torch.testing.assert_close(*logits, atol=1e-4, rtol=0)
    assert (logits[0] - ours.eval()(ids)).abs().max() > 0.1


def test_transformers_opens_our_tokenizer(saved):
    _, folder = saved(gpt2())
    theirs, ours = AutoTokenizer.from_pretrained(folder), bytes_tokenizer()
    text = "def f(x):\n    return 'héllo 😀'"
    assert theirs(text).input_ids == ours.encode(text)
    assert theirs.decode(ours.encode(text)) == text
    assert theirs.eos_token_id == theirs.bos_token_id == ours.eot_id
    assert theirs.model_max_length == CONTEXT


@pytest.mark.parametrize("config", [gpt2(padded_vocab=320), modern()], ids=differences)
def test_transformers_generates_what_we_would(saved, config):
    ours, folder = saved(config)
    prompt = some_ids()[:1, :3]
    theirs = opened_by_transformers(folder)
    assert theirs.generation_config.eos_token_id == bytes_tokenizer().eot_id
    continued = theirs.generate(prompt, max_new_tokens=6, do_sample=False, pad_token_id=0)
    ids = prompt
    with torch.no_grad():
        for _ in range(continued.shape[1] - 3):
            ids = torch.cat((ids, ours(ids)[:, -1:].argmax(-1)), dim=1)
    assert continued.shape[1] > 3
    assert continued.tolist() == ids.tolist()


# --- there and back -------------------------------------------------------------------------------

INEXPRESSIBLE = {
    "norm_placement": gpt2(norm_placement="post"),
    "sinusoidal": gpt2(positions="sinusoidal"),
    "logit_softcap": modern(logit_softcap=15.0),
    "extra_attn_proj": gpt2(extra_attn_proj=True),
    "head_bias": gpt2(tie_embeddings=False, head_bias=True, padded_vocab=320),
    "norm = rmsnorm": gpt2(norm="rmsnorm", norm_bias=False),
    "norm = layernorm": modern(norm="layernorm", norm_bias=True),
    "swiglu": gpt2(activation="swiglu"),
    "activation = gelu": modern(activation="gelu"),
    "qk_norm with learned": gpt2(qk_norm=True),
    "no qk_norm": modern(qk_norm=False),
    "n_kv_head": gpt2(n_kv_head=1),
    "head_dim": gpt2(head_dim=10),
    "mlp_bias": modern(mlp_bias=True),
}


@pytest.mark.parametrize("config", [*EXPRESSIBLE, *INEXPRESSIBLE.values()], ids=differences)
def test_a_round_trip_keeps_every_bit(tmp_path, config):
    model = randomise(GPT(config))
    padding = save_model(tmp_path, model, bytes_tokenizer())
    read = load_model(tmp_path, padding)
    assert read.config == config
    before, after = model.state_dict(), read.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(parameter.requires_grad for parameter in read.parameters())
    ids = some_ids()
    assert torch.equal(read.eval()(ids), model(ids))


@pytest.mark.parametrize(("reason", "config"), INEXPRESSIBLE.items(), ids=str)
def test_a_model_beyond_transformers_says_why(saved, reason, config):
    _, folder = saved(config)
    written = json.loads((folder / "config.json").read_text())
    assert reason in written["not_expressible_in_transformers"]
    with pytest.raises(ValueError, match="fromscratch"):
        AutoModelForCausalLM.from_pretrained(folder)


def test_an_expressible_model_gives_no_reason(saved):
    for config in EXPRESSIBLE:
        assert why_not_expressible(config) is None
    _, folder = saved(modern())
    assert "not_expressible_in_transformers" not in (folder / "config.json").read_text()


def test_padding_rows_stay_out_of_the_folder(saved):
    _, folder = saved(gpt2(padded_vocab=320, tie_embeddings=False))
    weights = load_file(folder / "model.safetensors")
    assert weights["transformer.wte.weight"].shape == (VOCAB, 24)
    assert weights["lm_head.weight"].shape == (VOCAB, 24)


def test_padding_rows_do_not_matter_for_use(saved):
    model, folder = saved(modern(padded_vocab=320))
    ids = some_ids()
    assert torch.equal(load_model(folder).eval()(ids), model(ids))


# --- what cannot be read --------------------------------------------------------------------------


@pytest.mark.parametrize("config", [gpt2(), modern(), gpt2(norm_placement="post")], ids=differences)
class TestDamagedFolders:
    def test_a_tensor_too_many_is_refused(self, saved, config):
        _, folder = saved(config)
        edit_tensors(folder, lambda tensors: tensors.update({"blocks.9.extra": torch.ones(2)}))
        with pytest.raises(UserError, match=r"blocks\.9\.extra"):
            load_model(folder)

    def test_a_missing_tensor_is_refused(self, saved, config):
        _, folder = saved(config)
        edit_tensors(folder, lambda tensors: tensors.pop(max(tensors)))
        with pytest.raises(UserError, match="lack"):
            load_model(folder)

    def test_a_tensor_of_another_shape_is_refused(self, saved, config):
        _, folder = saved(config)
        embedding = next(
            n
            for n in ("transformer.wte", "model.embed_tokens", "embed")
            if f"{n}.weight" in load_file(folder / "model.safetensors")
        )
        edit_tensors(
            folder,
            lambda tensors: tensors.update(
                {f"{embedding}.weight": torch.ones(VOCAB + 3, config.d_model)}
            ),
        )
        with pytest.raises(UserError, match=r"embed\.weight.*260"):
            load_model(folder)

    def test_a_truncated_file_is_refused(self, saved, config):
        _, folder = saved(config)
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        with pytest.raises(UserError, match=r"model\.safetensors"):
            load_model(folder)

    def test_an_unknown_option_of_ours_is_refused(self, saved, config):
        _, folder = saved(config)
        edit_config(folder, fromscratch=config.model_dump() | {"mixture_of_experts": True})
        with pytest.raises(UserError, match="mixture_of_experts"):
            load_model(folder)


@pytest.mark.parametrize(
    ("config", "name", "match"),
    [
        (gpt2(qkv_bias=False), "transformer.h.1.attn.c_attn.bias", r"attn\.qkv\.bias"),
        (gpt2(attn_out_bias=False), "transformer.h.0.attn.c_proj.bias", r"attn\.out\.bias"),
        (gpt2(mlp_bias=False), "transformer.h.1.mlp.c_fc.bias", r"mlp\.up\.bias"),
        (gpt2(norm_bias=False), "transformer.ln_f.bias", r"final_norm\.bias"),
        (gpt2(norm_weight=False), "transformer.h.0.ln_2.weight", r"mlp_norm\.weight"),
        (modern(qkv_bias=True), "model.layers.0.self_attn.o_proj.bias", r"attn\.out\.bias"),
        (modern(attn_out_bias=True), "model.layers.1.self_attn.k_proj.bias", r"attn\.qkv\.bias"),
        (modern(norm_weight=False), "model.layers.0.self_attn.q_norm.weight", r"q_norm\.weight"),
    ],
)
def test_values_under_an_option_that_leaves_them_out_are_refused(saved, config, name, match):
    _, folder = saved(config)
    edit_tensors(folder, lambda tensors: tensors[name].add_(0.5))
    with pytest.raises(UserError, match=match):
        load_model(folder)


@pytest.mark.parametrize(
    ("config", "changes", "match"),
    [
        (gpt2(), {"model_type": "llama"}, "llama"),
        (gpt2(), {"model_type": None}, "model_type"),
        (gpt2(norm_placement="post"), {"fromscratch": None}, "model_type"),
        (gpt2(), {"fromscratch": None, "activation_function": "mish"}, "mish"),
        (gpt2(), {"fromscratch": None, "scale_attn_by_inverse_layer_idx": True}, "inverse_layer"),
        (gpt2(), {"fromscratch": None, "n_embd": None}, "n_embd"),
        (gpt2(), {"fromscratch": None, "n_head": 5}, "does not divide"),
        (modern(), {"fromscratch": None, "use_sliding_window": True}, "use_sliding_window"),
        (modern(), {"fromscratch": None, "hidden_act": "gelu"}, "hidden_act"),
        (modern(), {"fromscratch": None, "rope_parameters": {"rope_type": "yarn"}}, "yarn"),
        (modern(), {"fromscratch": None, "num_hidden_layers": 3}, "lack"),
        (modern(), {"fromscratch": None, "num_hidden_layers": 1}, "no place"),
        (modern(tie_embeddings=True), {"fromscratch": None, "tie_word_embeddings": False}, "lm_he"),
    ],
)
def test_a_config_that_we_cannot_run_is_refused(saved, config, changes, match):
    _, folder = saved(config)
    edit_config(folder, **changes)
    with pytest.raises(UserError, match=match):
        load_model(folder)


# --- bundles --------------------------------------------------------------------------------------


def test_a_foreign_folder_is_a_bundle(tmp_path):
    theirs = randomise(GPT2LMHeadModel(GPT2Config(**GPT2_SHAPE)))
    theirs.save_pretrained(tmp_path)
    bytes_tokenizer().save(tmp_path)
    bundle = load_bundle(tmp_path)
    assert not bundle.model.training
    assert_same_logits(bundle.model, theirs)
    assert bundle.tokenizer.fingerprint == bytes_tokenizer().fingerprint
    weights = (tmp_path / "model.safetensors").read_bytes()
    assert bundle.sha256 == hashlib.sha256(weights).hexdigest()


@pytest.mark.parametrize("surplus", [0, 40])
def test_ids_that_the_tokenizer_lacks_are_padding(tmp_path, surplus):
    shape = QWEN3_SHAPE | {"vocab_size": VOCAB + surplus, "tie_word_embeddings": True}
    theirs = randomise(Qwen3ForCausalLM(Qwen3Config(**shape)))
    theirs.save_pretrained(tmp_path)
    bytes_tokenizer().save(tmp_path)
    model = load_bundle(tmp_path).model
    ids = some_ids()
    with torch.no_grad():
        logits, reference = model(ids), theirs(ids).logits
    torch.testing.assert_close(logits[..., :VOCAB], reference[..., :VOCAB], atol=1e-4, rtol=0)
    assert logits.shape == reference.shape
    assert (logits[..., VOCAB:] == -torch.inf).all()
    assert count_parameters(model.config).total == sum(p.numel() for p in model.parameters())


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(saved):
    _, folder = saved(gpt2(vocab_size=VOCAB - 1))
    with pytest.raises(UserError, match="257 ids and its model 256"):
        load_bundle(folder)


def test_what_holds_no_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_bundle(tmp_path / "nowhere")
    with pytest.raises(UserError, match="not a checkpoint"):
        load_bundle(tmp_path)
    (tmp_path / "recipe.toml").write_text("")
    with pytest.raises(UserError, match="no checkpoint yet"):
        load_bundle(tmp_path)
