"""A run that gets into trouble goes back, and on with other windows: exactly, also when killed."""

import contextlib
import json
import random
import signal
import time
from collections import Counter
from pathlib import Path
from statistics import mean

import pytest
from command import call, send
from endings import assert_same_end, checkpoint, checkpoints, events, lines
from poisoned import faulty, poison_text

from fromscratch.runs import objectives

# The fault of `faulty`, for processes.
FAULT = Path(__file__).parents[1] / "parallel/faulty.py"

# Six steps of poison in the middle: three refusals lead back to step 20, whence the other three
# come, and so back to step 15, from where all of them are left out.
RECIPE = """
[model]
family = "gpt2"
n_layer = 1
n_head = 2
d_model = 16
context = 32
dropout = 0.1
[data]
tokenizer = "bytes"
source = [
    {name = "prose", path = "prose", weight = 2},
    {name = "lists", path = "lists"},
    {name = "poison", path = "poison", weight = 0},
]
stage = [
    {from_tokens = 5_120, weights = {prose = 0, lists = 0, poison = 1}},
    {from_tokens = 6_656, weights = {prose = 2, lists = 1, poison = 0}},
]
[optim]
lr = 0.003
[schedule]
warmup_steps = 3
[train]
steps = 32
tokens_per_step = 256
micro_batch = 4
health_every = 4
[eval]
every = 8
tokens = 64
[sample]
every = 8
prompts = ["the "]
max_new_tokens = 4
[checkpoint]
every = 5
keep_last = 4               # that of an interruption takes a place among them
[guard]
patience = 3
"""


@pytest.fixture(scope="module")
def calm(place: Path) -> Path:
    """The run that went back twice, and that nothing else happened to."""
    poison_text(place)
    (place / "poisoned.toml").write_text(RECIPE)
    with contextlib.chdir(place), pytest.MonkeyPatch.context() as patch:
        patch.setattr(objectives, "next_token_loss", faulty(objectives.next_token_loss))
        done = call("train", "poisoned.toml", "--run", "went-back")
    assert done.code == 0, done.err
    return place / "went-back"


def test_it_goes_back_and_past_what_led_there(calm):
    assert [(e["step"], e["to_step"], e["skipped_samples"]) for e in events(calm, "rolled_back")] \
        == [(23, 20, [160, 184]), (23, 15, [120, 208])]  # fmt: skip
    skipped = events(calm, "skipped_step")
    assert [e["step"] for e in skipped] == [21, 22, 23] * 2
    assert [e["samples"] for e in skipped[2:4]] == [[176, 184], [184, 192]]
    for event in skipped:
        assert len(event["windows"]) == 8
        assert {window["source"] for window in event["windows"]} == {"poison"}
        assert all("~~~~" in text for text in event["text"])
        assert "embed.weight" in event["not_finite"]
    rows = [row for row in lines(calm / "metrics.jsonl") if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, 33))
    assert all(row.get("applied", True) and isinstance(row["loss"], float) for row in rows)
    # After the six steps left out in the middle, as many windows as a run of 32 steps has.
    assert sum(rows[-1]["drawn"].values()) == 32 * 8
    assert rows[-1]["drawn"]["poison"] == 0
    for name, windows in rows[-1]["drawn"].items():
        assert abs(windows - rows[-1]["wanted"][name]) < 3
    state = json.loads((checkpoint(calm) / "state.json").read_text())
    assert state["skipped"] == [[120, 208]]
    assert state["sample"] == 32 * 8 + 88
    health = [row["step"] for row in lines(calm / "health.jsonl")]
    assert health == list(range(4, 33, 4)), "rows of the course that was given up are gone"
    validated = [r["step"] for r in lines(calm / "metrics.jsonl") if r.get("set") == "validation"]
    assert validated == [0, 8, 16, 24, 32]


def test_an_interruption_among_the_refusals_changes_nothing(calm, place, run, monkeypatch, at):
    monkeypatch.setattr(objectives, "next_token_loss", faulty(objectives.next_token_loss))
    at("row", 22, send(signal.SIGTERM))
    assert call("train", "poisoned.toml", "--run", run).code == 0
    assert checkpoint(run).name == "step-00000022"
    assert call("resume", run).code == 0
    assert_same_end(run, calm)


@pytest.mark.slow
def test_kills_around_going_back_change_nothing(calm, place, tmp_path, forks):
    """SIGKILL at instants from the event on: before, in and after the commit that goes with it."""
    run, draw, kills = tmp_path / "run", random.Random(7), Counter[str]()
    for turn in range(12):
        words = ["resume", run] if (run / "recipe.toml").is_file() else [
            "train", "poisoned.toml", "--run", run,
        ]  # fmt: skip
        process = forks.start(*words, cwd=place, before=FAULT)
        before = count(run, "rolled_back")
        last = turn >= 4
        while process.poll() is None:
            if not last and count(run, "rolled_back") > before:
                time.sleep(draw.choice((0.0, 0.004, 0.015, 0.05)))
                process.kill()
            time.sleep(0.001)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        kills["landed"] += 1
    assert kills["landed"] >= 2
    assert_same_end(run, calm)
    assert checkpoints(run) == checkpoints(calm)
    assert [{**row} for row in lines(run / "health.jsonl")] == lines(calm / "health.jsonl")


def count(run: Path, name: str) -> int:
    try:
        return (run / "events.jsonl").read_text("utf-8").count(f'"event": "{name}"')
    except FileNotFoundError:
        return 0


def test_it_goes_back_at_most_so_often_and_then_says_so(run):
    """No fault is put in: the learning rate alone makes the weights overflow, again and again."""
    recipe = ["train", "recipe.toml", "optim.lr=1e30", "guard.patience=2", "eval.every=0",
              "eval.tokens=32", "sample.every=0", "schedule.warmup_steps=0"]  # fmt: skip
    done = call(*recipe, "--run", run)
    assert done.code == 2
    assert "2 updates in a row were refused, up to step 3" in done.err
    assert "has gone back 2 times" in done.err
    assert "optim.lr" in done.err
    assert "Traceback" not in done.err
    assert [e["to_step"] for e in events(run, "rolled_back")] == [0, 0]
    assert events(run, "failed")[-1]["step"] == 3
    # What is there is sound: with a rate that can be, it goes on from there.
    again = call("resume", run, "optim.lr=0.003", "train.steps=6")
    assert again.code == 0, again.err
    assert all(isinstance(r["loss"], float) for r in lines(run / "metrics.jsonl") if "loss" in r)


SPIKE = """
[model]
family = "gpt2"
n_layer = 2
n_head = 2
d_model = 32
context = 32
[data]
tokenizer = "bytes"
source = [
    {name = "prose", path = "prose", weight = 399},
    {name = "poison", path = "poison", weight = 1},
]
[optim]
lr = 0.02
clip = 0.0
betas = [0.9, 0.999]
[schedule]
name = "constant"
warmup_steps = 10
[train]
steps = 125
tokens_per_step = 64
micro_batch = 2
[eval]
every = 0
tokens = 32
[sample]
every = 0
[checkpoint]
every = 1000
[guard]
spike_window = 40
spike_from_step = 30
"""


@pytest.mark.slow
def test_a_spike_that_would_spoil_the_run_does_not(place, run):
    """R26 in small: one window of garbage in 400, no clipping. Nothing but the text is wrong."""
    poison_text(place)
    Path("spike.toml").write_text(SPIKE)
    after = {}
    for z in ("0", "8"):
        folder = run.with_name(f"z{z}")
        done = call("train", "spike.toml", f"guard.spike_z={z}", "--run", folder)
        assert done.code == 0, done.err
        rows = {r["step"]: r for r in lines(folder / "metrics.jsonl") if "loss" in r}
        refused = [e["step"] for e in events(folder, "skipped_step")]
        assert refused == ([101] if z == "8" else [])
        assert rows[101]["loss"] > 5 > 3 > max(rows[s]["loss"] for s in range(60, 101))
        assert rows[101].get("applied", True) == (z == "0")
        after[z] = mean(rows[step]["loss"] for step in range(103, 118))
    (event,) = events(run.with_name("z8"), "skipped_step")
    assert "a spike: loss" in event["message"]
    assert [w["source"] for w in event["windows"]].count("poison") == 1
    assert after["0"] > 1.25 * after["8"]
