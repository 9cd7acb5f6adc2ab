"""Ids, masks and stop ids of conversations; held against transformers' `apply_chat_template`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from fromscratch.chat.conversations import Message, messages_of
from fromscratch.chat.rendering import (
    Rendered,
    prompt_ids,
    render_ids,
    render_text,
    stop_ids,
    text_template,
)
from fromscratch.chat.template import template_named, template_names
from fromscratch.checkpoint.chat_template import chat_entries, has_foreign_template, template_in
from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.build import bytes_tokenizer, gpt2_tokenizer, train_bpe
from fromscratch.tokenizer.marks import MARK
from fromscratch.tokenizer.special import with_special_tokens
from fromscratch.tokenizer.tokenizer import Tokenizer, load_tokenizer

NAMES = template_names()
TURNS = (
    Message("system", "Be brief."),
    Message("user", "Add them.", context="1 and 1"),
    Message("assistant", "2"),
    Message("user", "And <|end|>?"),
    Message("assistant", "No."),
)


def ready(base: Tokenizer, name: str) -> Tokenizer:
    return with_special_tokens(base, template_named(name).special_tokens)


def spelled(tokenizer: Tokenizer, rendered: Rendered, *, learned: bool | None = None) -> str:
    """The ids as text, special tokens by name; only those that are learned, or not, if asked."""
    names = {i: name for name, i in tokenizer.special_ids.items()}
    return "".join(
        names.get(i) or tokenizer.decode([i])
        for i, mark in zip(rendered.ids, rendered.supervised, strict=True)
        if learned is None or mark == learned
    )


def test_each_template_letter_by_letter() -> None:
    shown = {
        name: spelled(
            ready(bytes_tokenizer(), name),
            render_ids(template_named(name), ready(bytes_tokenizer(), name), TURNS),
        )
        for name in NAMES
    }
    assert shown == {
        "default": "<|system|>Be brief.<|end|><|user|>Add them.\n\n1 and 1<|end|>"
        "<|assistant|>2<|end|><|user|>And <|end|>?<|end|><|assistant|>No.<|end|>",
        "fgpt": "<|user|>Be brief.\n\nAdd them.\n\n1 and 1<|assistant|>2<|endoftext|>"
        "<|user|>And <|end|>?<|assistant|>No.<|endoftext|>",
        "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nAdd them.\n\n1 and 1"
        "<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n<|im_start|>user\nAnd <|end|>?<|im_end|>\n"
        "<|im_start|>assistant\nNo.<|im_end|>\n",
        "alpaca": "Be brief.\n\n### Instruction:\nAdd them.\n\n### Input:\n1 and 1\n\n### Response:"
        "\n2<|endoftext|>\n\n### Instruction:\nAnd <|end|>?\n\n### Response:\nNo.<|endoftext|>",
    }


@pytest.mark.parametrize("name", NAMES)
def test_what_is_learned_is_each_answer_with_its_end(name: str) -> None:
    tokenizer, template = ready(bytes_tokenizer(), name), template_named(name)
    rendered = render_ids(template, tokenizer, TURNS)
    end = template.end_of_turn
    assert spelled(tokenizer, rendered, learned=True) == f"2{end}No.{end}"
    assert stop_ids(template, tokenizer)[0] == tokenizer.special_ids[end]
    everything = render_ids(template, tokenizer, TURNS, loss_on="all")
    assert everything.ids == rendered.ids
    assert all(everything.supervised)


contents = st.one_of(
    st.text(max_size=12),
    st.lists(
        st.sampled_from(
            ["<|user|>", "<|end|>", "<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|", "|>", "<",
             "\n", "  ", "Hello", " world", "{{ 1 }}", "{% if %}", "'", "\\n", "é", "👩‍🚀", MARK]
        ),
        max_size=6,
    ).map("".join),
).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text))  # fmt: skip


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    messages = [Message("system", draw(contents))] if draw(st.booleans()) else []
    for role in draw(st.lists(st.sampled_from(["user", "assistant"]), min_size=1, max_size=4)):
        context = draw(contents) if role == "user" and draw(st.booleans()) else ""
        messages.append(Message(role, draw(contents), context))  # type: ignore[arg-type]
    return tuple(messages)


@pytest.fixture(scope="module", params=["gpt2", "bpe"])
def base(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "gpt2":
        request.getfixturevalue("gpt2_vocabulary")
        return gpt2_tokenizer()
    return train_bpe(["user assistant system <|user|> hello world\n\n"] * 9, vocab_size=300)


@pytest.fixture(scope="module", params=NAMES)
def folder(
    request: pytest.FixtureRequest, base: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Tokenizer, Any]:
    """A template's name, a folder with its tokenizer, that tokenizer, and transformers' own."""
    name: str = request.param
    tokenizer = ready(base, name)
    path = tmp_path_factory.mktemp(name)
    tokenizer.save(path, context=64, chat=chat_entries(template_named(name), tokenizer))
    return name, path, tokenizer, AutoTokenizer.from_pretrained(path)


def as_dicts(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content, "context": m.context} for m in messages]


@given(messages=conversations())
@settings(max_examples=120, deadline=None)
def test_transformers_gives_the_same_ids(
    folder: tuple[str, Path, Tokenizer, Any], messages: tuple[Message, ...]
) -> None:
    name, _, tokenizer, theirs = folder
    template = template_named(name)
    rendered = render_ids(template, tokenizer, messages)
    ids = theirs.apply_chat_template(as_dicts(messages), tokenize=True, return_dict=False)
    assert ids == rendered.ids
    # As many special tokens as the template puts there, whatever the messages say.
    special = set(tokenizer.special_ids.values())
    pieces = [piece for piece in template.pieces(messages) if piece.special]
    assert sum(i in special for i in rendered.ids) == len(pieces)
    words = "".join(m.content + m.context for m in messages).replace(MARK, "")
    assert len(tokenizer.decode(rendered.ids)) >= len(words)
    if messages[-1].role == "user":
        asked = theirs.apply_chat_template(
            as_dicts(messages), tokenize=True, add_generation_prompt=True, return_dict=False
        )
        assert asked == prompt_ids(template, tokenizer, messages)


@given(messages=conversations(), answer=contents)
@settings(max_examples=60, deadline=None)
def test_a_prompt_is_the_beginning_of_what_was_learned(
    folder: tuple[str, Path, Tokenizer, Any], messages: tuple[Message, ...], answer: str
) -> None:
    name, _, tokenizer, _ = folder
    template = template_named(name)
    asked = (*messages, Message("user", "And?"))
    prompt = prompt_ids(template, tokenizer, asked)
    rendered = render_ids(template, tokenizer, (*asked, Message("assistant", answer)))
    learned = rendered.supervised[len(prompt) :]
    if answer.replace(MARK, "")[:1].isspace() and name in (
        "chatml",
        "alpaca",
    ):  # a token may have bytes of both
        return
    assert rendered.ids[: len(prompt)] == prompt
    words = tokenizer.encode(answer.replace(MARK, ""))
    assert rendered.ids[len(prompt) : len(prompt) + len(words)] == words
    assert learned[: len(words) + 1] == [True] * (len(words) + 1)
    assert not any(learned[len(words) + 1 :])


def test_a_folder_gives_its_tokenizer_and_template_back(
    folder: tuple[str, Path, Tokenizer, Any], tmp_path: Path
) -> None:
    name, path, tokenizer, theirs = folder
    again = load_tokenizer(path)
    assert again.fingerprint == tokenizer.fingerprint
    assert again.keeps_every_byte
    assert template_in(path, again) is template_named(name)
    theirs.save_pretrained(tmp_path)  # as transformers keeps it after a finetuning of its own
    assert template_in(tmp_path, load_tokenizer(tmp_path)) is template_named(name)
    (tmp_path / "chat_template.jinja").write_text("{{ cycler.__init__.__globals__ }}")
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config.pop("fromscratch_chat_template", None)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert template_in(tmp_path, again) is None
    assert has_foreign_template(tmp_path, again)


def test_a_role_that_does_not_exist(folder: tuple[str, Path, Tokenizer, Any]) -> None:
    with pytest.raises(Exception, match="There is no role tool in this chat template"):
        folder[3].apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


def test_the_instructions_of_a_real_file(shared_data: Path, gpt2_vocabulary: Path) -> None:
    records = json.loads((shared_data / "instructions/instruction_data_1100.json").read_text())
    tokenizer = ready(gpt2_tokenizer(), "alpaca")
    for record in records[:200]:
        messages = messages_of(record)
        rendered = render_ids(template_named("alpaca"), tokenizer, messages)
        assert tokenizer.decode(rendered.ids) == render_text(template_named("alpaca"), messages)
        said = [i for i, s in zip(rendered.ids, rendered.supervised, strict=True) if s]
        assert tokenizer.decode(said) == record["output"]
        assert said[-1] == tokenizer.eot_id


def test_a_tokenizer_without_the_roles_is_refused() -> None:
    with pytest.raises(UserError, match=r'no special token "<\|user\|>".*"default" needs'):
        prompt_ids(template_named("default"), bytes_tokenizer(), (Message("user", "Hi"),))


def test_roles_cannot_be_pretrained_as_text() -> None:
    assert text_template("alpaca").name == "alpaca"
    with pytest.raises(UserError, match=r"chatml.*<\|im_start\|>.*R49"):
        text_template("chatml")


@pytest.mark.parametrize("name", ["default", "fgpt", "chatml"])
def test_the_page_shows_what_is_rendered(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs/templates.md").read_text("utf-8")
    (row,) = [line for line in page.split("\n") if line.startswith(f"| `{name}` |")]
    shown, tokens = row.replace("\\|", "¦").strip("| ").split(" | ")[1:]
    tokenizer, template = ready(bytes_tokenizer(), name), template_named(name)
    messages = (Message("user", "Name a number."), Message("assistant", "2"))
    said = spelled(tokenizer, render_ids(template, tokenizer, messages))
    assert shown.strip("`").replace("¦", "|").replace("⏎", "\n") == said
    own = [token for token in template.special_tokens if token != "<|endoftext|>"]
    assert sorted(tokens.replace("¦", "|").replace("`", "").split()) == sorted(own)
