"""Runs of several processes: one global batch, one writer, one who speaks, the same checkpoints."""

import contextlib
import io
import json
import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from launching import PATIENCE, forked, process_of, torchrun, wait_until
from safetensors.torch import load_file

from fromscratch.cli.main import main
from tests.forking.forks import Forks

RECIPE = """
name = "shared"
[model]
family = "modern"
n_layer = 2
n_head = 2
d_model = 32
context = 32
vocab_size = 257
padded_vocab = 259
[data]
path = "text"
tokenizer = "bytes"
val_fraction = 0.2
documents = "file"
[optim]
name = "muon"
lr = 0.001
muon_lr = 0.005
[train]
steps = 42
tokens_per_step = 256
micro_batch = 2
[eval]
every = 7
hellaswag_every = 20
hellaswag = "set.jsonl"
[sample]
every = 20
prompts = ["the "]
max_new_tokens = 6
[checkpoint]
every = 3
keep_last = 100
"""
MIDDLE = 15
"""A step whose checkpoint is gone on from."""


def alone(*arguments: str | Path) -> None:
    """The command line, in this process."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        pytest.raises(SystemExit) as end,
    ):
        main([str(a) for a in arguments])
    assert not end.value.code


def rows(run: Path, key: str) -> dict[int, dict[str, Any]]:
    """The run's rows that have a key, by step; none twice."""
    path = run / "metrics.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    found = [row for line in lines if line.endswith("}") and key in (row := json.loads(line))]
    by_step = {row["step"]: row for row in found}
    assert len(by_step) == len(found)
    return by_step


def events(run: Path, name: str) -> list[dict[str, Any]]:
    lines = (run / "events.jsonl").read_text("utf-8").splitlines()
    return [event for line in lines if (event := json.loads(line))["event"] == name]


def assert_same_run(run: Path, other: Path) -> None:
    """The same data in the same order, the same losses to 1e-6, the same files of tensors."""
    for key in ("loss", "val_loss", "hellaswag_acc"):
        here, there = rows(run, key), rows(other, key)
        assert list(here) == list(there)
        for step, row in here.items():
            assert row[key] == pytest.approx(there[step][key], rel=1e-6), step
            for exact in (
                "tokens",
                "epochs",
                "lr",
                "val_tokens",
                "hellaswag_acc_norm",
                "hellaswag_n",
            ):
                assert row.get(exact) == there[step].get(exact)
    for name in ("model.safetensors", "optimizer.safetensors"):
        mine = load_file(run / "checkpoints/latest" / name)
        theirs = load_file(other / "checkpoints/latest" / name)
        assert {n: (t.shape, t.dtype) for n, t in mine.items()} == {
            n: (t.shape, t.dtype) for n, t in theirs.items()
        }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text, a recipe, and the run that one process made of it."""
    root = tmp_path_factory.mktemp("place")
    (root / "text").mkdir()
    draw = random.Random(0)
    for i in range(60):
        words = [draw.choice(("the", "a", "of", "many", "ranks", "one")) for _ in range(40)]
        (root / "text" / f"{i}.txt").write_text(f"{i} " + " ".join(words))
    item = {"activity_label": "", "ctx_a": "", "ctx_b": "", "endings": ["a", "of", "one", "the"]}
    items = [item | {"ctx": f"{i} many", "label": i % 4} for i in range(70)]
    (root / "set.jsonl").write_text("".join(json.dumps(i) + "\n" for i in items))
    (root / "recipe.toml").write_text(RECIPE)
    with contextlib.chdir(root):
        alone("train", "recipe.toml", "--run", "reference")
    return root


def from_the_middle(place: Path, name: str) -> Path:
    """The reference, as if it had been killed after MIDDLE steps."""
    run = place / name
    shutil.copytree(place / "reference", run, symlinks=True)
    for folder in (run / "checkpoints").glob("step-*"):
        if int(folder.name.removeprefix("step-")) > MIDDLE:
            shutil.rmtree(folder)
    return run


@pytest.mark.slow
def test_two_train_stop_together_and_one_goes_on(place: Path):
    shutil.rmtree(place / "prepared")  # the two must prepare it, and only one of them
    run, log = place / "two", place / "two.log"
    command = ["-m", "--", "fromscratch", "train", "recipe.toml", "--run", run]
    launcher = torchrun(*command, cwd=place, log=log)
    wait_until(launcher, lambda: len(rows(run, "loss")) >= 5, log)
    os.kill(process_of(launcher, 1), signal.SIGTERM)  # rank 0 is not told
    assert launcher.wait(PATIENCE) == 0, log.read_text()
    assert len(list((place / "prepared").iterdir())) == 1
    stopped = len(rows(run, "loss"))
    assert 5 <= stopped < 42
    assert (run / f"checkpoints/step-{stopped:08}").is_dir()
    said = log.read_text()
    assert said.count(f"saved at step {stopped}") == 2  # the event, and the last line
    assert said.count("run ") == 1
    assert len(events(run, "started")) == 1
    assert events(run, "started")[0]["ranks"] == 2
    with contextlib.chdir(place):
        alone("resume", run)
    assert len(events(run, "ranks_changed")) == 1
    assert_same_run(run, place / "reference")


@pytest.mark.long
def test_shards_go_on_where_one_stood_and_a_death_ends_them_with_a_sentence(place: Path):
    run, log = from_the_middle(place, "sharded"), place / "sharded.log"
    command = ["-m", "--", "fromscratch", "resume", run, "parallel.mode=fsdp"]
    # Longer than a stuck rank is waited for: it is let end.
    command += ["--then", "sleep 12; echo $FROMSCRATCH_OUTCOME >> then"]
    launcher = torchrun(*command, cwd=place, log=log)
    later = run / f"checkpoints/step-{MIDDLE + 6:08}"
    wait_until(launcher, later.is_dir, log)
    os.kill(process_of(launcher, 1), signal.SIGKILL)
    assert launcher.wait(60) != 0
    assert events(run, "failed")[0]["message"].startswith("Rank 1 of 2 has ended")
    assert events(run, "resumed")[0]["step"] == MIDDLE
    # What torchrun reports of it is torchrun's; we say one thing, once, and no stack.
    said = log.read_text()
    assert [line for line in said.splitlines() if line.startswith("error: ")] == [
        "error: Rank 1 of 2 has ended without a word (killed, or out of memory), and the run "
        "cannot go on without it."
    ]
    assert (place / "then").read_text() == "failed\n"
    assert "[rank" not in said
    assert "terminate called" not in said
    with contextlib.chdir(place):
        alone("resume", run, "parallel.mode=ddp")
    assert events(run, "resumed")[-1]["step"] > MIDDLE
    assert_same_run(run, place / "reference")


@pytest.mark.long
def test_torchrun_starts_them_again_and_they_go_on(place: Path):
    run, log = from_the_middle(place, "again"), place / "again.log"
    launcher = torchrun("-m", "--", "fromscratch", "resume", run, restarts=1, cwd=place, log=log)
    wait_until(launcher, (run / f"checkpoints/step-{MIDDLE + 6:08}").is_dir, log)
    os.kill(process_of(launcher, 1), signal.SIGKILL)
    assert launcher.wait(PATIENCE) == 0, log.read_text()[-3000:]
    assert len(events(run, "resumed")) == 2
    assert_same_run(run, place / "reference")


@pytest.mark.slow
def test_a_mistake_is_said_once(place: Path, forks: Forks):
    command = ["train", "recipe.toml", "train.micro_batch=8", "--run", "new"]
    both = forked(forks, *command, cwd=place)
    assert all(rank.code == 2 for rank in both)
    said = "".join(rank.out + rank.err for rank in both)
    # These ranks agree in rank 0's memory, and torchrun's in its own: where rank 0 has gone first,
    # the other may add that it has, which torchrun's never do.
    assert said.count("error: ") - said.count("the run cannot go on without it") == 1
    assert said.count("8 windows of a step") == 1
    assert "cannot be dealt out to 2 processes" in said
    assert "train.micro_batch: 1, 2, 4." in said
    assert not (place / "new").exists()


@pytest.mark.long
def test_a_rank_that_is_stuck_ends_within_a_minute_of_the_other_s_death(tmp_path: Path):
    log = tmp_path / "log"
    launcher = torchrun(Path(__file__).with_name("stuck.py"), cwd=tmp_path, log=log)
    # torchrun itself would kill what does not listen to SIGTERM after 30 seconds, in silence.
    assert launcher.wait(PATIENCE) != 0
    said = log.read_text()
    assert said.count("error: Rank 1 of 2 has ended without a word") == 1
    assert "(SIGKILL)" in said
    then = (tmp_path / "then").read_text()
    assert then.startswith("failed: Rank 1 of 2 has ended without a word")
