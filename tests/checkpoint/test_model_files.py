"""Weights in one file or in several, and what is refused; how much memory a load takes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, Qwen3Config
from transformers import Qwen3ForCausalLM as Qwen3

from fromscratch.checkpoint.bundle import load_bundle, read_model_config
from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.build import bytes_tokenizer

INDEX = "model.safetensors.index.json"


def made(kind: str, folder: Path, **saving: object) -> None:
    torch.manual_seed(1)
    if kind == "gpt2":
        model: torch.nn.Module = GPT2LMHeadModel(
            GPT2Config(vocab_size=257, n_positions=16, n_embd=24, n_layer=2, n_head=3)
        )
    else:
        model = Qwen3(
            Qwen3Config(
                vocab_size=257, max_position_embeddings=16, hidden_size=32, head_dim=8,
                intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                num_key_value_heads=2,
            )
        )  # fmt: skip
    model.save_pretrained(folder, **saving)
    bytes_tokenizer().save(folder)


@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
def test_a_model_in_several_files_is_the_same_model(kind: str, tmp_path: Path) -> None:
    made(kind, tmp_path / "one")
    made(kind, tmp_path / "many", max_shard_size="20KB")
    files = sorted(p.name for p in (tmp_path / "many").glob("*.safetensors"))
    assert len(files) > 2
    one, many = load_bundle(tmp_path / "one"), load_bundle(tmp_path / "many")
    weights = one.model.state_dict()
    assert weights.keys() == many.model.state_dict().keys()
    for name, tensor in many.model.state_dict().items():
        assert torch.equal(tensor, weights[name])
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "many").eval()
    ids = torch.arange(16)[None]
    with torch.no_grad():
        torch.testing.assert_close(many.model(ids), theirs(ids).logits, atol=1e-4, rtol=0)
    # What `sha256sum *.safetensors | sha256sum` prints.
    lines = "".join(
        f"{hashlib.sha256((tmp_path / 'many' / name).read_bytes()).hexdigest()}  {name}\n"
        for name in files
    )
    assert many.sha256 == hashlib.sha256(lines.encode()).hexdigest()


def edited(folder: Path, change) -> None:
    index = json.loads((folder / INDEX).read_text())
    change(index["weight_map"])
    (folder / INDEX).write_text(json.dumps(index))


def test_several_files_that_do_not_fit_the_index_are_refused(tmp_path: Path) -> None:
    made("gpt2", tmp_path, max_shard_size="20KB")
    first, second, *_ = sorted(p.name for p in tmp_path.glob("*.safetensors"))
    before = (tmp_path / INDEX).read_text()
    edited(tmp_path, lambda names: names.update({"transformer.wte.weight": "../other.safetensors"}))
    with pytest.raises(UserError, match="not a file of its own folder"):
        load_bundle(tmp_path)
    (tmp_path / INDEX).write_text(before)
    tensors = load_file(tmp_path / first)
    name = next(iter(tensors))
    edited(tmp_path, lambda names: names.update({name: second}))
    with pytest.raises(UserError, match="disagree about 1 tensors"):
        load_bundle(tmp_path)
    (tmp_path / INDEX).write_text(before)
    save_file({"x": torch.zeros(1)}, tmp_path / first)
    with pytest.raises(UserError, match="disagree"):
        load_bundle(tmp_path)
    (tmp_path / first).unlink()
    with pytest.raises(UserError, match=rf"lacks {first}.*Download the model again"):
        load_bundle(tmp_path)
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(UserError, match="no weight_map"):
        load_bundle(tmp_path)


def test_pickles_are_refused_with_what_to_do(tmp_path: Path) -> None:
    made("gpt2", tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model.bin, a pickle.*Take the model's model.saf"):
        load_bundle(tmp_path)
    with pytest.raises(UserError, match="a pickle"):
        read_model_config(tmp_path)


MEASURE = """
import os, sys
from pathlib import Path
from fromscratch.checkpoint.bundle import load_model

statm = open("/proc/self/statm", "rb")

def held():
    # Kilobytes that are this process's alone. Pages of a mapped file are not: the kernel takes them
    # back when it likes, and how many it brings at a time is its own affair.
    resident, shared = os.pread(statm.fileno(), 200, 0).split()[1:3]
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE") // 1024

most = 0
def look(*event):  # at every call and every return
    global most
    most = max(most, held())

small, *large = map(Path, sys.argv[1:])
load_model(small)  # what is imported and made once
for folder in large:
    before = most = held()
    sys.setprofile(look)
    model = load_model(folder)
    sys.setprofile(None)
    print(most - before, sum(p.numel() * p.element_size() for p in model.parameters()) // 1024)
    del model
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of a process")
def test_a_model_is_in_memory_once(tmp_path: Path) -> None:
    with torch.device("meta"):
        large = {
            "gpt2": GPT2LMHeadModel(
                GPT2Config(vocab_size=8_000, n_positions=64, n_embd=512, n_layer=5, n_head=4)
            ),
            "qwen3 in bfloat16": Qwen3(
                Qwen3Config(
                    vocab_size=8_000, max_position_embeddings=64, hidden_size=512, head_dim=64,
                    intermediate_size=1536, num_hidden_layers=5, num_attention_heads=8,
                    num_key_value_heads=4,
                )
            ).bfloat16(),
        }  # fmt: skip
    for name, meta in large.items():
        model = meta.to_empty(device="cpu")
        for parameter in model.parameters():
            torch.nn.init.zeros_(parameter)
        model.save_pretrained(tmp_path / name)
    made("gpt2", tmp_path / "small")
    folders = [str(tmp_path / name) for name in ("small", *large)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *folders], capture_output=True, text=True, check=True
    )
    for name, line in zip(large, done.stdout.splitlines(), strict=True):
        grown, weights = map(int, line.split())
        assert weights > 60_000
        assert grown < 1.25 * weights, f"{name}: {grown} kB for {weights} kB of weights"
