"""Models of the hub: the real client and cache against a server that speaks the hub's protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from fromscratch.checkpoint.bundle import load_bundle
from fromscratch.checkpoint.hub_model import hub_model_folder, is_hub_name
from fromscratch.data.hub_repository import Patience
from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.build import bytes_tokenizer
from tests.data.hub_server import HubServer, Trouble

QUICK = Patience(attempts=3, first_pause=0.01, tell=lambda message: None)


@pytest.fixture(scope="module", params=["one file", "several files"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(2)
    config = GPT2Config(vocab_size=257, n_positions=16, n_embd=24, n_layer=2, n_head=3)
    size = "20KB" if request.param == "several files" else "1GB"
    GPT2LMHeadModel(config).save_pretrained(folder, max_shard_size=size)
    bytes_tokenizer().save(folder)
    return folder, {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.fixture
def fetch(hub: HubServer, tmp_path: Path) -> Callable[[str], Path]:
    def call(name: str) -> Path:
        return hub_model_folder(
            name, endpoint=hub.endpoint, cache=tmp_path / "cache", patience=QUICK
        )

    return call


def test_a_model_arrives_whole_and_nothing_else_does(hub, files, fetch) -> None:
    folder, content = files
    rest = {"pytorch_model.bin": b"x" * 9, "onnx/model.safetensors": b"y" * 9, "README.md": b"z"}
    hub.add("org/small", content | rest, kind="models")
    got = fetch("org/small")
    assert load_bundle(got).sha256 == load_bundle(folder).sha256
    here = load_bundle(folder).model.state_dict()
    for name, tensor in load_bundle(got).model.state_dict().items():
        assert torch.equal(tensor, here[name])
    asked = [s.path for s in hub.seen if s.method == "GET"]
    assert not [p for p in asked if any(name in p for name in rest)]
    # A second time, only what the revision is now is asked.
    before = len(hub.fetches())
    assert fetch("hf:org/small") == got
    assert len(hub.fetches()) == before


def test_a_revision_is_the_one_that_was_named(hub, files, fetch) -> None:
    _, content = files
    repo = hub.add("org/small", content, kind="models")
    first = repo.refs["main"]
    second = repo.commit(content | {"generation_config.json": b"{}"})
    repo.commit(content | {"config.json": b"{}"}, ref="broken")
    assert fetch("org/small").name == second
    assert fetch(f"org/small@{first}").name == first
    with pytest.raises(UserError, match="model_type"):
        load_bundle(fetch("org/small@broken"))
    with pytest.raises(UserError, match=r"no such revision.*org/small/tree/main"):
        fetch("org/small@v9")


def test_without_a_hub_the_cache_answers(hub, files, fetch, tmp_path) -> None:
    _, content = files
    hub.add("org/small", content, kind="models")
    got = fetch("org/small")
    hub.trouble.append(Trouble("/api/", "status", times=99, status=503))
    assert fetch("org/small") == got
    with pytest.raises(UserError, match=r"org/other does not exist here\. The hub did not give"):
        fetch("org/other")
    # Half a download does not pass for a whole one.
    for weights in got.glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(UserError, match="HTTP 503"):
        fetch("org/small")


def test_trouble_that_passes_is_passed_over(hub, files, fetch) -> None:
    _, content = files
    hub.add("org/small", content, kind="models")
    for where in ("/api/models/org/small", "/tree/"):
        hub.trouble.append(Trouble(where, "status", status=503))
    load_bundle(fetch("org/small"))
    assert not any(trouble.times for trouble in hub.trouble)


def test_what_is_not_there_is_said(hub, files, fetch) -> None:
    _, content = files
    hub.add("org/small", content, kind="models")
    hub.add("org/words", {"train.txt": b"words"})
    hub.add("org/pickled", {"config.json": b"{}", "pytorch_model.bin": b"x"}, kind="models")
    hub.add("org/shut", content, kind="models").refused = (403, "GatedRepo")
    with pytest.raises(UserError, match=r'no model "org/smal", or it is private. There is org/sm'):
        fetch("org/smal")
    with pytest.raises(UserError, match="org/words is a data set on the hub, not a model"):
        fetch("org/words")
    with pytest.raises(UserError, match=r"no model.safetensors on the hub"):
        fetch("org/pickled")
    with pytest.raises(UserError, match=r"gated.*127.0.0.1:\d+/org/shut, then"):
        fetch("org/shut")
    with pytest.raises(UserError, match='"hf:small" does not name a model'):
        fetch("hf:small")


def test_paths_are_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    paths = ("models/gpt2", "runs/nowhere", "./a/b", "../a", "gpt2", "a/b/c", "~/a", "/a/b")
    names = dict.fromkeys(paths, False)
    names |= {"openai-community/gpt2": True, "hf:gpt2": True, "a/b@main": True}
    assert {name: is_hub_name(name) for name in names} == names
