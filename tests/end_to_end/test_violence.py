"""Guarantee 1: a run that is killed at any instant ends as one that was not, bit for bit."""

import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from command import start
from endings import assert_same_end, checkpoints, events, lines
from violence import Victim

from tests.forking.forks import Forks

KILLS = 20
"""As many must have been survived in all, or the test has not shown what it is for."""

COMMON = """
[sample]
every = 20
prompts = ["the "]
max_new_tokens = 6
"""

RECIPES = {
    # Dropout, two sources in unequal shares, many epochs of one, four micro-batches to a step; a
    # blend and a switch of shares whose borders lie inside steps and between checkpoints.
    "mixture": """
[model]
family = "gpt2"
n_layer = 2
n_head = 2
d_model = 32
context = 32
dropout = 0.1
padded_vocab = 272
[data]
tokenizer = "bytes"
source = [{name = "prose", path = "prose", weight = 2}, {name = "lists", path = "lists"}]
stage = [
    {from_tokens = 9_111, weights = {prose = 1, lists = 4}, blend_tokens = 7_777},
    {from_tokens = 19_999, weights = {prose = 1, lists = 0}},
]
[optim]
name = "adamw"
lr = 0.003
[schedule]
warmup_steps = 10
[train]
steps = 90
tokens_per_step = 256
micro_batch = 2
[eval]
every = 7
[checkpoint]
every = 5
keep_last = 2
""",
    # Muon beside AdamW, text prepared on first use, attention within documents, one checkpoint; all
    # that can be scheduled, and three phases.
    "muon": """
[model]
family = "modern"
n_layer = 2
n_head = 2
d_model = 32
context = 32
dropout = 0.1
[data]
path = "prose-text"
tokenizer = "bpe:300"
val_fraction = 0.15
documents = "file"
document_mask = true
[optim]
name = "muon"
lr = 0.003
[schedule]
name = "wsd"
weight_decay = {name = "cosine"}
momentum = {start = 0.85, warmup_steps = 40, end = 0.9}
[train]
epochs = 11
tokens_per_step = 128
micro_batch = 4
phase = [
    {from_step = 31, schedule = "cosine", min_lr = 0.001, clip = 0.3},
    {from_step = 64, schedule = "linear", muon_weight_decay = 0.2},
]
[eval]
every = 10
tokens = 128
[checkpoint]
every = 3
keep_last = 1
background = false
""",
    # fp16 whose loss scale overflows and grows all the time, AdamW in 8 bits, each block computed
    # again for the backward pass.
    "sixteen bits": """
[model]
family = "gpt2"
n_layer = 2
n_head = 2
d_model = 32
d_ff = 128
context = 32
dropout = 0.1
padded_vocab = 264
[data]
path = "prose"
tokenizer = "bytes"
[optim]
name = "adamw8bit"
lr = 0.003
[schedule]
warmup_steps = 5
[train]
steps = 60
tokens_per_step = 128
micro_batch = 2
precision = "fp16"
loss_scale = {initial = 16_777_216, growth_interval = 4}
activation_checkpointing = true
[eval]
every = 15
[checkpoint]
every = 4
keep_last = 2
""",
    # Post-norm, sinusoidal positions, an untied head; the stream's end falls inside a window.
    # Checkpoints that are kept for ever, and temporary ones several times a second.
    "postnorm": """
[model]
family = "gpt2"
n_layer = 2
n_head = 4
d_model = 32
context = 48
dropout = 0.2
norm_placement = "post"
positions = "sinusoidal"
tie_embeddings = false
[data]
path = "lists"
tokenizer = "bytes"
[optim]
lr = 0.002
clip = 0.5
[schedule]
name = "linear"
warmup_steps = 5
[train]
steps = 80
tokens_per_step = 288
micro_batch = 3
[eval]
every = 25
[checkpoint]
every = 4
keep_last = 3
keep_best = false
keep_every = 30
every_minutes = 0.003
""",
}

PLANS = {
    "mixture": [
        "before the first checkpoint", "training", "before the first step",
        "before the first step", "writing", "writing",
    ],
    "muon": [
        "first instants", "before the first checkpoint", "writing", "training", "writing",
        "training",
    ],
    "sixteen bits": ["training", "writing", "training"],
    "postnorm": ["writing", "training", "before the first step", "writing", "first instants"],
}  # fmt: skip


def test_there_are_enough_kills() -> None:
    total = Counter(way for plan in PLANS.values() for way in plan)
    assert total.total() >= KILLS
    assert total["writing"] > 5
    assert total["training"] > 5
    assert total["before the first step"] > 1


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", RECIPES)
def test_a_run_killed_many_times_ends_as_one_that_was_not(
    place: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str], forks: Forks
) -> None:
    (place / f"{name}.toml").write_text(RECIPES[name] + COMMON)
    victims = killed_runs(place, f"{name}.toml", tmp_path, PLANS[name], forks)
    calm = tmp_path / "calm"
    assert forks.run("train", f"{name}.toml", "--run", str(calm), cwd=place).code == 0

    kills = sum((victim.kills for victim in victims), Counter[str]())
    with capsys.disabled():
        print(f"\n{kills.total()} kills survived: {dict(kills)}")
    assert kills.total() >= len(PLANS[name])
    assert kills["writing"] > 0
    assert kills["training"] > 0
    validations = [row for row in lines(calm / "metrics.jsonl") if "val_loss" in row]
    assert len(validations) > 3
    assert len(lines(calm / "samples.jsonl")) > 3
    if name == "muon":
        epochs = next(r for r in reversed(lines(calm / "metrics.jsonl")) if "loss" in r)["epochs"]
        assert epochs["prose-text"] > 10
    if name == "sixteen bits":
        overflowed = [row["overflowed"] for row in lines(calm / "metrics.jsonl") if "loss" in row]
        assert sum(overflowed[10:]) > 5, "the scale was not in motion"
    for victim in victims:
        assert_same_end(victim.run, calm)
        assert checkpoints(victim.run) == checkpoints(calm)
        assert len(events(victim.run, "finished")) == 1


def killed_runs(
    place: Path, recipe: str, folder: Path, plan: list[str], forks: Forks
) -> list[Victim]:
    """Runs of a recipe that were killed as planned and went on to their ends.

    One that was too fast for its plan is followed by another, for what is left of it.
    """
    victims: list[Victim] = []
    planned = list(plan)
    while planned:
        victim = Victim(place, recipe, folder / f"killed-{len(victims)}", len(victims), forks)
        victims.append(victim)
        victim.suffer(planned)
        planned = planned[victim.kills.total() :]
        assert len(victims) < 10, "runs finish without being killed"
    return victims


@pytest.mark.long
def test_products_that_are_shared_by_threads_resume_bit_for_bit(place: Path, tmp_path: Path):
    """The shape that `try` trains, on two threads: large enough for sums to be split."""
    shape = [
        "train", "try", "data.path=prose-text", "data.tokenizer=bpe:300", "data.val_fraction=0.15",
        "model.vocab_size=300", "train.steps=10", "eval.every=4", "checkpoint.every=2",
        "sample.every=0",
    ]  # fmt: skip
    killed, calm = tmp_path / "killed", tmp_path / "calm"
    victim = start(*shape, "--run", killed, cwd=place, threads=2)
    metrics = killed / "metrics.jsonl"
    while victim.poll() is None:
        if metrics.exists() and metrics.read_text("utf-8").count('"loss"') >= 5:
            victim.kill()
        time.sleep(0.005)
    assert victim.wait() == -signal.SIGKILL
    assert start("resume", killed, cwd=place, threads=2).wait() == 0
    assert start(*shape, "--run", calm, cwd=place, threads=2).wait() == 0
    assert_same_end(killed, calm)
