"""The Python of docs/generate.md runs, and its table of options is the options."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from typed_commands import ROOT, blocks

from fromscratch.checkpoint.bundle import save_model
from fromscratch.generate.sampling import SamplingOptions
from fromscratch.model import int8
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.tokenizer.build import bytes_tokenizer

PAGE = "docs/generate.md"


def test_its_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    tokenizer = bytes_tokenizer()
    config = ModelConfig(
        n_layer=1, n_head=2, d_model=16, context=64, vocab_size=tokenizer.vocab_size
    )
    (tmp_path / "my-model").mkdir()
    save_model(tmp_path / "my-model", GPT(config), tokenizer)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    texts = [block.text for block in blocks(PAGE, "python")]
    assert len(texts) == 4
    for text in texts:
        if "int8" not in text or int8.is_supported():
            exec(text, names)
    said = capsys.readouterr().out
    assert re.search(r"^(stop|length)$", said, re.MULTILINE)
    assert len(re.findall(r" (?:stop|length)$", said, re.MULTILINE)) == 4


def test_its_table_names_every_option_with_its_default():
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `(\w+)` \| ([^ ]+) \|", page, re.MULTILINE))
    defaults = {
        field.name: getattr(SamplingOptions(), field.name) for field in fields(SamplingOptions)
    }
    assert told.pop("logit_bias") == "none"
    assert defaults.pop("logit_bias") == {}
    assert {name: float(value) for name, value in told.items()} == defaults
