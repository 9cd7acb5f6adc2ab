"""Runs on preferences: exact under kills, one reference, what a person is told, what is learned."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command import call
from endings import assert_same_end, events, lines
from instants import at as arrange
from safetensors.torch import load_file

from fromscratch.checkpoint.bundle import load_bundle
from fromscratch.runs import reference as reference_room

BASE = """
[model]
family = "gpt2"
n_layer = 1
n_head = 2
d_model = 32
context = 96
padded_vocab = 272
[data]
path = "text.jsonl"
tokenizer = "bytes"
val_fraction = 0.2
[train]
steps = 1
tokens_per_step = 192
micro_batch = 1
[sample]
every = 0
"""
SETTINGS = (
    "model.dropout=0.1",
    "chat.examples_per_step=8",
    "train.micro_batch=4",
    "train.steps=9",
    "schedule.warmup_steps=2",
    "optim.lr=0.01",
    "eval.every=3",
    "sample.every=0",
    "checkpoint.every=3",
    "train.device=cpu",
)
WORDS = ("house", "tree", "river", "stone", "cloud", "bird", "road", "lamp")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text, a base model of it, and pairs of which the chosen answer is the polite one."""
    root = tmp_path_factory.mktemp("preferences")
    lots = [f"{a} and {b}" for a in WORDS for b in WORDS]
    (root / "text.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in lots))
    pairs = [
        {
            "prompt": f"What of the {text}?",
            "chosen": f"Please see the {text}.",
            "rejected": f"Stupid {text}, go away.",
        }
        for text in lots
    ]
    (root / "pairs.jsonl").write_text("\n".join(json.dumps(pair) for pair in pairs))
    (root / "base.toml").write_text(BASE)
    with contextlib.chdir(root):
        done = call("train", "base.toml", "--run", "base")
    assert done.code == 0, done.err
    return root


@pytest.fixture(scope="module")
def untouched(place: Path) -> Path:
    """A run that nothing ever happened to."""
    with contextlib.chdir(place):
        trained("dpo", place / "untouched")
    return place / "untouched"


@pytest.fixture(autouse=True)
def _here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def trained(recipe: str, run: Path, *settings: str, start: str = "base") -> Any:
    done = call(
        "train", recipe, "--from", start, "--run", run, "data.path=pairs.jsonl",
        *SETTINGS, *settings,
    )  # fmt: skip
    assert done.code == 0, done.err
    return done


def killed(work: Callable[[], object], prepare: Callable[[pytest.MonkeyPatch], None]) -> None:
    """Does the work in a process that is killed without warning, where `prepare` says."""
    child = os.fork()
    if child == 0:
        with pytest.MonkeyPatch.context() as patch:
            prepare(patch)
            with contextlib.suppress(BaseException):
                work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it ended before its time"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_at_any_instant_it_ends_the_same(
    untouched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the reference is computed, in a step, between two checkpoints; dropout and all."""
    run = tmp_path / "run"

    def in_the_reference(patch: pytest.MonkeyPatch) -> None:
        ask = reference_room.log_probs_of

        def asked(*a: Any, **k: Any) -> Any:
            return ask(*a, **k | {"on_pairs": lambda n: die()})

        patch.setattr(reference_room, "log_probs_of", asked)

    killed(lambda: trained("dpo", run), in_the_reference)
    assert not run.exists(), "the same command begins again"
    killed(lambda: trained("dpo", run), lambda patch: arrange(patch, "row", 2, die))
    kept = (run / "reference.safetensors").read_bytes()
    killed(lambda: call("resume", run), lambda patch: arrange(patch, "row", 5, die))

    def never(*a: Any, **k: Any) -> Any:
        raise AssertionError("the reference is computed once")

    monkeypatch.setattr(reference_room, "log_probs_of", never)
    done = call("resume", run)
    assert done.code == 0, done.err
    assert (run / "reference.safetensors").read_bytes() == kept
    assert_same_end(run, untouched)


def test_the_micro_batch_changes_nothing_but_speed(place: Path, tmp_path: Path) -> None:
    """Without dropout, whose draws are a micro-batch's: the same rows but for rounding."""
    found = []
    for size in (1, 8):
        run = tmp_path / str(size)
        trained("dpo", run, f"train.micro_batch={size}", "model.dropout=0.0", "train.steps=3")
        found.append(lines(run / "metrics.jsonl"))
    for one, other in zip(*found, strict=True):
        compared = {"loss", "grad_norm", "margin", "accuracy", "val_loss", "val_margin"}
        for name in compared & one.keys():
            assert one[name] == pytest.approx(other[name], rel=1e-4, abs=1e-5), name


def test_a_damaged_reference_is_made_again(untouched: Path, place: Path, tmp_path: Path) -> None:
    """From the model that the run started from; where that is gone, the run says so."""
    run = tmp_path / "run"
    trained("dpo", run)
    path = run / "reference.safetensors"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    done = call("resume", run, "train.steps=10")
    assert done.code == 0, done.err
    tensors = load_file(path)
    assert tensors.keys() == load_file(untouched / "reference.safetensors").keys()
    for name, tensor in load_file(untouched / "reference.safetensors").items():
        torch.testing.assert_close(tensors[name], tensor)
    path.unlink()
    moved = place / "base-elsewhere"
    (place / "base").rename(moved)
    try:
        answer = call("resume", run, "train.steps=11")
    finally:
        moved.rename(place / "base")
    assert answer.code == 2
    assert "reference.safetensors is missing" in answer.err
    assert "Restore it" in answer.err


def test_rows_say_how_well_answers_are_told_apart(untouched: Path) -> None:
    rows = lines(untouched / "metrics.jsonl")
    steps = [row for row in rows if "loss" in row]
    checks = [row for row in rows if "val_loss" in row]
    assert [row["step"] for row in checks] == [0, 3, 6, 9]
    assert checks[0]["val_accuracy"] == 0.5
    assert checks[0]["val_loss"] == pytest.approx(0.6931472)
    assert checks[-1]["val_accuracy"] > 0.9
    for row in (*steps, *checks):
        begin = "val_" if "val_loss" in row else ""
        chosen, rejected = row[f"{begin}reward_chosen"], row[f"{begin}reward_rejected"]
        assert row[f"{begin}margin"] == pytest.approx(chosen - rejected, abs=1e-6)
    assert checks[-1]["val_margin"] > 1.0
    # Eight pairs a step; the tokens of both answers are what is learned from.
    assert 8 * 2 * 20 < steps[0]["tokens"] < 8 * 2 * 50


def test_dpo_of_a_base_model_is_warned_of(untouched: Path, tmp_path: Path) -> None:
    [warning] = events(untouched, "not_finetuned")
    assert "Finetune it first" in warning["message"]
    # What ORPO leaves has a template: it was taught to answer.
    trained("orpo", tmp_path / "orpo", "train.steps=3")
    assert load_bundle(tmp_path / "orpo").template is not None
    assert not events(tmp_path / "orpo", "not_finetuned")
    trained("dpo", tmp_path / "dpo", "train.steps=3", start=str(tmp_path / "orpo"))
    assert not events(tmp_path / "dpo", "not_finetuned")


def test_what_dpo_makes_opens_like_any_model(untouched: Path) -> None:
    bundle = load_bundle(untouched)
    assert bundle.template is not None
    assert bundle.template.name == "default"


def test_it_is_told_what_it_will_learn(tmp_path: Path) -> None:
    """One pair by what is learned, the number of pairs, before the first step."""
    done = trained("orpo", tmp_path / "run", "train.steps=3")
    said = done.out + done.err
    assert "% of pairs right, margin " in said
    assert "the first pair: chosen, «learned»" in said
    assert "<|assistant|>«Please see the" in said
    assert "<|assistant|>«Stupid" in said
    assert 'pairs of "pairs" to train on' in said


def test_two_files_of_preferences(place: Path, tmp_path: Path) -> None:
    """A mixture: each pair whole, each with its own reference."""
    half = (place / "pairs.jsonl").read_text().splitlines()
    (place / "more.jsonl").write_text("\n".join(half[:20]))
    run = tmp_path / "run"
    sources = '[{name="a", path="pairs.jsonl"}, {name="b", path="more.jsonl"}]'
    done = call("train", "dpo", "--from", "base", "--run", run, f"data.source={sources}", *SETTINGS)
    assert done.code == 0, done.err
    last = [row for row in lines(run / "metrics.jsonl") if "val_loss" in row][-3:]
    assert {row["set"] for row in last} == {"validation", "a", "b"}
    assert last[0]["val_accuracy"] > 0.8
    assert set(load_file(run / "reference.safetensors")) == {"train/a", "train/b", "val/a", "val/b"}


@pytest.mark.slow
def test_real_preferences_are_learned(shared_data: Path, tmp_path: Path) -> None:
    """A tiny model, a part of the file, an epoch: of the held-out pairs, most are told apart."""
    run, records = tmp_path / "run", shared_data / "instructions/instruction_data_1100.json"
    whole = shared_data / "preferences/instruction_data_with_preference.json"
    part = tmp_path / "part.json"
    part.write_text(json.dumps(json.loads(whole.read_text("utf-8"))[:600]))
    settings = {
        "data.path": records,
        "data.render": "alpaca",
        "data.tokenizer": "bpe:500",
        "model.n_layer": 1,
        "model.d_model": 64,
        "model.context": 192,
        "model.vocab_size": 500,
        "model.padded_vocab": 512,
        "train.steps": 10,
        "train.tokens_per_step": 1536,
        "train.micro_batch": 8,
        "optim.lr": 0.003,
    }
    done = call(
        "train", "base.toml", "--run", tmp_path / "base", *(f"{k}={v}" for k, v in settings.items())
    )
    assert done.code == 0, done.err
    done = call(
        "train", "dpo", "--from", tmp_path / "base", "--run", run, f"data.path={part}",
        "optim.lr=0.003", "train.steps=18", "train.device=cpu", "chat.examples_per_step=32",
        "train.micro_batch=32", "eval.every=0", "sample.every=0",
    )  # fmt: skip
    assert done.code == 0, done.err
    last = [row for row in lines(run / "metrics.jsonl") if "val_loss" in row][-1]
    assert last["val_accuracy"] > 0.7
    assert last["val_margin"] > 0.5


MISTAKES = {
    "conversations are no preferences": (
        ["train", "dpo", "--from", "base", "--run", "new", "data.path=text.jsonl"],
        ["text.jsonl, line 1: is no preference: its fields are text", "chosen"],
    ),
    "DPO from nothing": (
        ["train", "dpo", "--run", "new", "data.path=pairs.jsonl"],
        ["dpo", "--from MODEL"],
    ),
    "packed answers": (
        ["train", "orpo", "--from", "base", "--run", "new", "data.path=pairs.jsonl",
         "chat.packing=true"],
        ["chat.packing", "chat.packing=false"],
    ),
    "smoothing that does nothing": (
        ["train", "orpo", "--from", "base", "--run", "new", "data.path=pairs.jsonl",
         "preference.label_smoothing=0.1"],
        ["preference.label_smoothing = 0.1 has no effect", '"orpo"'],
    ),
    "half of the labels wrong": (
        ["train", "dpo", "--from", "base", "--run", "new", "preference.label_smoothing=0.5"],
        ["preference.label_smoothing", "less than 0.5"],
    ),
    "a beta of nothing": (
        ["train", "dpo", "--from", "base", "--run", "new", "preference.beta=0"],
        ["preference.beta", "greater than 0"],
    ),
    "preferences in pretraining": (
        ["train", "base.toml", "--run", "new", "preference.beta=0.2"],
        ["[preference] has no effect", "train.objective=dpo"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_with_its_fix(mistake: str, place: Path) -> None:
    arguments, expected = MISTAKES[mistake]
    answer = call(*arguments)
    assert answer.code == 2, answer
    for fragment in expected:
        assert fragment in answer.err
    assert "Traceback" not in answer.err
    assert not (place / "new").exists(), "nothing was begun"
