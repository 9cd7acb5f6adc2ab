"""What watches over a run does so on several ranks, too, and comes to the same."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from launching import forked

from tests.forking.forks import Forks

pytestmark = pytest.mark.slow

FAULT = Path(__file__).with_name("faulty.py")
RECIPE = """
name = "troubled"
[model]
family = "gpt2"
n_layer = 3
n_head = 2
d_model = 20
d_ff = 27
context = 32
vocab_size = 257
dropout = 0.0
[data]
tokenizer = "bytes"
val_fraction = 0.2
documents = "file"
source = [
    {name = "prose", path = "prose", weight = 1},
    {name = "poison", path = "poison", weight = 0},
]
stage = [
    {from_tokens = 3_072, weights = {prose = 0, poison = 1}},
    {from_tokens = 4_096, weights = {prose = 1, poison = 0}},
]
[optim]
lr = 0.003
[schedule]
warmup_steps = 3
[train]
steps = 20
tokens_per_step = 256
micro_batch = 2
health_every = 4
activation_checkpointing = true
[eval]
every = 10
tokens = 64
[sample]
every = 0
[checkpoint]
every = 5
keep_last = 9
[guard]
patience = 3
"""
IN_16_BITS = [
    "train.precision=fp16", "train.loss_scale.initial=16777216",
    "train.loss_scale.growth_interval=4", "data.stage=[]", "train.steps=12",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Path:
    """Two kinds of text, a recipe, and what one process made of it."""
    root = tmp_path_factory.mktemp("place")
    draw = random.Random(0)
    for kind, words in {"prose": ("the ", "a ", "of ", "many "), "poison": ("~", "~~")}.items():
        (root / kind).mkdir()
        for i in range(40):
            text = "".join(draw.choice(words) for _ in range(100))
            (root / kind / f"{i}.txt").write_text(f"{i}{text}")
    (root / "recipe.toml").write_text(RECIPE)
    for name, changes in {"alone": [], "alone-16": IN_16_BITS}.items():
        words = ["train", "recipe.toml", "--run", name, *changes]
        done = forks.run(*words, cwd=root, before=FAULT)
        assert done.code == 0, done.err
    return root


def together(forks: Forks, place: Path, name: str, *changes: str) -> Path:
    """The run that two ranks make."""
    words = ["train", "recipe.toml", "--run", name, *changes]
    for rank in forked(forks, *words, cwd=place, before=FAULT):
        assert rank.code == 0, rank.err
    return place / name


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def losses(run: Path) -> dict[int, float]:
    rows = [row for row in lines(run / "metrics.jsonl") if "loss" in row]
    by_step = {row["step"]: float(row["loss"]) for row in rows}
    assert len(by_step) == len(rows)
    return by_step


def events(run: Path, name: str) -> list[dict[str, Any]]:
    """Without when, and without numbers that are told rounded."""
    found = [event for event in lines(run / "events.jsonl") if event["event"] == name]
    return [{k: v for k, v in e.items() if k not in ("time", "message")} for e in found]


@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_they_go_back_together_and_measure_the_same(forks: Forks, place: Path, mode: str):
    changes = {"ddp": ["train.micro_batch=auto"], "fsdp": ["parallel.mode=fsdp"]}[mode]
    alone, run = place / "alone", together(forks, place, mode, *changes)
    assert [(e["step"], e["to_step"]) for e in events(alone, "rolled_back")] == [(15, 10)]
    for name in ("rolled_back", "skipped_step", "phase"):
        assert events(run, name) == events(alone, name), name
    assert "embed.weight" in events(run, "skipped_step")[0]["not_finite"]
    assert losses(run) == pytest.approx(losses(alone), rel=1e-5, nan_ok=True)
    saved = [json.loads((r / "checkpoints/latest/state.json").read_text()) for r in (run, alone)]
    for key in ("step", "sample", "tokens", "skipped", "rollbacks", "refused_in_a_row"):
        assert saved[0][key] == saved[1][key], key
    assert saved[0]["ranks"] == 2
    for here, there in zip(lines(run / "health.jsonl"), lines(alone / "health.jsonl"), strict=True):
        assert flat(here) == pytest.approx(flat(there), rel=2e-3, abs=1e-9)
    if mode == "ddp":
        assert len(events(run, "micro_batch")) == 1
        recipe = (run / "recipe.toml").read_text()
        assert any(f"micro_batch = {n}\n" in recipe for n in (1, 2, 4)), "8 windows on two ranks"


def flat(row: dict[str, Any], key: str = "") -> dict[str, float]:
    """A row's numbers by path."""
    out: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            out |= flat(value, f"{key}{name}/")
        elif isinstance(value, (int, float)):
            out[key + name] = value
    return out


@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_a_loss_scale_is_that_of_one_alone(forks: Forks, place: Path, mode: str):
    alone = place / "alone-16"
    run = together(forks, place, f"16-{mode}", *IN_16_BITS, f"parallel.mode={mode}")
    overflows = events(alone, "overflow")
    assert len(overflows) > 2
    assert events(run, "overflow") == overflows
    assert losses(run) == pytest.approx(losses(alone), rel=2e-3)


def test_a_state_that_cannot_be_cut_is_refused_before_anything_is_made(forks: Forks, place: Path):
    words = ["train", "recipe.toml", "optim.name=adamw8bit", "parallel.mode=fsdp", "--run", "new"]
    ranks = forked(forks, *words, cwd=place, before=FAULT)
    assert [rank.code for rank in ranks] == [2, 2]
    # Each comes to it; who is first says so, and the other may only see that one end.
    said = "".join(rank.err for rank in ranks)
    assert 1 <= said.count("error: ") <= 2
    assert "adamw8bit" in said
    assert "parallel.mode=ddp" in said
    assert not (place / "new").exists()
