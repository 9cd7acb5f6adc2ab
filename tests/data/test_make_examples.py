"""Conversations of every kind into examples: what is in them, what is left out, which side."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from fromscratch.chat.conversations import Message, messages_of
from fromscratch.chat.rendering import render_ids
from fromscratch.chat.template import template_named
from fromscratch.data.examples import SIDES, Examples
from fromscratch.data.hub import HubDataset
from fromscratch.data.make_examples import ExampleSettings, in_order, make_examples
from fromscratch.data.sources import Reading, Source
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import read_json_lines
from fromscratch.tokenizer.build import bytes_tokenizer
from fromscratch.tokenizer.special import with_special_tokens
from fromscratch.tokenizer.tokenizer import Tokenizer
from tests.data.hub_server import HubServer

TEMPLATE = template_named("default")
SETTINGS = ExampleSettings(template="default", context=256, val_fraction=0.2, test_fraction=0.2)

ALPACA = {"instruction": "Add.", "input": "1 and 2", "output": "3"}
CHAT = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi <|end|> you"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Bye"},
        {"role": "assistant", "content": "Bye é."},
    ]
}
SHAREGPT = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
PAIR = {"prompt": "Say x", "completion": "x"}
KINDS = [ALPACA, CHAT, SHAREGPT, PAIR]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return with_special_tokens(bytes_tokenizer(), TEMPLATE.special_tokens)


Maker = Callable[..., Examples]


@pytest.fixture
def made(tmp_path: Path, tokenizer: Tokenizer) -> Maker:
    """Examples of records, or of the file that they are in."""

    def make(records: list[dict] | Path, **settings: object) -> Examples:
        changed = replace(SETTINGS, **settings)
        path = records if isinstance(records, Path) else tmp_path / "records.json"
        if isinstance(records, list):
            path.write_text(json.dumps(records))
        reading = Reading(record=messages_of, on_bad=changed.on_bad)
        folder = tmp_path / f"examples-{len(list(tmp_path.iterdir()))}"
        make_examples(
            Source("talk", str(path), reading), folder, tokenizer, changed, watch=lambda _: None
        )
        return Examples(folder)

    return make


def numbered(n: int) -> list[dict]:
    return [{"prompt": f"Say {i}", "completion": str(i)} for i in range(n)]


@pytest.mark.parametrize("form", ["json", "jsonl", "parquet"])
def test_all_kinds_in_all_forms_are_what_the_renderer_makes(
    form: str, made: Maker, tmp_path: Path, tokenizer: Tokenizer
):
    path = tmp_path / f"mine.{form}"
    kinds = [[kind] for kind in KINDS] if form == "parquet" else [KINDS]
    for kind in kinds:  # the rows of a table have the same columns
        if form == "json":
            path.write_text(json.dumps(kind))
        elif form == "jsonl":
            path.write_text("".join(json.dumps(k) + "\n" for k in kind))
        else:
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(kind), path)
        examples = made(path, split="order", val_fraction=0.0, test_fraction=0.0)
        assert len(examples) == len(kind)
        for number, record in enumerate(kind):
            ids, learned = examples.read(number)
            rendered = render_ids(TEMPLATE, tokenizer, messages_of(record))
            assert ids.tolist() == rendered.ids
            assert learned.tolist() == rendered.supervised


def test_the_answers_and_their_stop_tokens_are_learned_and_nothing_else(
    made: Maker, tokenizer: Tokenizer
):
    examples = made([CHAT], split="order", val_fraction=0.0, test_fraction=0.0)
    ids, learned = examples.read(0)
    end = tokenizer.special_ids["<|end|>"]
    said = [*tokenizer.encode("Hello."), end, *tokenizer.encode("Bye é."), end]
    assert ids[learned].tolist() == said  # the <|end|> in the user's words is text
    both, everything = made(
        [CHAT], split="order", loss_on="all", val_fraction=0.0, test_fraction=0.0
    ).read(0)
    assert both.tolist() == ids.tolist()
    assert everything.all()


def test_1100_records_in_order_are_935_110_and_55(made: Maker):
    assert in_order(1100, val_fraction=0.05, test_fraction=0.10) == (935, 110)
    examples = made(numbered(40), split="order", val_fraction=0.05, test_fraction=0.10)
    assert [len(examples.of(side)) for side in SIDES] == [34, 4, 2]
    assert examples.of("train").tolist() == list(range(34))
    assert examples.of("val").tolist() == [38, 39]
    test = [line["messages"] for line in read_json_lines(examples.folder / "test.jsonl")]
    assert [turns[1]["content"] for turns in test] == ["34", "35", "36", "37"]


def test_the_place_in_order_counts_what_was_dropped(made: Maker):
    records = numbered(20)
    records[3]["prompt"] = "long " * 100
    examples = made(records, split="order", val_fraction=0.2, test_fraction=0.0)
    assert examples.manifest.both_too_long == 1
    assert len(examples.of("train")) == 15  # of the first sixteen records
    assert len(examples.of("val")) == 4


def test_copies_fall_on_one_side_by_hash_and_are_counted_in_order(made: Maker):
    records = numbered(60) * 2
    by_hash = made(records)
    assert min(len(by_hash.of(side)) for side in SIDES) > 0
    assert by_hash.manifest.copies == 60
    assert by_hash.manifest.copies_across == 0
    texts = {
        side: {tuple(by_hash.read(int(n))[0].tolist()) for n in by_hash.of(side)} for side in SIDES
    }
    assert not texts["train"] & texts["val"] | texts["train"] & texts["test"]
    assert made(records, split="order").manifest.copies_across == 48


def test_each_side_has_a_limit_of_its_own(made: Maker, tokenizer: Tokenizer):
    """R54: both under 30, not their sum; special tokens count on the side that they are on."""

    def pair(prompt: int, answer: int) -> dict:
        # The prompt side has three special tokens (user, end, assistant), the answer side one.
        return {"prompt": "p" * (prompt - 3), "completion": "a" * (answer - 1)}

    records = [pair(30, 30), pair(31, 5), pair(5, 31), pair(31, 31), pair(29, 2)]
    examples = made(
        records,
        max_prompt_tokens=30,
        max_answer_tokens=30,
        split="order",
        val_fraction=0.0,
        test_fraction=0.0,
    )
    manifest = examples.manifest
    assert examples.lengths(np.arange(2)).tolist() == [60, 31]
    assert (manifest.prompt_too_long, manifest.answer_too_long) == (2, 1)
    assert (manifest.both_too_long, manifest.records, manifest.dropped) == (0, 5, 3)
    with pytest.raises(UserError, match=r"record 2: the prompt has 31 tokens.*\(30\)"):
        made(records, max_prompt_tokens=30, too_long="refuse")


def test_an_example_has_one_token_more_than_the_context(made: Maker):
    sizes = {"split": "order", "val_fraction": 0.0, "test_fraction": 0.0}
    fits = {"prompt": "p" * 100, "completion": "a" * (257 - 100 - 4)}
    longer = fits | {"completion": fits["completion"] + "a"}
    examples = made([fits, longer], **sizes)
    assert examples.lengths(np.arange(1)).tolist() == [257]
    assert examples.manifest.both_too_long == 1


def test_nothing_to_learn_is_refused_with_the_place_or_left_out(made: Maker):
    unanswered = {"messages": [{"role": "user", "content": "Hello?"}]}
    records = [*numbered(3), unanswered, {"text": "no conversation"}]
    with pytest.raises(UserError, match=r"records\.json, record 4: has nothing to learn"):
        made(records)
    with pytest.raises(UserError, match=r"record 5: is no conversation.*chat\.on_bad=skip"):
        made([*numbered(4), records[-1]])
    examples = made(records, on_bad="skip", val_fraction=0.0, test_fraction=0.0)
    assert (len(examples), examples.manifest.skipped) == (3, 2)
    with pytest.raises(UserError, match="leaves no example to train on"):
        made([unanswered], on_bad="skip")


def test_text_is_no_source_of_conversations(made: Maker, tmp_path: Path):
    (tmp_path / "some.txt").write_text("words")
    with pytest.raises(UserError, match=r"some\.txt: holds no records"):
        made(tmp_path / "some.txt")


def test_the_fingerprint_is_that_of_data_template_and_settings(made: Maker, tmp_path: Path):
    records = numbered(20)
    one = made(records).manifest.fingerprint
    assert made(records).manifest.fingerprint == one
    assert made(records, loss_on="all").manifest.fingerprint != one
    assert made(records, seed=1).manifest.fingerprint != one
    assert made(records[::-1]).manifest.fingerprint != one


def test_a_preparation_that_was_killed_is_made_anew(
    tmp_path: Path, tokenizer: Tokenizer, made: Maker
):
    whole = made(numbered(20))
    folder = tmp_path / "torn"
    folder.mkdir()
    for path in whole.folder.iterdir():
        if path.suffix == ".npy":
            (folder / path.name).write_bytes(path.read_bytes()[:-7])
    source = Source("talk", str(tmp_path / "records.json"), Reading(record=messages_of))
    make_examples(source, folder, tokenizer, SETTINGS, watch=lambda _: None)
    assert Examples(folder).manifest == whole.manifest


def test_a_data_set_on_the_hub(
    hub: HubServer, open_set: Callable[..., HubDataset], tmp_path: Path, tokenizer: Tokenizer
):
    chats = [
        {"messages": [{"role": "user", "content": f"{i}"}, {"role": "assistant", "content": "y"}]}
        for i in range(20)
    ]
    table = pyarrow.Table.from_pylist(chats)
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    content = (tmp_path / "train.parquet").read_bytes()
    hub.add("a/talk", {"data/train-00000.parquet": content, "README.md": b"# About"})
    source = Source(
        "talk", "hf:a/talk", Reading(record=messages_of), hub=open_set("hf:a/talk", folder=tmp_path)
    )
    manifest = make_examples(source, tmp_path / "out", tokenizer, SETTINGS, watch=lambda _: None)
    assert manifest.records == 20
    assert manifest.spec.startswith("hf:a/talk@")


def test_messages_keep_their_input(made: Maker):
    examples = made([ALPACA] * 1 + numbered(9), split="order", val_fraction=0.5, test_fraction=0.1)
    assert messages_of(ALPACA)[0] == Message("user", "Add.", "1 and 2")
    assert len(examples.of("test")) == 1
