"""What was said: kept, taken back, saved, loaded, and cut to what a model can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fromscratch.chat.conversations import Message, NotAConversation, messages_of
from fromscratch.chat.dialogue import Dialogue, Writing
from fromscratch.chat.dialogue_file import load_record, save_records
from fromscratch.chat.fitting import fitted
from fromscratch.chat.rendering import prompt_ids
from fromscratch.chat.template import template_named
from fromscratch.data.read_file import read_file
from fromscratch.data.reading import Reading, SourceReport
from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.build import bytes_tokenizer
from fromscratch.tokenizer.special import with_special_tokens

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
TEMPLATE = template_named("default")
TOKENIZER = with_special_tokens(bytes_tokenizer(), TEMPLATE.special_tokens)


def dialogue_of(exchanges: list[tuple[str, str]], system: str = "") -> Dialogue:
    dialogue = Dialogue(system)
    for question, answer in exchanges:
        dialogue.ask(question)
        dialogue.answered(answer)
    return dialogue


@settings(max_examples=20)
@given(st.lists(st.tuples(WORDS, WORDS)), WORDS, WORDS)
def test_what_is_undone_was_never_said(exchanges: list[Any], question: str, answer: str):
    dialogue, before = dialogue_of(exchanges), dialogue_of(exchanges)
    dialogue.ask(question)
    assert dialogue.unanswered
    dialogue.answered(answer)
    dialogue.answered(" and more")
    assert dialogue.turns[-1].content == f"{answer} and more"
    assert dialogue.withdraw_answer()
    assert dialogue.unanswered
    assert dialogue.question == question
    assert dialogue.undo()
    assert dialogue == before
    assert dialogue.undo() == bool(exchanges)


def test_a_system_message_stays_when_all_is_forgotten():
    dialogue = dialogue_of([("a", "b")], system="Be brief.")
    dialogue.reset()
    assert dialogue.messages == (Message("system", "Be brief."),)


@settings(max_examples=8)
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1), st.sampled_from(["", "Be brief."]))
def test_a_saved_conversation_is_loaded_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, exchanges: list[Any], system: str
):
    file = tmp_path_factory.mktemp("saved") / "chat.jsonl"
    dialogue = dialogue_of(exchanges, system)
    save_records(file, dialogue_of([("other", "one")]).records(), replace=False)
    assert save_records(file, dialogue.records(), replace=False), "added"
    again = Dialogue()
    again.load(load_record(file))
    assert again == dialogue


@pytest.mark.parametrize("name", ["chat.json", "chat.jsonl"])
def test_finetuning_s_reader_reads_what_was_saved(name: str, tmp_path: Path):
    dialogue = dialogue_of([("Say\u2028it.", 'It "is" said.')], system="Be brief.")
    dialogue.ask("never answered")
    save_records(tmp_path / name, dialogue.records(), replace=False)
    reading = Reading(render="alpaca")
    (document,) = read_file(tmp_path / name, "chats", reading, SourceReport())
    assert document.text == (
        'Be brief.\n\n### Instruction:\nSay\u2028it.\n\n### Response:\nIt "is" said.'
    )


def test_a_file_of_somebody_else_s_is_not_replaced(tmp_path: Path):
    file = tmp_path / "notes.json"
    file.write_text("mine")
    records = dialogue_of([("a", "b")]).records()
    with pytest.raises(UserError, match="exists"):
        save_records(file, records, replace=False)
    assert file.read_text() == "mine"
    save_records(file, records, replace=True)
    assert messages_of(json.loads(file.read_text())[0])[0].content == "a"


def test_a_base_model_s_texts_go_on_and_are_saved_as_prompt_and_completion(tmp_path: Path):
    writing = Writing()
    writing.ask("Once")
    writing.answered(" upon")
    writing.answered(" a time")
    assert writing.text == "Once upon a time"
    assert writing.withdraw_answer()
    assert writing.text == "Once upon"
    writing.ask("Then")
    (record,) = writing.records()
    assert record == {"prompt": "Once", "completion": " upon"}
    save_records(tmp_path / "text.json", [record], replace=False)
    again = Writing()
    again.load(load_record(tmp_path / "text.json"))
    assert again.text == "Once upon"
    assert [again.undo(), again.undo()] == [True, False]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.json", None, "cannot be read"),
        ("broken.json", '{"messages": ', "not readable JSON"),
        ("empty.json", "[]", "no conversation in it"),
    ],
)
def test_what_cannot_be_loaded_is_refused(
    name: str, content: str | None, said: str, tmp_path: Path
):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=said):
        load_record(tmp_path / name)


@pytest.mark.parametrize("record", [7, {"text": "a"}, {"messages": []}])
@pytest.mark.parametrize("kind", [Dialogue, Writing])
def test_a_record_of_something_else_changes_nothing(kind: Any, record: Any):
    thread = kind()
    thread.ask("kept")
    with pytest.raises(NotAConversation):
        thread.load(record)
    assert thread.question == "kept"


EXCHANGES = st.lists(st.tuples(WORDS, WORDS), max_size=6)


@settings(max_examples=30)
@given(EXCHANGES, WORDS, st.sampled_from(["", "Be brief."]), st.integers(1, 200))
def test_the_oldest_exchanges_go_until_the_rest_fits(
    exchanges: list[Any], question: str, system: str, limit: int
):
    dialogue = dialogue_of(exchanges, system)
    dialogue.ask(question)

    def ids_of(messages: Any) -> list[int]:
        return prompt_ids(TEMPLATE, TOKENIZER, messages)

    kept = [dialogue_of(exchanges[n:], system) for n in range(len(exchanges) + 1)]
    for some in kept:
        some.ask(question)
    fits = [n for n, some in enumerate(kept) if len(ids_of(some.messages)) <= limit]
    if not fits:
        with pytest.raises(UserError, match="reads at most"):
            fitted(dialogue.messages, ids_of, limit)
        return
    found = fitted(dialogue.messages, ids_of, limit)
    assert found.dropped == 2 * fits[0]
    assert found.ids == ids_of(kept[fits[0]].messages)
