"""`tokenizer train` and `compare`, as a person calls them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fromscratch.data.documents import split_of
from fromscratch.tokenizer.build import train_bpe
from fromscratch.tokenizer.tokenizer import load_tokenizer


def test_trained_on_the_training_side_alone(fromscratch: Callable, place: Path) -> None:
    call = ["tokenizer", "train", "text", "--vocab-size", "290", "--val-fraction", "0.2"]
    specials = ["--special", "<|user|>", "--special", "<|assistant|>"]
    made = fromscratch(*call, *specials, "--seed", "5", "--out", "tok-special")
    assert made.code == 0, made.err
    assert "290 ids, learned from" in made.out
    assert "bytes a token on" in made.out
    tokenizer = load_tokenizer(place / "tok-special")
    assert tokenizer.special_ids["<|assistant|>"] == 289
    texts = [path.read_text() for path in (place / "text").iterdir()]
    learned = [t for t in texts if split_of(t, val_fraction=0.2, seed=5) == "train"]
    assert 0 < len(learned) < len(texts)
    ours = train_bpe(learned, vocab_size=290, special=["<|user|>", "<|assistant|>"])
    assert ours.fingerprint == tokenizer.fingerprint


def test_equal_bytes_twice_and_a_bounded_sample(fromscratch: Callable, place: Path) -> None:
    for name in ("a", "b"):
        made = fromscratch(
            "tokenizer", "train", "text", "--vocab-size", "270", "--sample", "20kB",
            "--out", f"tok-sample-{name}",
        )  # fmt: skip
        assert made.code == 0, made.err
        assert "kB of " in made.out
    first, second = (place / f"tok-sample-{name}/tokenizer.json" for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_compare(fromscratch: Callable, place: Path) -> None:
    call = ["tokenizer", "compare", "text", "--candidates", "bytes,bpe:280,bpe:280:gpt2"]
    answer = fromscratch(*call, "--width", "64", "--json")
    assert answer.code == 0, answer.err
    rows = {row["name"]: row for row in json.loads(answer.out)}
    assert list(rows) == ["bytes", "bpe:280", "bpe:280:gpt2"]
    assert rows["bytes"]["bytes_per_token"] == 1.0
    assert rows["bpe:280"]["bytes_per_token"] > 1.5
    assert rows["bpe:280"]["embedding"] == 280 * 64
    sizes = {round(r["tokens"] * r["bytes_per_token"]) for r in rows.values()}
    assert len(sizes) == 1  # the same text for each
    table = fromscratch(*call)
    assert "bytes a token" in table.out
    assert "embedding at 768" in table.out
    assert "differences of a few percent are noise" in table.err


@pytest.mark.slow
def test_ctrl_c_while_merges_are_learned(place: Path, tmp_path: Path) -> None:
    """The library is deaf to signals for as long as it works: seconds to minutes."""
    line = "".join(chr(97 + i * i % 26) for i in range(400))
    text = "\n".join(f"{line[i % 300 :]} {i} {line[: i % 90]}" for i in range(60_000))
    (tmp_path / "long.txt").write_text(text)
    call = ["tokenizer", "train", "long.txt", "--pattern", "line", "--vocab-size", "60000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fromscratch", *call, "--out", "made"],
        cwd=tmp_path,
        env=os.environ | {"NO_COLOR": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(8)
    process.send_signal(signal.SIGINT)
    process.wait(60)  # else it would go on to its end, and succeed
    assert process.returncode != 0
    assert not (tmp_path / "made").exists()


def test_the_text_of_records_is_named_as_for_prepare(fromscratch: Callable, place: Path) -> None:
    rows = [{"body": f"Record {i} of many.\n" * 20, "title": str(i)} for i in range(40)]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    call = ["tokenizer", "train", "rows.jsonl", "--vocab-size", "270", "--out", "tok-rows"]
    refused = fromscratch(*call)
    assert refused.code == 2
    assert 'no field "text"' in refused.err
    assert "--field" in refused.err
    made = fromscratch(*call, "--field", "body")
    assert made.code == 0, made.err
    compared = fromscratch(
        "tokenizer", "compare", "rows.jsonl", "--field", "body", "--candidates", "tok-rows,bytes"
    )
    assert compared.code == 0, compared.err


@pytest.mark.parametrize(
    ("source", "said"), [("train.bin", "is tokens already"), ("-", "read only once")]
)
def test_what_is_no_text_to_learn_from(
    fromscratch: Callable, place: Path, source: str, said: str
) -> None:
    (place / "train.bin").write_bytes(bytes(1000))
    refused = fromscratch("tokenizer", "train", source, "--out", "tok-none")
    assert refused.code == 2
    assert said in refused.err
    assert not (place / "tok-none").exists()
