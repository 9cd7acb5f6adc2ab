"""The Space: app.py with the real transformers; gradio's page is a stub, or the real one."""

import importlib
import itertools
import json
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import torch

from fromscratch.chat.conversations import Message
from fromscratch.chat.rendering import prompt_ids, stop_ids
from fromscratch.export.to_space import export_space
from fromscratch.generate.engine import generate_ids
from fromscratch.generate.sampling import SamplingOptions
from tests.export.making import bundle

GREEDY = SamplingOptions(temperature=0.0, top_k=0, top_p=1.0, seed=0)


@pytest.fixture
def app_of(monkeypatch):
    """Imports an exported app.py; gradio is a thing that takes whatever it is given."""
    page = types.SimpleNamespace(launch=lambda: None)
    stub = types.ModuleType("gradio")
    for name in ("ChatInterface", "Textbox", "Slider"):
        setattr(stub, name, lambda *_, **__: page)
    monkeypatch.setitem(sys.modules, "gradio", stub)

    def load(folder: Path):
        spec = importlib.util.spec_from_file_location("app_of_the_space", folder / "app.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_a_chat_model_answers_as_ours_does(app_of, tmp_path):
    model = bundle(chat="default", context=96)
    export_space(model, tmp_path / "space", name="me/moby", licence="mit")
    app = app_of(tmp_path / "space")
    assert app.CHATS
    assert app.TITLE == "moby"
    pieces = list(app.answer("Hi <|end|>?", [], "Be brief.", 20, 0.0, 1.0))
    asked = (Message("system", "Be brief."), Message("user", "Hi <|end|>?"))
    prompt = prompt_ids(model.template, model.tokenizer, asked)
    stops = stop_ids(model.template, model.tokenizer)
    ours = list(
        generate_ids(model.model, prompt, max_new_tokens=20, options=GREEDY, stop_ids=stops)
    )
    assert pieces[-1] == app.tokenizer.decode(ours, skip_special_tokens=True)
    assert all(later.startswith(sooner) for sooner, later in itertools.pairwise(pieces))


def test_the_oldest_turns_go_where_the_context_is_full(app_of, tmp_path):
    model = bundle(chat="default", context=96)
    export_space(model, tmp_path / "space")
    app = app_of(tmp_path / "space")
    long = "The cat sat on the mat. " * 2
    parts = [{"type": "text", "text": long}]  # as gradio hands messages over, in parts
    history = [{"role": role, "content": parts} for _ in range(9) for role in ("user", "assistant")]
    ids = app.prompt_of("And then?", history, "Be brief.", 60)
    assert 20 < len(ids) <= 60
    last = prompt_ids(model.template, model.tokenizer, (Message("user", "And then?"),))
    assert ids[-len(last) :] == last
    start = prompt_ids(model.template, model.tokenizer, (Message("system", "Be brief."),) * 1)
    assert ids[: len(start) - 1] == start[:-1]  # the system's words stay
    assert list(app.answer("And then?", history, "", 500, 0.7, 0.9))


def test_a_base_model_continues_the_text(app_of, tmp_path):
    model = bundle("gpt2")
    made = export_space(model, tmp_path / "space", dtype="bfloat16")
    assert made.rounding.largest > 0
    app = app_of(tmp_path / "space")
    assert not app.CHATS
    assert list(app.answer("The cat", [], "", 5, 0.0, 1.0))[-1].startswith("The cat")
    assert list(app.answer("", [], "", 5, 0.0, 1.0))
    header, requirements = (
        (tmp_path / "space" / name).read_text() for name in ("README.md", "requirements.txt")
    )
    assert 'app_file: "app.py"' in header
    version = json.loads(header.split("sdk_version: ")[1].split("\n")[0])
    assert f"gradio=={version}\n" in requirements


def test_a_reader_who_leaves_ends_the_generation(app_of, tmp_path):
    export_space(bundle("gpt2", context=400), tmp_path / "space")
    app = app_of(tmp_path / "space")
    steps = []
    forward = app.model.forward

    def counting(*given, **named):
        steps.append(1)
        return forward(*given, **named)

    app.model.forward = counting
    app.model.generation_config.eos_token_id = None
    answer = app.answer("The", [], "", 390, 1.0, 1.0)
    next(answer)
    answer.close()
    time.sleep(0.2)
    so_far = len(steps)
    time.sleep(0.3)
    assert len(steps) == so_far < 390
    assert torch.is_grad_enabled()


@pytest.mark.slow
def test_the_real_page_starts_and_answers(tmp_path):
    client = pytest.importorskip("gradio_client", reason="gradio is not installed")
    pytest.importorskip("gradio", reason="gradio is not installed")
    export_space(bundle(chat="default", context=96), tmp_path / "space")
    port = 20000 + os.getpid() % 20000
    settings = {
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_OFFLINE": "1",
    }
    page = subprocess.Popen(
        [sys.executable, "app.py"], cwd=tmp_path / "space", env=os.environ | settings
    )
    try:
        for _ in range(240):
            assert page.poll() is None
            try:
                talking = client.Client(f"http://127.0.0.1:{port}", verbose=False)
                break
            except Exception:
                time.sleep(1)
        found = talking.predict("Hi", "", 12, 0.0, 1.0, api_name="/answer")
    finally:
        page.terminate()
        page.wait()
    assert isinstance(found, str)
    assert found
