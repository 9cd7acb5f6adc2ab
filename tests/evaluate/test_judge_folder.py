"""The folder of a judgement: what goes on, what is refused, what a crash leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fromscratch.evaluate.judge_address import JudgeAddress, read_key
from fromscratch.evaluate.judge_folder import (
    Answer,
    AnswerSettings,
    JudgeSettings,
    ScoredItem,
    opened,
)
from fromscratch.foundation.errors import UserError

A, B = "a" * 64, "b" * 64
NAMES = {A: "runs/a", B: "runs/b"}
SETTINGS = JudgeSettings(
    "c" * 64, (A, B), AnswerSettings(), JudgeAddress("http://localhost:1/v1", "judge")
)
SCORED = ScoredItem("q", [B, "reference", A], {A: 1.5, "reference": 99}, {B: "none"}, "{}")


def test_what_is_kept_comes_back_also_after_half_a_line(tmp_path: Path):
    root = tmp_path / "new/one"
    with opened(root, SETTINGS, NAMES, "test.json") as folder:
        folder.add_answer(A, 3, Answer("first", 2, "end"))
        folder.add_scores(3, SCORED)
    for name in ("answers.jsonl", "scores.jsonl"):
        with open(root / name, "a") as handle:
            handle.write('{"item": 4, "mod')
    with opened(root, SETTINGS, NAMES, "test.json") as folder:
        folder.add_answer(B, 3, Answer("a\u2028\nb", 1, "limit"))
        assert folder.answers() == {
            (A, 3): Answer("first", 2, "end"),
            (B, 3): Answer("a\u2028\nb", 1, "limit"),
        }
        assert folder.scores() == {3: SCORED}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"test_sha256": "d" * 64}, "test file was cccccccc and is dddddddd now"),
        ({"models": (A,)}, r"models was runs/a \(aaaaaaaa\) \+ runs/b \(bbbbbbbb\) and is runs/a"),
        (
            {"answers": AnswerSettings(max_new_tokens=128)},
            "max-new-tokens was 256 and is 128 now",
        ),
        (
            {"address": JudgeAddress("http://localhost:2/v1", "judge")},
            "judge was http://localhost:1/v1 and is http://localhost:2/v1 now",
        ),
    ],
    ids=["test", "models", "answers", "judge"],
)
def test_other_settings_are_refused(tmp_path: Path, change: dict, sentence: str):
    with opened(tmp_path, SETTINGS, NAMES, "test.json"):
        pass
    other = replace(SETTINGS, **change)
    assert other.sha256 != SETTINGS.sha256
    refused = pytest.raises(UserError, match=f"other settings: {sentence}.*another folder")
    with refused, opened(tmp_path, other, NAMES, "test.json"):
        pass


def test_a_folder_in_use_and_a_folder_of_something_else(tmp_path: Path):
    ours, other = tmp_path / "ours", tmp_path / "other"
    in_use = pytest.raises(UserError, match="Another process works")
    with opened(ours, SETTINGS, NAMES, "t"), in_use, opened(ours, SETTINGS, NAMES, "t"):
        pass
    other.mkdir()
    (other / "thesis.txt").touch()
    refused = pytest.raises(UserError, match="files in it that no judgement made")
    with refused, opened(other, SETTINGS, NAMES, "t"):
        pass
    assert [p.name for p in other.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("localhost:11434/v1", "no address"),
        ("ftp://x/v1", "no address"),
        ("http:///v1", "no address"),
        ("https://me:secret@x/v1", "a user, a password"),
        ("https://x/v1?key=secret", "a user, a password or a query"),
        ("https://x/v1/chat/completions/", "address of one request"),
    ],
)
def test_addresses_that_are_none(url: str, problem: str):
    with pytest.raises(UserError, match=problem) as caught:
        JudgeAddress(url, "m")
    assert "secret" not in str(caught.value)


def test_what_an_address_says_of_itself():
    near, far = (
        JudgeAddress("http://127.0.0.1:8000/v1/", "m"),
        JudgeAddress("https://x.com/v1", "m"),
    )
    assert (near.url, near.host, near.is_local) == (
        "http://127.0.0.1:8000/v1", "127.0.0.1:8000", True,
    )  # fmt: skip
    assert (far.host, far.is_local) == ("x.com", False)
    assert JudgeAddress("http://localhost/v1", "m").is_local


def test_keys(tmp_path: Path):
    file = tmp_path / "key"
    file.write_text("sk-1\n")
    assert read_key(file, "sk-2") == "sk-1"
    assert read_key(None, " sk-2 ") == "sk-2"
    assert read_key(None, None) is None
    file.write_text("my key\nsk-1")
    with pytest.raises(UserError, match="is no key") as caught:
        read_key(file, None)
    assert "sk-1" not in str(caught.value)
    file.write_text("\n")
    with pytest.raises(UserError, match="is empty"):
        read_key(file, None)
    with pytest.raises(UserError, match="cannot be read"):
        read_key(tmp_path / "none", None)
