"""`eval`, really run: on a run's own data, on text, on two models, from standard input."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fromscratch.checkpoint.bundle import save_model
from fromscratch.cli.main import main
from fromscratch.evaluate.records import read_records
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.tokenizer.tokenizer import load_tokenizer
from tests.cli.conftest import Answer
from tests.data.hub_material import lines, wait_for
from tests.data.hub_server import HubServer


@pytest.fixture(scope="module")
def other(place: Path) -> Path:
    """A Hugging Face folder with another tokenizer than the run's."""
    folder = place / "other"
    folder.mkdir()
    tokenizer = load_tokenizer(place / "data-bpe-300")
    config = ModelConfig(
        family="gpt2", n_layer=1, n_head=2, d_model=16, context=24,
        vocab_size=tokenizer.vocab_size,
    )  # fmt: skip
    save_model(folder, GPT(config, seed=1), tokenizer)
    return folder


@pytest.fixture
def evaluate(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Runs `eval` in `place`, in this process, which has torch loaded."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> Answer:
        with pytest.raises(SystemExit) as end:
            main(["eval", *arguments])
        said = capsys.readouterr()
        return Answer(int(end.value.code or 0), said.out, said.err)

    return call


# What is typed after `eval` -> what the answer must contain; more are in test_mistakes.py.
MISTAKES = {
    "an eval on nothing": (["text"], ["text is not a run", "--data TEXT"]),
    "an eval on text that is not there": (
        ["run", "--data", "nowhere.txt"],
        ["nowhere.txt"],
    ),
    "an eval with gaps": (
        ["run", "--context", "16", "--stride", "17"],
        ["--stride 17 is more than --context 16", "--stride 16"],
    ),
    "an eval on the training side of text": (
        ["run", "--data", "text", "--split", "train"],
        ["--split train means one side of prepared data", "Leave --split out"],
    ),
    "an eval on broken text": (
        ["run", "--data", "strange/line.jsonl"],
        ["strange/line.jsonl, line 2", "--on-bad skip"],
    ),
    "an eval on tokens of nobody knows whom": (
        ["run", "--data", "strange/ids.npy"],
        ["is tokens already", "fromscratch prepare strange/ids.npy --tokenizer"],
    ),
    "an eval where nothing computes": (
        ["run", "--device", "gpu"],
        ["--device gpu is not a device", 'Did you mean "cpu"?'],
    ),
    "an eval into nowhere": (
        ["run", "--out", "nowhere/all.jsonl"],
        ["--out nowhere/all.jsonl", "no folder nowhere"],
    ),
    "an eval of one model twice": (["run", "run"], ["named twice"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_with_its_fix(mistake: str, evaluate: Callable, place: Path) -> None:
    (place / "strange").mkdir(exist_ok=True)
    (place / "strange/line.jsonl").write_text('{"text": "good"}\n{"text": "cut off\n')
    np.save(place / "strange/ids.npy", np.array([65, 30, 256], np.uint16))
    kept = place / "run/evals.jsonl"
    before = kept.read_bytes() if kept.exists() else None
    arguments, expected = MISTAKES[mistake]
    answer = evaluate(*arguments)
    assert answer.code == 2, answer
    for fragment in expected:
        assert fragment in answer.err
    assert "Traceback" not in answer.err
    assert (kept.read_bytes() if kept.exists() else None) == before


def test_a_run_on_its_own_validation_data(fromscratch: Callable, place: Path) -> None:
    (place / "run/evals.jsonl").unlink(missing_ok=True)
    answer = fromscratch("eval", "run")
    assert answer.code == 0, answer.err
    assert "windows of 32 tokens without overlap; documents one after the other" in answer.out
    assert "appended to run/evals.jsonl" in answer.out
    (record,) = read_records(place / "run/evals.jsonl")
    rows = [json.loads(line) for line in (place / "run/metrics.jsonl").open()]
    best = min((row for row in rows if "val_loss" in row), key=lambda row: row["val_loss"])
    # All of the validation set is evaluated in training here: the same number.
    assert record.model.step == best["step"]
    assert record.metrics["loss"].value == pytest.approx(best["val_loss"], rel=1e-6)
    assert record.metrics["bits_per_byte"].value == pytest.approx(best["val_bpb"], rel=1e-6)
    assert record.model.tokens
    assert record.data.n_documents == record.metrics["loss"].n
    assert f"{record.metrics['loss'].value:.4f}" in answer.out


def test_two_models_with_two_tokenizers_on_the_same_bytes(
    evaluate: Callable, place: Path, other: Path
) -> None:
    step = sorted((place / "run/checkpoints").glob("step-*"))[0]
    named = str(step.relative_to(place))
    before = len((place / "run/evals.jsonl").read_text().splitlines())
    answer = evaluate(
        named, "other", "--data", "text", "--data", "prepared=data-bpe-300", "--split",
        "val", "--limit-documents", "9", "--context", "20", "--stride", "10", "--separate",
        "--json", "--out", "all.jsonl",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    said = json.loads(answer.out)
    rows = {(r["model"]["name"], r["data"]["name"]): r for r in said["records"]}
    assert set(rows) == {(m, d) for m in (named, "other") for d in ("text", "prepared", "pooled")}
    for name in ("text", "prepared", "pooled"):
        mine, theirs = rows[named, name], rows["other", name]
        assert mine["data"]["sha256"] == theirs["data"]["sha256"]
        assert mine["data"]["n_bytes"] == theirs["data"]["n_bytes"]
        assert mine["model"]["tokenizer"] != theirs["model"]["tokenizer"]
        assert mine["data"]["n_documents"] == (18 if name == "pooled" else 9)
        settings = mine["settings"]
        assert (settings["context"], settings["stride"], settings["separate"]) == (20, 10, True)
    # The documents of `text` are in a fixed order: these are the first nine.
    bits = {m: rows[m, "pooled"]["metrics"]["bits_per_byte"]["value"] for m in (named, "other")}
    (difference,) = said["differences"]
    assert difference["bits_per_byte"] == pytest.approx(bits["other"] - bits[named], rel=1e-9)
    assert difference["stderr"] > 0
    # Of the run's model three more lines are with the run; all six are where --out says.
    assert len((place / "run/evals.jsonl").read_text().splitlines()) == before + 3
    assert len(list(read_records(place / "all.jsonl"))) == 6
    assert not (other / "evals.jsonl").exists()


def test_what_does_not_compare_is_said(evaluate: Callable, place: Path, other: Path) -> None:
    text = place / "some text.txt"
    text.write_text("The number 7 is followed by 8.\n\n" * 600)
    answer = evaluate("run", "other", "--data", str(text), "--documents", "passage")
    assert answer.code == 0, answer.err
    assert "nats per token and perplexity do not compare. Bits per byte do (R44)" in answer.out
    assert "different context (run: 32, other: 24)" in answer.out
    assert "bits per byte" in answer.out.split("other spends")[1].split("\n")[0]
    assert "\x1b[" not in answer.out + answer.err


def test_text_that_comes_in_through_a_pipe(
    evaluate: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = io.BytesIO(b"The number 1 is followed by 2.\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(text))
    answer = evaluate("run", "--data", "-", "--json")
    assert answer.code == 0, answer.err
    (record,) = json.loads(answer.out)["records"]
    assert record["data"]["name"] == "standard input"
    assert record["data"]["n_bytes"] == 31
    assert record["metrics"]["loss"]["stderr"] is None
    assert record["metrics"]["perplexity"]["value"] == pytest.approx(
        math.exp(record["metrics"]["loss"]["value"])
    )


def test_a_model_and_a_text_of_the_hub(
    fromscratch: Callable, place: Path, other: Path, tmp_path: Path
) -> None:
    with HubServer() as hub:
        files = {path.name: path.read_bytes() for path in other.iterdir()}
        hub.add("org/small", files, kind="models")
        hub.add("org/set", {"train.jsonl": lines([f"The number {i}." for i in range(20)])})
        answer = fromscratch(
            "eval", "org/small", "--data", "hf:org/set", "--json",
            HF_ENDPOINT=hub.endpoint, HF_HOME=str(tmp_path / "hf"), HF_HUB_OFFLINE="0",
            HF_TOKEN="", XDG_CACHE_HOME=str(tmp_path / "cache"),
        )  # fmt: skip
    assert answer.code == 0, answer.err
    (record,) = json.loads(answer.out)["records"]
    assert record["model"]["name"] == "org/small"
    assert record["data"]["n_documents"] == 20
    assert record["settings"]["source"].startswith("hf:org/set@")  # the commit is in the record
    assert "progress" not in answer.err


def test_ctrl_c_ends_it_with_one_line(place: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fromscratch", "eval", "run", "--data", "-"],
        cwd=place, env=os.environ | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: bool(list(tmp_path.rglob("*stdin*"))), 120)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.count("\n") == 1
    assert said.startswith("Interrupted;")
    assert not list(tmp_path.iterdir())


def test_a_run_as_data_and_what_it_was_trained_on(
    evaluate: Callable, place: Path, other: Path
) -> None:
    answer = evaluate("other", "--data", "run", "--split", "train", "--json")
    assert answer.code == 0, answer.err
    (record,) = json.loads(answer.out)["records"]
    assert record["data"]["name"] == "training of run"
    manifest = json.loads((place / "data-bytes/manifest.json").read_text())
    train = [s for s in manifest["shards"] if s["split"] == "train"]
    assert record["data"]["n_bytes"] == sum(s["bytes"] for s in train)
    assert record["settings"]["prepared"] == manifest["fingerprint"]


def test_a_model_whose_weights_are_not_numbers_is_measured_all_the_same(
    evaluate: Callable, place: Path, other: Path
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    broken = place / "broken"
    shutil.copytree(other, broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["transformer.ln_f.weight"] = torch.full_like(
        tensors["transformer.ln_f.weight"], torch.nan
    )
    save_file(tensors, broken / "model.safetensors")
    answer = evaluate("broken", "--data", "text", "--limit-documents", "3", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["records"][0]["metrics"]["loss"]["value"] == "nan"
