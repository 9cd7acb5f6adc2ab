"""Chats and texts without a terminal: pipes, one prompt, JSON."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fromscratch.chat.conversations import Message
from tests.cli.chat_models import END, length_of, said_after, write_model
from tests.cli.terminal import CTRL_C, Terminal
from tests.forking.forks import PLAIN, Forks

CHATTY = [*"Grüße \x1b[31m!".encode(), END]
ENDLESS = [*b"on and "]

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Path:
    """A folder with two models and a program."""
    folder = tmp_path_factory.mktemp("lines")
    write_model(folder / "chatty", CHATTY, context=256, chats=True)
    write_model(folder / "short", [*b"Yes. ", END], context=64, chats=True)
    write_model(folder / "base", ENDLESS, context=30_000, chats=False)
    forks.program(folder / "fromscratch")
    return folder


@pytest.fixture
def run(place: Path) -> Run:
    """Runs the command line with something on its standard input."""

    def call(*arguments: str, typed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [place / "fromscratch", *arguments],
            cwd=place, env=os.environ | PLAIN, input=typed, capture_output=True, timeout=120,
            check=False,
        )  # fmt: skip

    return call


def test_each_line_is_a_message_of_one_conversation(run: Run):
    typed = "Hello\n\n/quit is no command here ü\r\n".encode()
    done = run("chat", "chatty", "--temperature", "0", typed=typed)
    assert done.returncode == 0, done.stderr
    hello = Message("user", "Hello")
    first = said_after(CHATTY, length_of(hello))
    again = (hello, Message("assistant", first), Message("user", "/quit is no command here ü"))
    second = said_after(CHATTY, length_of(*again))
    # A program gets what the model wrote, byte for byte.
    assert done.stdout.decode() == f"{first}\n{second}\n"
    assert done.stderr == b""


def test_answers_as_json(run: Run):
    options = ["--temperature", "0", "--json", "--system", "Be brief."]
    done = run("chat", "chatty", *options, typed=b"Hello\nAnd?\n")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    said = [Message("system", "Be brief."), Message("user", "Hello")]
    for row in rows:
        answer = said_after(CHATTY, length_of(*said))
        assert row["message"] == {"role": "assistant", "content": answer}
        tokens = {"prompt_tokens": length_of(*said), "completion_tokens": len(answer.encode())}
        assert row["usage"] == tokens
        assert (row["finish_reason"], row["dropped_messages"]) == ("stop", 0)
        said += [Message("assistant", answer), Message("user", "And?")]
    assert len(rows) == 2


def test_what_does_not_fit_any_more_is_said_and_what_never_fits_is_refused(run: Run):
    lines = b"".join(b"Question %d\n" % n for n in range(3))
    done = run("chat", "short", "--json", "--temperature", "0", typed=lines)
    dropped = [json.loads(line)["dropped_messages"] for line in done.stdout.splitlines()]
    assert dropped == sorted(dropped)
    assert dropped[0] == 0
    assert dropped[-1] > 0
    assert b"oldest 2 messages were not read" in done.stderr
    done = run("chat", "short", typed=b"Hi\n" + b"x" * 90 + b"\n")
    assert done.returncode == 2
    assert b"Line 2 of standard input: The message is 93 tokens" in done.stderr


def test_one_prompt_one_answer(run: Run):
    done = run("chat", "chatty", "--prompt", "Hello", "--temperature", "0", typed=b"not read\n")
    assert done.stdout.decode() == said_after(CHATTY, length_of(Message("user", "Hello"))) + "\n"


def test_a_base_model_goes_on_with_each_line_and_says_that_it_is_one(run: Run):
    done = run("chat", "base", "--max-new-tokens", "9", "--temperature", "0", typed=b"Go\nWent\n")
    wanted = "".join(said_after(ENDLESS, len(text), limit=9) + "\n" for text in ("Go", "Went"))
    assert done.stdout.decode() == wanted
    assert b"warning: base is a base model" in done.stderr


def test_a_prompt_comes_from_standard_input(run: Run):
    call = ["generate", "base", "-", "--max-new-tokens", "5", "--temperature", "0"]
    done = run(*call, typed="Grüße,\nund\n".encode())
    assert done.stdout.decode() == "Grüße,\nund" + said_after(ENDLESS, 12, limit=5) + "\n"
    done = run(*call, typed=b"\xff")
    assert done.returncode == 2
    assert b"Standard input is not UTF-8" in done.stderr


def test_samples_differ_by_their_seed_and_the_first_is_the_only_one(run: Run):
    call = ["generate", "base", "Go", "--max-new-tokens", "6", "--temperature", "9", "--json"]
    one = json.loads(run(*call).stdout)
    three = json.loads(run(*call, "-n", "3", "--logprobs", "2").stdout)
    texts = [sample["text"] for sample in three["samples"]]
    assert one["text"] == one["samples"][0]["text"] == texts[0]
    drawn = [tuple(token["id"] for token in s["logprobs"]) for s in three["samples"]]
    assert len(set(drawn)) == 3
    tokens = three["samples"][0]["logprobs"]
    assert bytes(b for token in tokens for b in token["bytes"]).decode(errors="replace") == texts[0]
    assert all(len(token["top"]) == 2 for token in tokens)
    assert all(token["top"][0]["logprob"] >= token["logprob"] for token in tokens)


def test_samples_of_more_than_the_context_are_written_one_by_one(run: Run, place: Path):
    call = ["generate", "short", "Hi", "--max-new-tokens", "80", "--temperature", "9"]
    done = run(*call, "-n", "2", "--json")
    both = [sample["text"] for sample in json.loads(done.stdout)["samples"]]
    assert both[0] != both[1]
    plain = run(*call, "-n", "2").stdout.decode()
    assert plain == f"--- 1 of 2 ---\nHi{both[0]}\n--- 2 of 2 ---\nHi{both[1]}\n"


def test_a_text_ends_at_a_stop_text(run: Run):
    call = ["generate", "base", "Go ", "--temperature", "0", "--stop", "d on", "--stop", "nope"]
    text = said_after(ENDLESS, 3, limit=60)
    assert run(*call).stdout.decode() == f"Go {text.partition('d on')[0]}\n"


@pytest.mark.parametrize(
    "call",
    [["generate", "base", "Go"], ["chat", "base", "--prompt", "Go"]],
    ids=["generate", "chat"],
)
def test_ctrl_c_ends_the_text_keeps_it_and_is_told_to_the_shell(
    call: list[str], place: Path, forks: Forks
):
    terminal = Terminal(
        *call, "--max-new-tokens", "29000", "--temperature", "0",
        cwd=place, environment={}, forks=forks,
    )  # fmt: skip
    terminal.wait_for("on and on and")
    terminal.press(CTRL_C)
    assert terminal.wait_for_end() == 130
    assert terminal.text.endswith("stopped")
    assert "Traceback" not in terminal.text
    terminal.close()


def test_a_text_at_a_terminal_is_shown_and_not_obeyed(place: Path, forks: Forks):
    terminal = Terminal(
        "generate", "chatty", "\x1b[31mred", "--temperature", "0", "--max-new-tokens", "40",
        cwd=place, environment={}, forks=forks,
    )  # fmt: skip
    assert terminal.wait_for_end() == 0
    assert b"\x1b[31m" not in terminal.raw
    assert "\\x1b[31mred" in terminal.text
    assert "tokens/s" in terminal.text
    assert "it was taught to converse: fromscratch chat chatty" in terminal.text
    terminal.close()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["generate", "base", "--logprobs", "2"], ["--logprobs", "--json"]),
        (["generate", "base", "--top-p", "0"], ["top_p 0.0"]),
        (["generate", "base", "--stop", ""], ["empty text to stop at"]),
        (["chat", "base", "--system", "Be brief."], ["base model has no system message"]),
        (["chat", "base", "--template", "chatlm"], ['no chat template "chatlm"', '"chatml"']),
        (
            ["chat", "base", "--template", "chatml"],
            ["has no token <|im_start|> and no <|im_end|>", "train sft-110 --from"],
        ),
        (["chat", "nowhere"], ["nowhere does not exist", "Name a run"]),
        (["chat", "base", "--device", "gpu"], ["--device gpu is not a device"]),
    ],
)
def test_mistakes_are_named_and_end_with_2(typed: list[str], said: list[str], run: Run):
    done = run(*typed)
    told = done.stderr.decode()
    assert done.returncode == 2, told
    assert done.stdout == b""
    for words in said:
        assert words in told
