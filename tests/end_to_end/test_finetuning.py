"""A base model is finetuned on conversations through the command line, and answers."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from command import call, send
from endings import assert_same_end, checkpoint, events, rows

from fromscratch.chat.conversations import Message, messages_of
from fromscratch.checkpoint.bundle import load_bundle
from fromscratch.runs.answers import Question, answer
from tests.forking.forks import Forks

BASE = """
[model]
family = "modern"
n_layer = 2
n_head = 2
d_model = 32
context = 128
padded_vocab = 272
tie_embeddings = true
[data]
path = "texts"
tokenizer = "bytes"
val_fraction = 0.2
documents = "file"
[optim]
lr = 3e-3
[train]
steps = 4
tokens_per_step = 512
micro_batch = 2
device = "cpu"
precision = "fp32"
health_every = 0
[sample]
every = 0
[checkpoint]
keep_last = 1
"""

# Dropout, packed rows, several epochs. The last fifth, held out, is answered unlike the others, so
# that validation gets worse and the run ends by its patience.
SFT = """
[model]
dropout = 0.1
[data]
path = "talk.jsonl"
val_fraction = 0.2
[chat]
split = "order"
test_fraction = 0.2
max_new_tokens = 5
[optim]
lr = 1e-2
[schedule]
name = "constant"
[train]
objective = "sft"
steps = 60
tokens_per_step = 512
micro_batch = 2
device = "cpu"
precision = "fp32"
[eval]
every = 2
patience = 3
[sample]
every = 6
prompts = ["Say 7"]
max_new_tokens = 4
[checkpoint]
every = 3
keep_last = 2
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base model, conversations and a recipe."""
    root = tmp_path_factory.mktemp("bench")
    (root / "texts").mkdir()
    for i in range(30):
        (root / f"texts/{i}.txt").write_text(f"{i} words, and more words. " * 12)
    turns = [
        {
            "messages": [
                {"role": "user", "content": f"Say {i}"},
                {"role": "assistant", "content": (f"{i}" if i < 72 else "No") * (1 + i % 5)},
                {"role": "user", "content": "Again"},
                {"role": "assistant", "content": f"Again {i * 37 % 91}" if i < 72 else "Never!"},
            ]
        }
        for i in range(90)
    ]
    (root / "talk.jsonl").write_text("".join(json.dumps(turn) + "\n" for turn in turns))
    (root / "base.toml").write_text(BASE)
    (root / "sft.toml").write_text(SFT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        made = call("train", "base.toml", "--run", "base")
        assert made.code == 0, made.err
        calm = call("train", "sft.toml", "--from", "base", "--run", "calm")
        assert calm.code == 0, calm.err
        (root / "said.txt").write_text(calm.err)
    return root


@pytest.fixture(autouse=True)
def _here(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench)


def test_what_is_learned_is_shown_and_counted_before_the_first_step(bench: Path):
    said = (bench / "said.txt").read_text()
    assert "the first example, «learned»:" in said
    shown = said.split("«learned»:\n")[1].split("\n\n")[0]
    number = shown.split("Say ")[1].split("<")[0]
    assert shown.startswith(f"<|user|>Say {number}<|end|><|assistant|>«{number}")
    assert shown.count("«<|end|>»") == 2
    assert "<|user|>Again<|end|><|assistant|>«Again " in shown
    counted = events(bench / "calm", "examples")[0]["message"]
    assert "are learned" in counted
    assert "for the test" in counted
    assert said.index("are learned") < said.index("val loss")


def test_patience_ends_the_run_and_the_best_checkpoint_answers(bench: Path):
    run = bench / "calm"
    losses = {r["step"]: r["val_loss"] for r in rows(run / "metrics.jsonl") if "val_loss" in r}
    best = min(losses, key=losses.get)
    last = max(losses)
    assert last < 60
    assert last - best == 3 * 2
    assert checkpoint(run, "best").name == f"step-{best:08d}"
    (end,) = events(run, "finished")
    assert f"stopped early at step {last} of 60" in end["message"]
    assert f"best at step {best} " in end["message"]
    samples = [r["step"] for r in rows(run / "samples.jsonl")]
    assert samples[-1] == last, "an early end is an end"
    answers = json.loads((run / "answers.json").read_text())
    bundle = load_bundle(run)
    assert {a["model"] for a in answers} == {bundle.sha256}
    assert [m["role"] for m in answers[0]["messages"]] == ["user", "assistant", "user"]
    assert all(a["ended"] in ("end", "limit") for a in answers)
    again = call("resume", run)
    assert again.code == 0
    assert "stopped early" in again.out
    assert "eval.patience=0" in again.out


@pytest.mark.slow
def test_a_killed_run_ends_as_one_that_was_not_and_needs_its_base_no_more(
    bench: Path, tmp_path: Path, forks: Forks
):
    """Dropout, packed rows, several epochs, an end by patience, answers."""
    killed = tmp_path / "killed"
    process = forks.start("train", "sft.toml", "--from", "base", "--run", killed, cwd=bench)
    metrics = killed / "metrics.jsonl"
    while process.poll() is None:
        if metrics.exists() and metrics.read_text("utf-8").count('"loss"') >= 4:
            process.kill()
        time.sleep(0.005)
    assert process.wait() == -signal.SIGKILL
    shutil.move(bench / "base", tmp_path / "away")
    done = call("resume", killed)
    shutil.move(tmp_path / "away", bench / "base")
    assert done.code == 0, done.err
    assert "finished" in done.out
    assert_same_end(killed, bench / "calm")
    ours, theirs = ((run / "answers.json").read_bytes() for run in (killed, bench / "calm"))
    assert ours == theirs


def test_an_interruption_before_the_patience_is_over_changes_nothing(
    bench: Path, tmp_path: Path, at
):
    run = tmp_path / "run"
    last = max(r["step"] for r in rows(bench / "calm/metrics.jsonl") if "loss" in r)
    at("row", last - 1, send(signal.SIGTERM))
    stopped = call("train", "sft.toml", "--from", "base", "--run", run)
    assert f"stopped and saved at step {last - 1}" in stopped.out
    assert call("resume", run).code == 0
    assert_same_end(run, bench / "calm")


def test_a_run_killed_before_its_first_checkpoint_starts_from_its_base_again(
    bench: Path, tmp_path: Path
):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(bench / "calm/recipe.toml", run)
    done = call("resume", run, "train.steps=2", "eval.patience=0")
    assert done.code == 0, done.err
    ours = next(r for r in rows(run / "metrics.jsonl") if r.get("step") == 1 and "loss" in r)
    theirs = next(
        r for r in rows(bench / "calm/metrics.jsonl") if r.get("step") == 1 and "loss" in r
    )
    assert ours["loss"] == theirs["loss"]


def test_examples_that_are_gone_are_missed_with_a_sentence(bench: Path, tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    recipe = (bench / "calm/recipe.toml").read_text()
    (folder,) = set(re.findall(r'"([^"]*/prepared/[^"]*)"', recipe))
    (run / "recipe.toml").write_text(recipe.replace(folder, f"{folder}-gone"))
    done = call("resume", run)
    assert done.code == 2
    assert f"{folder}-gone is gone" in done.err
    assert "Restore it" in done.err


def test_pretraining_goes_on_from_a_model_and_says_what_it_has_seen(bench: Path, tmp_path: Path):
    run = tmp_path / "run"
    done = call("train", "base.toml", "--from", "base", "--run", run, "train.steps=1")
    assert done.code == 0, done.err
    validations = [r["val_loss"] for r in rows(Path("base/metrics.jsonl")) if "val_loss" in r]
    first = next(r["val_loss"] for r in rows(run / "metrics.jsonl") if "val_loss" in r)
    assert first == pytest.approx(min(validations), abs=1e-6)
    (consumed,) = events(run, "consumed_data")
    state = json.loads((checkpoint(Path("base")) / "state.json").read_text())
    epochs = rows(Path("base/metrics.jsonl"))[-2]["epochs"]["texts"]
    assert list(state["read"].values()) == [pytest.approx(epochs)]
    assert f'on this very text before: {epochs:.3g} times through "texts"' in consumed["message"]
    assert "in the same order" in consumed["message"]


def test_what_the_first_of_several_models_has_read_is_remembered(bench: Path, tmp_path: Path):
    """R03: through a model trained on something else, under another name, in other windows."""
    (tmp_path / "other").mkdir()
    for i in range(30):
        (tmp_path / f"other/{i}.txt").write_text(f"Number {i} is of another kind. " * 12)
    middle, last = tmp_path / "middle", tmp_path / "last"
    done = call(
        "train", "base.toml", "--from", "base", "--run", middle, f"data.path={tmp_path / 'other'}",
        "model.context=64", "train.steps=2",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert not events(middle, "consumed_data")
    again = shutil.copytree(bench / "texts", tmp_path / "again")
    done = call(
        "train", "base.toml", "--from", middle, "--run", last, f"data.path={again}",
        "model.context=32", "train.steps=1",
    )  # fmt: skip
    assert done.code == 0, done.err
    (consumed,) = events(last, "consumed_data")
    epochs = rows(Path("base/metrics.jsonl"))[-2]["epochs"]["texts"]
    assert f'{epochs:.3g} times through "again"' in consumed["message"]
    assert "in the same order" not in consumed["message"]
    # Both texts are remembered from here on, and what was read again is added.
    read = json.loads((checkpoint(last) / "state.json").read_text())["read"]
    assert len(read) == 2
    assert max(read.values()) > epochs


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["model.n_layer=3"], ["model.n_layer = 3 contradicts", "which has 2", "Leave"]),
        (["model.context=512"], ["more than the 128", "model.context=128"]),
        (["data.tokenizer=gpt2"], ["data.tokenizer", "that of the model"]),
        (["chat.template=defualt"], ['no chat template "defualt"', 'Did you mean "default"?']),
        (["chat.max_prompt_tokens=2"], ["no example to train on", "too long"]),
        (["data.path=texts"], ["text", "JSON"]),
    ],
)
def test_what_does_not_go_with_the_model_is_refused(typed: list[str], said: list[str]):
    done = call("train", "sft.toml", "--from", "base", "--run", "refused", *typed)
    assert done.code == 2, done.out
    for words in said:
        assert words in done.err
    assert not Path("refused").exists()


@pytest.mark.slow
def test_instructions_learnt_by_heart_come_back_word_for_word_and_stop(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """32 of the 1,100; the model was trained a little on their text before."""
    monkeypatch.chdir(tmp_path)
    everything = json.loads((shared_data / "instructions/instruction_data_1100.json").read_text())
    short = sorted(everything, key=lambda r: len(r["instruction"] + r["input"] + r["output"]))[:32]
    Path("texts").mkdir()
    for number, record in enumerate(short):
        Path(f"texts/{number}.txt").write_text(" ".join(record.values()))
    Path("some.json").write_text(json.dumps(short))
    Path("base.toml").write_text(BASE)
    Path("sft.toml").write_text(SFT)
    assert call("train", "base.toml", "--run", "base", "model.d_model=64").code == 0
    done = call(
        "train", "sft.toml", "--from", "base", "--run", "run", "data.path=some.json",
        "data.val_fraction=0", "chat.test_fraction=0", "model.dropout=0",
        "optim.name=muon", "optim.lr=6e-3",
        "schedule.name=linear", "schedule.warmup_steps=10", "train.steps=100",
        "train.tokens_per_step=1024", "train.micro_batch=8", "eval.patience=0", "sample.every=0",
        "checkpoint.every=1000",
    )  # fmt: skip
    assert done.code == 0, done.err
    bundle = load_bundle("run")
    assert bundle.template is not None
    questions = [Question("", messages_of(r)[:1], r["output"]) for r in short]
    assert questions[0].messages[0] == Message("user", short[0]["instruction"], short[0]["input"])
    answers = answer(bundle, bundle.template, questions, max_new_tokens=40)
    wrong = [
        (q.reference, a) for q, a in zip(questions, answers, strict=True) if a.text != q.reference
    ]
    assert not wrong
    assert {a.ended for a in answers} == {"end"}
