"""A model that is given a chat template: new ids, the old ones as they were, read by others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fromscratch.chat.conversations import Message
from fromscratch.chat.rendering import prompt_ids
from fromscratch.chat.template import template_named, template_names
from fromscratch.checkpoint.bundle import ModelBundle, load_bundle, save_model, with_template
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.tokenizer.build import bytes_tokenizer

ASKED = (Message("user", "Say <|end|>."),)


def base(family: str, *, padded_vocab: int, tied: bool) -> ModelBundle:
    config = ModelConfig(
        family=family, n_layer=2, n_head=2, d_model=16, context=256, vocab_size=257,
        padded_vocab=padded_vocab, tie_embeddings=tied,
    )  # fmt: skip
    return ModelBundle(GPT(config, seed=3).eval(), bytes_tokenizer(), Path("base"), "0" * 64)


@pytest.mark.parametrize("name", template_names())
@pytest.mark.parametrize(
    ("family", "padded_vocab", "tied"),
    [("gpt2", 320, True), ("modern", 320, False), ("gpt2", 257, True), ("modern", 258, False)],
)
def test_old_ids_stay_as_they_are_and_others_read_the_model(
    name: str, family: str, padded_vocab: int, tied: bool, tmp_path: Path
) -> None:
    bundle, before = (base(family, padded_vocab=padded_vocab, tied=tied) for _ in range(2))
    template = template_named(name)
    chatty = with_template(bundle, template)
    added = sum(token != "<|endoftext|>" for token in template.special_tokens)
    config = chatty.model.config
    assert config.vocab_size == 257 + added == chatty.tokenizer.vocab_size
    fits = config.vocab_size <= padded_vocab
    assert config.padded_vocab == (padded_vocab if fits else 320)
    ids = torch.tensor([list(b"what was there")])
    with torch.no_grad():
        new, old = chatty.model(ids), before.model(ids)
    assert torch.equal(new[..., :257], old[..., :257])
    assert torch.isfinite(new[..., 257 : config.vocab_size]).all()
    assert torch.isneginf(new[..., config.vocab_size :]).all()
    rows = chatty.model.embed.weight[257 : config.vocab_size]
    assert len(torch.unique(rows, dim=0)) == added  # no two roles are the same
    mean = before.model.embed.weight[:257].mean(0)
    torch.testing.assert_close(rows, mean.expand_as(rows), atol=0.002, rtol=0)

    save_model(tmp_path, chatty.model, chatty.tokenizer, template)
    again = load_bundle(tmp_path)
    assert again.template is template
    prompt = prompt_ids(template, again.tokenizer, ASKED)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    dicts = [{"role": "user", "content": ASKED[0].content}]
    theirs = tokenizer.apply_chat_template(
        dicts, add_generation_prompt=True, return_tensors="pt", return_dict=False
    )
    assert theirs[0].tolist() == prompt
    other = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert again.tokenizer.special_ids[template.end_of_turn] in _as_list(
        other.generation_config.eos_token_id
    )
    with torch.no_grad():
        ours = again.model(theirs)[..., : config.vocab_size]
        torch.testing.assert_close(other(theirs).logits, ours, atol=1e-4, rtol=0)


def _as_list(value: int | list[int]) -> list[int]:
    return value if isinstance(value, list) else [value]


def test_a_second_template_keeps_the_first_ones_ids() -> None:
    bundle = with_template(base("gpt2", padded_vocab=320, tied=True), template_named("fgpt"))
    before = dict(bundle.tokenizer.special_ids)
    again = with_template(replace(bundle), template_named("default"))
    assert before.items() <= again.tokenizer.special_ids.items()
    assert again.model.config.vocab_size == 257 + 4


def test_a_base_model_has_no_template(tmp_path: Path) -> None:
    bundle = base("gpt2", padded_vocab=257, tied=True)
    save_model(tmp_path, bundle.model, bundle.tokenizer)
    assert load_bundle(tmp_path).template is None
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert "chat_template" not in config
    assert '"Replace"' not in (tmp_path / "tokenizer.json").read_text()
