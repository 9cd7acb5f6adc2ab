"""GGUF files: read by the format's own reader, by transformers, and by llama.cpp where it is."""

import os
import signal
import time
from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch

from fromscratch.chat.template import template_named
from fromscratch.checkpoint.bundle import save_model
from fromscratch.export.gguf_check import check_gguf
from fromscratch.export.gguf_model import gguf_config, gguf_tensors, write_gguf
from fromscratch.export.gguf_tokenizer import gguf_tokenizer
from fromscratch.export.to_gguf import export_gguf
from fromscratch.foundation.errors import UserError
from fromscratch.generate.engine import generate_ids
from fromscratch.generate.sampling import SamplingOptions
from fromscratch.tokenizer.build import bytes_tokenizer, chars_tokenizer
from tests.export.making import VOCAB, bundle, tokenizer

MODELS = {
    "gpt2": {"family": "gpt2"},
    "gpt2, own head, padding": {"family": "gpt2", "tie_embeddings": False, "padded_vocab": 320},
    "gpt2, no biases": {"family": "gpt2", "qkv_bias": False, "mlp_bias": False, "d_ff": 96},
    "modern": {"family": "modern"},
    "modern, shared keys": {"n_kv_head": 2, "head_dim": 24, "tie_embeddings": True},
    "modern, theta": {"rope_theta": 500.0, "norm_eps": 1e-3, "padded_vocab": 320},
}


@pytest.mark.parametrize("type", ["f32", "f16", "q8_0"])
@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_a_file_is_the_model(options, type, tmp_path):
    made = export_gguf(bundle(**options), tmp_path / "m.gguf", type=type)
    assert made.check.reader.relative < 1e-5  # transformers' logits against ours
    assert made.check.reader.positions == 96
    limits = {"f32": 1e-9, "f16": 1e-5, "q8_0": 3e-3}
    assert made.check.rounding.kl < limits[type]
    assert made.n_bytes == (tmp_path / "m.gguf").stat().st_size
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]


def test_each_tensor_is_in_the_file_as_it_is(tmp_path):
    """Held against the safetensors of the same model, by the format's own reader."""
    from safetensors.torch import load_file

    model = bundle("gpt2", tie_embeddings=False, padded_vocab=320)
    export_gguf(model, tmp_path / "m.gguf", type="f32")
    save_model(tmp_path, model.model, model.tokenizer)
    theirs = load_file(tmp_path / "model.safetensors")
    read = {t.name: t.data for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    assert len(read) == len(theirs)
    qkv = theirs["transformer.h.1.attn.c_attn.weight"].numpy()
    np.testing.assert_array_equal(read["blk.1.attn_qkv.weight"], qkv.T)
    down = theirs["transformer.h.0.mlp.c_proj.weight"].numpy()
    np.testing.assert_array_equal(read["blk.0.ffn_down.weight"], down.T)
    for name, same in {
        "token_embd.weight": "transformer.wte.weight",
        "position_embd.weight": "transformer.wpe.weight",
        "output.weight": "lm_head.weight",
        "output_norm.bias": "transformer.ln_f.bias",
    }.items():
        np.testing.assert_array_equal(read[name], theirs[same].numpy())


@pytest.mark.parametrize("chat", ["default", "chatml", "alpaca"])
def test_tokenizer_and_template_are_in_the_file(chat, tmp_path):
    model = bundle(chat=chat)
    export_gguf(model, tmp_path / "m.gguf", name="Moby", licence="mit")
    fields = gguf.GGUFReader(tmp_path / "m.gguf").fields
    said = {name: field.contents() for name, field in fields.items()}
    assert said["general.name"] == "Moby"
    assert said["general.license"] == "mit"
    assert said["tokenizer.ggml.pre"] == "gpt-2"
    assert said["tokenizer.ggml.eos_token_id"] == model.tokenizer.eot_id
    template = template_named(chat)
    end = said["tokenizer.ggml.eot_token_id"]
    assert said["tokenizer.ggml.tokens"][end] == template.end_of_turn
    assert said["tokenizer.ggml.token_type"][end] == 3
    jinja = said["tokenizer.chat_template"]
    assert "\ufdd0" not in jinja  # the readers would leave it in what users write
    for name in template.special_tokens:
        assert name in jinja


def test_a_file_with_other_weights_is_found_out(tmp_path):
    model, path = bundle("gpt2"), tmp_path / "m.gguf"
    config = gguf_config(model.model.config, approximate_gelu=False)
    tensors = gguf_tensors(model, config, "f32")
    with torch.no_grad():
        model.model.blocks[1].mlp.down.weight[3, 5] += 0.5  # the file is written from these
        write_gguf(path, config, tensors, gguf_tokenizer(model.tokenizer), name="m")
        model.model.blocks[1].mlp.down.weight[3, 5] -= 0.5
    with pytest.raises(UserError, match=r"not the same model.*transformers"):
        check_gguf(path, model, config, gguf_tensors(model, config, "f32"))


def test_a_file_with_another_tokenizer_is_found_out(tmp_path):
    model, path = bundle(), tmp_path / "m.gguf"
    config = gguf_config(model.model.config, approximate_gelu=False)
    tensors = gguf_tensors(model, config, "f32")
    right = gguf_tokenizer(model.tokenizer)
    wrong = replace(right, merges=right.merges[1:])
    write_gguf(path, config, tensors, wrong, name="m")
    with pytest.raises(UserError, match="another tokenizer"):
        check_gguf(path, model, config, tensors)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"family": "gpt2", "norm_placement": "post"}, "norm_placement = post"),
        ({"family": "gpt2", "positions": "sinusoidal"}, "sinusoidal"),
        ({"family": "gpt2", "activation": "relu"}, "activation = relu"),
        ({"qkv_bias": True}, "attention biases"),
        ({"logit_softcap": 15.0}, "logit_softcap"),
        ({"family": "gpt2", "activation": "gelu"}, "--approximate-gelu"),
    ],
)
def test_what_gguf_cannot_express_is_refused(options, match, tmp_path):
    with pytest.raises(UserError, match=match):
        export_gguf(bundle(**options), tmp_path / "m.gguf")
    assert not list(tmp_path.iterdir())


def test_the_exact_gelu_may_be_approximated(tmp_path):
    model = bundle("gpt2", activation="gelu")
    made = export_gguf(model, tmp_path / "m.gguf", type="f32", approximate_gelu=True)
    assert made.check.reader.relative < 1e-5
    assert 1e-6 < made.check.rounding.largest < 0.05


@pytest.mark.parametrize(
    ("made", "match"),
    [
        (lambda: tokenizer("modern"), "no name in GGUF"),
        (lambda: tokenizer("line"), "no name in GGUF"),
        (bytes_tokenizer, "no merges"),
        (lambda: chars_tokenizer(["abc"]), "whole characters"),
    ],
)
def test_a_tokenizer_that_gguf_cannot_hold_is_refused(made, match):
    with pytest.raises(UserError, match=match):
        gguf_tokenizer(made())


def test_qwens_splitting_has_a_name():
    content = tokenizer("modern").content.replace(r"\\p{N}{1,2}", r"\\p{N}")
    changed = type(tokenizer())(content, name="bpe")
    assert gguf_tokenizer(changed).pre == "qwen2"


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "m.gguf").write_text("mine")
    with pytest.raises(UserError, match="there already"):
        export_gguf(bundle(), tmp_path / "m.gguf")
    assert (tmp_path / "m.gguf").read_text() == "mine"


def test_a_killed_export_leaves_a_whole_file_or_none(tmp_path):
    out = tmp_path / "m.gguf"
    model = bundle("gpt2")
    export_gguf(model, tmp_path / "whole.gguf", type="f32")
    whole = (tmp_path / "whole.gguf").read_bytes()
    seen = set()
    for delay in (0.0, 0.01, 0.03, 0.06, 0.1, 0.15):
        child = os.fork()
        if child == 0:
            try:
                export_gguf(model, out, type="f32", name="whole")
            finally:
                os._exit(0)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen.add(out.exists())
        if out.exists():
            assert out.read_bytes() == whole
            out.unlink()
    assert False in seen
    export_gguf(model, out, type="f32", name="whole")
    assert out.read_bytes() == whole
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.gguf", "whole.gguf"]


@pytest.mark.parametrize("family", ["gpt2", "modern"])
def test_llama_cpp_writes_the_same_tokens(family, tmp_path):
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    model = bundle(family)
    made = export_gguf(model, tmp_path / "m.gguf", type="f32")
    assert made.check.llama_greedy == made.check.llama_asked == 32
    engine = llama_cpp.Llama(str(tmp_path / "m.gguf"), n_ctx=48, verbose=False)
    prompt = model.tokenizer.encode("The cat sat")
    found = []
    for token in engine.generate(prompt, temp=0.0):
        found.append(token)
        if len(found) == 32:
            break
    engine.close()
    options = SamplingOptions(temperature=0.0, top_k=0, top_p=1.0, seed=0)
    ours = list(generate_ids(model.model, prompt, max_new_tokens=32, options=options))
    assert found == ours
    assert all(0 <= token < VOCAB for token in found)
