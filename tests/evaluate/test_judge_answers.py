"""Answers of real models: where they end, and that they depend on nothing but their item."""

from __future__ import annotations

from pathlib import Path

import pytest

from fromscratch.chat.conversations import Message
from fromscratch.chat.rendering import prompt_ids
from fromscratch.chat.template import template_named
from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.evaluate.judge_answers import answer_items, answer_of, too_long
from fromscratch.evaluate.judge_folder import Answer, AnswerSettings
from fromscratch.evaluate.judge_items import JudgeItem
from fromscratch.generate.engine import continue_text
from fromscratch.generate.sampling import SamplingOptions
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.tokenizer.build import bytes_tokenizer
from tests.evaluate.scripted_model import CONTEXT, scripted

ITEM = JudgeItem(3, (Message("user", "Say it.", context="it"),), None)
PROMPT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nSay it.\n\n### Input:\nit\n\n### Response:\n"
)


def bundle_of(model: GPT) -> ModelBundle:
    return ModelBundle(model, bytes_tokenizer(), Path("somewhere"), "0" * 64)


def test_a_model_reads_the_template_s_prompt():
    ids = prompt_ids(template_named("alpaca"), bytes_tokenizer(), ITEM.messages)
    assert bytes_tokenizer().decode(ids) == PROMPT


@pytest.mark.parametrize(
    ("script", "limit", "expected"),
    [
        (" It.\n", 20, Answer("It.", 5, "end")),
        ("It is it", 5, Answer("It is", 5, "limit")),
        ("", 20, Answer("", 0, "end")),
        ("It.\n\n### Instruction:\nSay more.", 60, Answer("It.", 22, "turn")),
        ("Grüße", 3, Answer("Gr\ufffd", 3, "limit")),
    ],
)
def test_where_an_answer_ends(script: str, limit: int, expected: Answer):
    bundle = bundle_of(scripted((len(PROMPT), script)))
    assert answer_of(bundle, ITEM, AnswerSettings(max_new_tokens=limit)) == expected


@pytest.fixture(scope="module")
def random_model() -> ModelBundle:
    config = ModelConfig(
        family="modern",
        n_layer=2,
        n_head=2,
        d_model=16,
        context=400,
        vocab_size=257,
        init="normal",
        init_std=0.3,
    )
    return bundle_of(GPT(config, seed=2).eval())


def test_greedy_answers_are_the_engine_s_own(random_model: ModelBundle):
    text = "".join(
        continue_text(
            random_model.model, random_model.tokenizer, PROMPT,
            max_new_tokens=12, options=SamplingOptions(temperature=0),
        )
    )  # fmt: skip
    answer = answer_of(random_model, ITEM, AnswerSettings(max_new_tokens=12))
    assert answer == Answer(text.strip(), 12, "limit")


def test_an_answer_does_not_depend_on_those_before_it(random_model: ModelBundle):
    items = [JudgeItem(n, ITEM.messages, None) for n in range(3)]
    settings = AnswerSettings(max_new_tokens=10, temperature=1.0, top_k=0)
    found: dict[int, Answer] = {}
    answer_items(random_model, items, settings, lambda i, a: found.update({i.number: a}))
    assert [answer_of(random_model, i, settings) for i in reversed(items)] == [
        found[2], found[1], found[0],
    ]  # fmt: skip
    assert len({answer.text for answer in found.values()}) > 1, "each has draws of its own"


def test_items_that_do_not_fit_are_counted(random_model: ModelBundle):
    long = JudgeItem(0, (Message("user", "x" * 400),), None)
    assert too_long(random_model, [ITEM, long], AnswerSettings(max_new_tokens=100)) == 1
    assert too_long(random_model, [ITEM], AnswerSettings(max_new_tokens=300)) == 1
    assert too_long(bundle_of(scripted()), [ITEM], AnswerSettings(CONTEXT - len(PROMPT))) == 0
