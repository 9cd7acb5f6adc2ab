"""A chat as a person has it: at a real pseudo-terminal, key by key."""

from __future__ import annotations

import json
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fromscratch.chat.conversations import Message
from tests.cli.chat_models import END, length_of, said_after, write_model
from tests.cli.terminal import ALT_ENTER, CTRL_C, CTRL_D, ENTER, UP, Terminal
from tests.forking.forks import Forks

CHATTY = [*"Grüße \x1b]0;title\x07 \u202edlo!".encode(), END]
ENDLESS = [*b"on and "]
BASE = [*b"once upon a time, "]

Opened = Callable[..., Terminal]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models: `chatty` ends its answers, `endless` never does, `base` has no chat."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "chatty", CHATTY, context=512, chats=True)
    write_model(folder / "endless", ENDLESS, context=30_000, chats=True)
    write_model(folder / "short", [*b"Yes, no. ", END], context=64, chats=True)
    write_model(folder / "base", BASE, context=256, chats=False)
    return folder


@pytest.fixture
def chat(models: Path, tmp_path: Path, forks: Forks) -> Iterator[Opened]:
    """Opens a chat at a terminal, and waits until it can be typed in."""
    opened: list[Terminal] = []

    def open_one(model: str, *options: str, **more: object) -> Terminal:
        terminal = Terminal(
            "chat", str(models / model), "--temperature", "0", *options,
            cwd=tmp_path, environment={"XDG_STATE_HOME": str(tmp_path / "state")}, forks=forks,
            **more,
        )  # fmt: skip
        opened.append(terminal)
        terminal.wait_for_prompt()
        return terminal

    yield open_one
    for terminal in opened:
        terminal.close()


def test_a_conversation_from_hello_to_goodbye(chat: Opened, tmp_path: Path):
    terminal = chat("chatty")
    assert "parameters, context 512 tokens, template default" in terminal.text
    hello = "Hello " + "o" * ((-length_of(Message("user", "Hello "))) % len(CHATTY))
    n_prompt = length_of(Message("user", hello))
    answer = said_after(CHATTY, n_prompt)
    assert answer == "Grüße \x1b]0;title\x07 \u202edlo!"
    terminal.type(hello)
    n_new = len(answer.encode())
    terminal.wait_for(f"{n_new} tokens, ")
    terminal.wait_for_prompt()
    assert f"tokens/s, context {n_prompt + n_new} of 512" in terminal.text
    # The terminal shows what it would obey, and does not get it.
    assert "Grüße \\x1b]0;title\\x07 \\u202edlo!\n" in terminal.text
    assert b"\x1b]0;title" not in terminal.raw

    terminal.type("/save chat.json")
    terminal.wait_for("saved as chat.json")
    assert json.loads((tmp_path / "chat.json").read_text())[0]["messages"] == [
        {"role": "user", "content": hello},
        {"role": "assistant", "content": answer},
    ]
    terminal.type("/reset")
    terminal.wait_for("forgotten")
    terminal.type("/load chat.json")
    terminal.wait_for(f"user: {hello}")
    terminal.type("And?")
    before = (Message("user", hello), Message("assistant", answer), Message("user", "And?"))
    terminal.wait_for(f"context {length_of(*before) + len(_said(*before).encode())} of 512")
    terminal.wait_for_prompt()
    terminal.type("/quit")
    assert terminal.wait_for_end() == 0


def _said(*messages: Message) -> str:
    return said_after(CHATTY, length_of(*messages))


def test_settings_are_changed_and_mistakes_are_named(chat: Opened):
    terminal = chat("chatty")
    terminal.type("/set temprature 2")
    terminal.wait_for('Did you mean "temperature"?')
    terminal.type("/set temperature hot")
    terminal.wait_for('temperature is a number, not "hot"')
    terminal.type("/set top_p 3")
    terminal.wait_for("top_p 3.0 is not in (0, 1]")
    terminal.type("/set max-new-tokens 0")
    terminal.wait_for("max_new_tokens 0 is less than 1")
    terminal.type("/set max-new-tokens 2")
    terminal.wait_for("max_new_tokens is 2, was 512")
    terminal.type('/set stop "e \\n" !')
    terminal.wait_for('stop is "e \\n" "!", was none')
    terminal.type("Hi")
    terminal.wait_for("cut off at 2 tokens: /more goes on")
    terminal.type("/hlep")
    terminal.wait_for('Did you mean "/help"?')
    terminal.type("/help")
    terminal.wait_for("/regen")
    terminal.wait_for("Ctrl-D")
    terminal.wait_for_prompt()
    terminal.press(CTRL_D)
    assert terminal.wait_for_end() == 0


def test_an_answer_is_drawn_again_and_taken_back(chat: Opened, tmp_path: Path):
    terminal = chat("chatty")
    terminal.type("/regen")
    terminal.wait_for("no answer to draw again")
    terminal.type("/set temperature 50")
    terminal.type("/set top_k 5")
    terminal.type("/set max_new_tokens 12")
    terminal.type("Say")
    terminal.wait_for("/more goes on")
    saved = []
    for name, action in (("a", ""), ("b", "/regen"), ("c", "/more")):
        if action:
            terminal.type(action)
            terminal.wait_for("/more goes on", times=len(saved) + 1)
        terminal.type(f"/save {name}.jsonl")
        terminal.wait_for(f"{name}.jsonl, which")
        (line,) = (tmp_path / f"{name}.jsonl").read_text().splitlines()
        saved.append([turn["content"] for turn in json.loads(line)["messages"]])
    first, again, more = saved
    assert first[0] == again[0] == more[0] == "Say"
    assert first[1] != again[1], "other draws"
    assert more[1].startswith(again[1])
    assert len(more[1]) > len(again[1])
    terminal.type("/undo")
    terminal.wait(lambda: terminal.lines[-1] == "> Say", "the question, to be edited")
    terminal.press(" it" + ENTER)
    terminal.wait_for("> Say it")
    terminal.wait_for("/more goes on", times=4)
    terminal.type("/save d.jsonl")
    terminal.wait_for("d.jsonl, which")
    turns = json.loads((tmp_path / "d.jsonl").read_text())["messages"]
    assert [turn["content"] for turn in turns][::2] == ["Say it"]


def test_ctrl_c_stops_the_answer_and_not_the_program(chat: Opened, tmp_path: Path):
    terminal = chat("endless", "--max-new-tokens", "29000")
    terminal.type("Go")
    terminal.wait_for("on and on and")
    terminal.press("typed meanwhile")
    time.sleep(0.2)
    terminal.press(CTRL_C)
    terminal.wait_for("; stopped")
    assert "meanwhile" not in terminal.text.partition("; stopped")[0], "not among its words"
    terminal.wait(lambda: terminal.lines[-1].startswith(">"), "the prompt")
    terminal.press(CTRL_C)  # empties the line, if anything of that arrived
    terminal.type("/set max_new_tokens 3")
    terminal.wait_for("max_new_tokens is 3")
    terminal.type("And now")
    terminal.wait_for("cut off at 3 tokens")
    terminal.type("/save both.json")
    terminal.wait_for("saved as")
    (record,) = json.loads((tmp_path / "both.json").read_text())
    stopped = record["messages"][1]["content"]
    n_prompt = length_of(Message("user", "Go"))
    assert stopped == said_after(ENDLESS, n_prompt, limit=len(stopped))
    assert len(record["messages"]) == 4
    terminal.wait_for_prompt()
    told = terminal.text.count("Ctrl-C once more")
    terminal.press(CTRL_C)
    terminal.wait_for("Ctrl-C once more", times=told + 1)
    terminal.wait_for_prompt()
    terminal.press(CTRL_C)
    assert terminal.wait_for_end() == 0


def test_keys_pressed_while_the_model_loads_and_writes_are_read_afterwards(
    chat: Opened, tmp_path: Path
):
    terminal = chat("endless", "--max-new-tokens", "800")
    terminal.type("Go")
    terminal.wait_for("on and on and")
    terminal.type("/set max_new_tokens 4")
    terminal.wait_for("cut off at 800 tokens")
    terminal.wait_for("max_new_tokens is 4, was 800")
    shown = terminal.text.replace("\n", "")
    assert shown.index("cut off at") < shown.index("/set max")


def test_a_message_of_several_lines(chat: Opened, tmp_path: Path):
    terminal = chat("chatty")
    terminal.type("one\\")
    terminal.press("two" + ALT_ENTER)
    terminal.paste("three\nfour\n/quit")
    terminal.wait(lambda: terminal.lines[-1] == ". /quit", "five lines")
    terminal.resize(40, 30)
    terminal.resize(120, 40)
    terminal.press(" no" + ENTER)
    terminal.wait_for("tokens/s")
    terminal.wait_for_prompt()
    terminal.type("/save lines.json")
    terminal.wait_for("saved as")
    turns = json.loads((tmp_path / "lines.json").read_text())[0]["messages"]
    assert turns[0]["content"] == "one\ntwo\nthree\nfour\n/quit no"


def test_a_slash_is_sent_with_two(chat: Opened, tmp_path: Path):
    terminal = chat("chatty", "--system", "Be brief.")
    terminal.type("//etc is a folder")
    terminal.wait_for("tokens/s")
    terminal.type("/system Be long.")
    terminal.wait_for("system message: Be long. (from the next answer on")
    terminal.type("/show")
    terminal.wait_for("user: /etc is a folder")
    terminal.wait_for("system: Be long.")
    terminal.type("/system off")
    terminal.wait_for("no system message")


def test_a_conversation_longer_than_the_context_loses_its_beginning_and_says_so(chat: Opened):
    terminal = chat("short")
    for number in range(3):
        terminal.type(f"Question {number}")
        terminal.wait_for("of 64", times=number + 1)
    assert "its oldest 2 messages were not read" in terminal.text
    terminal.type("x" * 80)
    terminal.wait_for("reads at most 32")
    terminal.wait(lambda: terminal.lines[-1].endswith("xxx"), "the message, to be shortened")


def test_what_was_typed_is_there_in_the_next_chat_and_for_nobody_else(chat: Opened, tmp_path: Path):
    terminal = chat("chatty")
    terminal.type("remember me")
    terminal.wait_for("tokens/s")
    terminal.wait_for_prompt()
    terminal.press(CTRL_D)
    terminal.wait_for_end()
    history = tmp_path / "state/fromscratch/chat_history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    terminal = chat("base")
    terminal.press(UP)
    terminal.wait_for("> remember me")


def test_a_folder_that_cannot_be_written_costs_the_history_alone(chat: Opened, tmp_path: Path):
    (tmp_path / "state").write_text("a file where a folder should be")
    terminal = chat("chatty")
    assert "what you type is not kept" in terminal.text
    terminal.type("Hi")
    terminal.wait_for("tokens/s")


def test_a_base_model_goes_on_with_a_text_and_says_how_to_teach_it(chat: Opened, tmp_path: Path):
    terminal = chat("base", "--max-new-tokens", "10")
    assert "base is a base model: it goes on with the text that you type" in terminal.text
    assert "To teach it to answer: fromscratch train sft-110 --from" in terminal.text
    terminal.type("It was ")
    terminal.wait_for("cut off at 10 tokens")
    terminal.type("/more")
    terminal.wait_for("cut off at 10 tokens", times=2)
    terminal.type("/system Be brief.")
    terminal.wait_for("A base model has no system message")
    terminal.type("/save text.json")
    terminal.wait_for("saved as")
    wanted = said_after(BASE, len("It was "), limit=20)
    assert f"> /more\nIt was {wanted}\n" in terminal.text
    assert json.loads((tmp_path / "text.json").read_text()) == [
        {"prompt": "It was ", "completion": wanted}
    ]


def test_a_closed_window_ends_the_chat(chat: Opened):
    terminal = chat("endless", "--max-new-tokens", "29000")
    terminal.type("Go")
    terminal.wait_for("on and on and")
    terminal.close()
    assert terminal.wait_for_end() != 0


@pytest.mark.slow
def test_a_process_of_its_own_wraps_at_words_and_colours_nothing_under_no_color(
    models: Path, tmp_path: Path
):
    terminal = Terminal(
        "chat", str(models / "base"), cwd=tmp_path, size=(60, 30),
        environment={"XDG_STATE_HOME": str(tmp_path), "NO_COLOR": "1"},
    )  # fmt: skip
    terminal.wait_for_prompt()
    text = terminal.text
    for words in ("it goes on with the text", "was not taught", "Ctrl-D leaves"):
        assert words in " ".join(text.split("\n")), text
    assert not re.search(rb"\x1b\[[0-9;]*3[0-7][;m]", terminal.raw), "a colour"
    terminal.press(CTRL_D)
    assert terminal.wait_for_end() == 0
    terminal.close()
