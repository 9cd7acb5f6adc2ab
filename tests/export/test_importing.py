"""Checkpoints of other trainers: their names, their wrappers, their pickles, and their traps."""

import argparse
import os
import sys
import types
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from fromscratch.checkpoint.bundle import load_bundle
from fromscratch.export.importing import import_checkpoint
from fromscratch.foundation.errors import UserError
from tests.export.making import VOCAB, tokenizer
from tests.random_weights import randomise

SHAPE = {"vocab_size": VOCAB + 4, "n_positions": 40, "n_embd": 48, "n_layer": 2, "n_head": 3}
ACTIVATION = {"gelu": "gelu", "gelu_tanh": "gelu_new"}


def truth(activation: str, *, tied: bool = True) -> GPT2LMHeadModel:
    """The model that all these checkpoints are: transformers' own GPT-2."""
    config = GPT2Config(
        **SHAPE,
        activation_function=ACTIVATION[activation],
        tie_word_embeddings=tied,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
    )
    model = GPT2LMHeadModel(config).eval()
    randomise(model)
    return model


def linear(model: GPT2LMHeadModel) -> dict[str, torch.Tensor]:
    """nanoGPT's state dict: the same names with Linear layers, (out, in)."""
    return {
        name: tensor.t().contiguous() if ".h." in name and tensor.ndim == 2 else tensor.clone()
        for name, tensor in model.state_dict().items()
    }


def renamed(state: dict[str, torch.Tensor], names: dict[str, str]) -> dict[str, torch.Tensor]:
    found = {}
    for name, tensor in state.items():
        new = name.removeprefix("transformer.")
        for theirs, other in names.items():
            new = new.replace(theirs, other)
        found[new] = tensor
    return found


RANGEFLOW = {
    "h.": "blocks.", "wte": "token_embed", "wpe": "pos_embed", "ln_f": "ln_final",
    "lm_head": "head", "attn.c_attn": "attn.qkv_proj", "attn.c_proj": "attn.out_proj",
    "mlp.c_fc": "ff.linear1", "mlp.c_proj": "ff.linear2", "ln_1": "ln1", "ln_2": "ln2",
}  # fmt: skip
BOOK = {
    "h.": "trf_blocks.", "wte": "tok_emb", "wpe": "pos_emb", "ln_f.weight": "final_norm.scale",
    "ln_f.bias": "final_norm.shift", "lm_head": "out_head", "attn.c_proj": "att.out_proj",
    "mlp.c_fc": "ff.layers.0", "mlp.c_proj": "ff.layers.2", "ln_1.weight": "norm1.scale",
    "ln_1.bias": "norm1.shift", "ln_2.weight": "norm2.scale", "ln_2.bias": "norm2.shift",
}  # fmt: skip


def book(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Queries, keys and values apart, and each layer's causal mask among the weights."""
    found = {}
    for name, tensor in renamed(state, BOOK).items():
        if "attn.c_attn" in name:
            stem, _, end = name.replace("attn.c_attn", "att.W_{}").rpartition(".")
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                found[f"{stem.format(part)}.{end}"] = rows.clone()
        else:
            found[name] = tensor
    for layer in range(2):
        found[f"trf_blocks.{layer}.att.mask"] = torch.ones(40, 40).triu(1)
    return found


def wrapped(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def as_class(**values: object) -> object:
    """An object of a class that nobody else has: the author's `GPTConfig`, in `__main__`."""
    made = types.new_class("GPTConfig")
    made.__module__ = "__main__"
    sys.modules["__main__"].GPTConfig = made  # type: ignore[attr-defined]
    instance = made()
    instance.__dict__.update(values)
    return instance


def nanogpt(state):
    arguments = {"n_head": 3, "n_layer": 2, "n_embd": 48, "bias": True}
    whole = wrapped(state, "_orig_mod.")
    return {"model": whole, "optimizer": {}, "model_args": arguments, "iter_num": 7}


CHECKPOINTS = {
    "nanogpt": (nanogpt, "gelu", [], 7),
    "build-nanogpt": (
        lambda state: {"model": state, "config": as_class(n_head=3, block_size=40), "step": 3},
        "gelu_tanh",
        ["activation=gelu_tanh"],
        3,
    ),
    "fgpt": (
        lambda state: {"model_state_dict": wrapped(state, "_orig_mod."), "step": 5},
        "gelu",
        ["n_head=3"],
        5,
    ),
    "rangeflow": (
        lambda state: {
            "model_state_dict": wrapped(renamed(state, RANGEFLOW), "_orig_mod.module."),
            "global_step": 9900,
            "args": argparse.Namespace(n_heads=3),
        },
        "gelu",
        [],
        9900,
    ),
    "the book": (book, "gelu_tanh", ["n_head=3"], None),
    "a bare state dict": (lambda state: state, "gelu", ["model.n_head=3"], None),
}


@pytest.mark.parametrize(
    ("made", "activation", "overrides", "step"), CHECKPOINTS.values(), ids=CHECKPOINTS
)
def test_a_checkpoint_is_the_model_that_it_was(made, activation, overrides, step, tmp_path):
    theirs = truth(activation)
    torch.save(made(linear(theirs)), tmp_path / "checkpoint_step_9900.pt")
    tokenizer().save(tmp_path)
    found = import_checkpoint(
        tmp_path / "checkpoint_step_9900.pt", tmp_path / "out", overrides=overrides
    )
    assert found.step == step
    assert found.config.padded_vocab == VOCAB + 4
    assert found.config.tie_embeddings
    assert found.is_doubtful  # its weights are random, so English is noise to it
    ours = load_bundle(tmp_path / "out").model
    ids = torch.arange(80).reshape(2, 40)
    with torch.no_grad():
        reference = theirs(ids).logits[..., :VOCAB]
        torch.testing.assert_close(ours(ids)[..., :VOCAB], reference, atol=1e-4, rtol=0)


def test_openais_layout_in_a_file_of_its_own(tmp_path):
    """Matrices (in, out), no prefix, masks among the weights: as the released files are."""
    theirs = truth("gelu_tanh")
    state = {n.removeprefix("transformer."): t for n, t in theirs.state_dict().items()}
    del state["lm_head.weight"]
    state["h.0.attn.bias"] = torch.ones(1, 1, 40, 40).tril()
    torch.save(state, tmp_path / "gpt.bin")
    tokenizer().save(tmp_path)
    import_checkpoint(tmp_path / "gpt.bin", tmp_path / "out", overrides=["n_head=3"])
    ids = torch.arange(40)[None]
    with torch.no_grad():
        ours = load_bundle(tmp_path / "out").model(ids)[..., :VOCAB]
        torch.testing.assert_close(ours, theirs(ids).logits[..., :VOCAB], atol=1e-4, rtol=0)


def test_a_hugging_face_folder_with_a_pickle(tmp_path):
    theirs = truth("gelu", tied=False)
    theirs.config.save_pretrained(tmp_path)
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    tokenizer().save(tmp_path)
    with pytest.raises(UserError, match="fromscratch import"):
        load_bundle(tmp_path)
    found = import_checkpoint(tmp_path, tmp_path / "out")
    assert "GPT2LMHeadModel" in found.compared_with
    ids = torch.arange(40)[None]
    with torch.no_grad():
        ours = load_bundle(tmp_path / "out").model(ids)[..., :VOCAB]
        torch.testing.assert_close(ours, theirs(ids).logits[..., :VOCAB], atol=1e-4, rtol=0)


# --- what must not happen -------------------------------------------------------------------------


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, what: object, *given: object) -> None:
        self.what, self.given = what, given

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.what, self.given  # type: ignore[return-value]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ["system", "exec", "eval", "import", "class of torch"])
def test_a_pickle_runs_nothing(name, legacy, tmp_path):
    mark = tmp_path / "it-ran"
    code = f"open({str(mark)!r}, 'w').close()"
    evil = {
        "system": Evil(os.system, f"touch {mark}"),
        "exec": Evil(exec, code),
        "eval": Evil(eval, code),
        "import": Evil(__import__, "antigravity"),
        "class of torch": Evil(torch.hub.load, str(tmp_path), "x"),
    }[name]
    content = {"model_state_dict": linear(truth("gelu")), "config": evil}
    torch.save(content, tmp_path / "evil.pt", _use_new_zipfile_serialization=not legacy)
    tokenizer().save(tmp_path)
    with pytest.raises(UserError, match=r"called when it is opened|cannot be read"):
        import_checkpoint(tmp_path / "evil.pt", tmp_path / "out", overrides=["n_head=3"])
    assert not mark.exists()
    assert "antigravity" not in sys.modules
    assert not (tmp_path / "out").exists()


def test_a_stand_in_runs_nothing_of_its_class(tmp_path):
    """A class outside Python's library is read as values only, even where it could be imported."""
    mark = tmp_path / "it-ran"
    module = types.ModuleType("its_own")
    code = f"class Config:\n    def __setstate__(self, s):\n        open({str(mark)!r}, 'w')\n"
    exec(code, module.__dict__)
    module.Config.__module__ = "its_own"
    sys.modules["its_own"] = module
    try:
        config = module.Config()
        config.n_head = 3
        torch.save({"model": linear(truth("gelu")), "config": config}, tmp_path / "c.pt")
        tokenizer().save(tmp_path)
        found = import_checkpoint(tmp_path / "c.pt", tmp_path / "out")
    finally:
        del sys.modules["its_own"]
    assert found.config.n_head == 3
    assert not mark.exists()


def test_the_number_of_heads_is_asked_for(tmp_path):
    torch.save(linear(truth("gelu")), tmp_path / "c.pt")
    tokenizer().save(tmp_path)
    with pytest.raises(UserError, match=r"how many heads.*: 1, 2, 3, 4, 6\."):
        import_checkpoint(tmp_path / "c.pt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_number_of_heads_that_predicts_best_is_named(tmp_path):
    """Loud logits make it matter: the named one's loss is the least of all that can be imported."""
    state = linear(truth("gelu"))
    for name in ("transformer.ln_f.weight", "transformer.ln_f.bias"):
        state[name] *= 300
    torch.save(state, tmp_path / "c.pt")
    tokenizer().save(tmp_path)
    with pytest.raises(UserError, match="predicts best with") as raised:
        import_checkpoint(tmp_path / "c.pt", tmp_path / "out")
    losses = {}
    for n_head in (1, 2, 3, 4, 6):
        given = [f"n_head={n_head}"]
        found = import_checkpoint(tmp_path / "c.pt", tmp_path / f"{n_head}", overrides=given)
        losses[n_head] = found.loss
    best, next_best = sorted(losses, key=losses.get)[:2]
    assert f"n_head={best}." in raised.value.fix
    assert f"best with {best} ({losses[best]:.2f}" in raised.value.what
    assert f"with {next_best} {losses[next_best]:.2f})" in raised.value.what


MISTAKES = {
    "a tensor that no GPT has": (lambda s: s | {"moe.gate": torch.ones(3)}, [], r"moe\.gate"),
    "a layer is missing": (
        lambda s: {n: t for n, t in s.items() if ".h.0." not in n},
        [],
        "lacks a layer",
    ),
    "half a layer": (
        lambda s: {n: t for n, t in s.items() if n != "transformer.h.1.mlp.c_fc.weight"},
        [],
        r"lacks up\.weight of layer 1",
    ),
    "layers of two widths": (
        lambda s: s | {"transformer.h.1.mlp.c_fc.bias": torch.ones(5)},
        [],
        "do not make one model",
    ),
    "heads that do not divide": (lambda s: s, ["n_head=5"], "does not divide"),
    "a width that shapes tell": (lambda s: s, ["d_model=64"], "no shape tells"),
    "no weights": (lambda s: {"epoch": 3}, [], "no weights"),
    "a list": (lambda s: [1, 2], [], "not a state dict"),
}


@pytest.mark.parametrize(("change", "overrides", "match"), MISTAKES.values(), ids=MISTAKES)
def test_what_is_no_model_is_refused(change, overrides, match, tmp_path):
    torch.save(change(linear(truth("gelu"))), tmp_path / "c.pt")
    tokenizer().save(tmp_path)
    with pytest.raises(UserError, match=match):
        import_checkpoint(tmp_path / "c.pt", tmp_path / "out", overrides=overrides or ["n_head=3"])
    assert not (tmp_path / "out").exists()


def test_a_cut_off_file_and_a_missing_tokenizer(tmp_path):
    path = tmp_path / "c.pt"
    torch.save(linear(truth("gelu")), path)
    with pytest.raises(UserError, match="no tokenizer beside"):
        import_checkpoint(path, tmp_path / "out", overrides=["n_head=3"])
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match="cannot be read"):
        import_checkpoint(path, tmp_path / "out", overrides=["n_head=3"])
    with pytest.raises(UserError, match="not a file"):
        import_checkpoint(Path(tmp_path / "nowhere.pt"), tmp_path / "out")
