"""Every shipped recipe really trains, at a tiny width, with what it needs later left out.

Each in its own precision: 16 bits are slow on a CPU, but these are few numbers.
"""

import json
import os
from pathlib import Path

import pytest
import torch

from fromscratch.checkpoint.bundle import load_bundle
from fromscratch.foundation.files import read_json_lines
from fromscratch.foundation.names import RunPaths
from fromscratch.runs.answers import has_questions
from fromscratch.runs.assemble import new_run
from fromscratch.runs.pick_up import open_run
from fromscratch.runs.recipe_files import load_recipe, shipped_recipes
from fromscratch.runs.starting_model import find_starting_model

# What a recipe keeps is its architecture's options, optimiser, schedule and precision's meaning.
TINY = [
    "model.n_layer=2",
    "model.n_head=2",
    "model.d_model=32",
    "model.d_ff=64",
    "model.context=32",
    "model.vocab_size=257",
    "model.padded_vocab=272",
    "data.source=[]",
    "data.stage=[]",
    "data.tokenizer=bytes",
    "data.val_fraction=0.2",
    "train.steps=4",
    "train.tokens_per_step=128",
    "train.micro_batch=2",
    "train.device=cpu",
    "schedule.warmup_steps=1",
    "eval.every=2",
    "sample.every=2",
    "sample.max_new_tokens=4",
    "checkpoint.every=2",
]


def silent(event: object) -> None:
    pass


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for i in range(100):
        (folder / f"{i}.txt").write_text(f"line {i} of some text that repeats itself\n" * 5)
    return folder


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# Of a recipe with phases: the same, so early that they begin.
PHASES = {
    "fgpt-662m": 'train.phase=[{from_step=3, schedule="linear", min_lr=0.0, clip=0.5}]',
}


@pytest.mark.parametrize("name", shipped_recipes(with_model=True))
def test_the_recipe_trains(name: str, text: Path):
    assert bool(load_recipe(name).train.phase) == (name in PHASES)
    short = [*TINY, f"data.path={text}", *([PHASES[name]] if name in PHASES else [])]
    recipe = load_recipe(name, short)
    session = new_run(recipe, Path("run"), report=silent)
    before = {name: p.clone() for name, p in session.state.model.named_parameters()}
    assert session.train()
    after = dict(session.state.model.named_parameters())
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    # With an output projection of zero, what lies behind it moves from the second step on.
    assert set(moved) == set(before)
    rows = list(read_json_lines(RunPaths(Path("run")).metrics))
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4]
    assert [row["step"] for row in rows if "val_loss" in row] == [0, 2, 4]


FINETUNING = sorted(set(shipped_recipes()) - set(shipped_recipes(with_model=True)))


@pytest.mark.parametrize("name", FINETUNING)
def test_the_recipe_finetunes(name: str, text: Path):
    base = load_recipe("try", [*TINY, f"data.path={text}", "model.context=64", "train.steps=1"])
    assert new_run(base, Path("base"), report=silent).train()
    records = [
        {"instruction": f"Say {i}", "output": str(i), "chosen": str(i), "rejected": "no"}
        for i in range(40)
    ]
    Path("records.json").write_text(json.dumps(records))
    start = find_starting_model("base")
    short = [
        "data.path=records.json", "train.steps=2", "train.device=cpu", "train.micro_batch=2",
        "sample.every=2", "sample.max_new_tokens=4", "eval.every=1", "chat.max_new_tokens=4",
        "schedule.warmup_steps=1",
        "chat.examples_per_step=4",
    ]  # fmt: skip
    if name == "sft-110":  # the shortest of Alpaca's prompts is longer in bytes
        short.append("chat.template=fgpt")
    recipe = load_recipe(name, short, complete=start.complete)
    session = new_run(recipe, Path("run"), report=silent)
    assert session.train()
    bundle = load_bundle("run")
    assert bundle.template is not None
    assert bundle.template.name == recipe.chat.template
    assert set(bundle.template.special_tokens) <= set(bundle.tokenizer.special_ids)
    assert has_questions(session) == (name == "sft-110")


def test_the_seeded_loss_curve_is_what_it_was(text: Path):
    """Guards refactorings: the same recipe, data and seed give the same losses.

    The tolerance covers other CPUs' rounding; a change of data order, initialisation, dropout,
    schedule or optimiser moves these numbers by far more.
    """
    overrides = [*TINY, f"data.path={text}", "model.dropout=0.1", "train.steps=6"]
    overrides.append("train.precision=fp32")
    session = new_run(load_recipe("minigpt-124m", overrides), Path("run"), report=silent)
    session.train()
    losses = [r["loss"] for r in read_json_lines(session.paths.metrics) if "loss" in r]
    assert losses == pytest.approx(GOLDEN, rel=2e-4)


GOLDEN = [5.533132, 5.467172, 5.443012, 5.395897, 5.371203, 5.344061]


def test_a_mixture_reports_validation_and_epochs_per_source(text: Path, tmp_path: Path):
    other = tmp_path / "other"
    other.mkdir()
    for i in range(100):
        (other / f"{i}.txt").write_text(f"{i} quite different words\n" * 4)
    recipe_text = load_recipe("try", TINY).to_toml().replace("source = []", "")
    recipe_text += f"""
[[data.source]]
name = "a"
path = "{text}"
weight = 3
[[data.source]]
name = "b"
path = "{other}"
weight = 1
"""
    Path("mix.toml").write_text(recipe_text.replace('path = "stdlib"\n', ""))
    session = new_run(load_recipe("mix.toml"), Path("run"), report=silent)
    session.train()
    rows = list(read_json_lines(session.paths.metrics))
    assert [r["set"] for r in rows if "val_loss" in r] == ["validation", "a", "b"] * 3
    windows = {s.name: len(s.windows) for s in session.data.training.sources}
    pooled, a, b = (r["val_loss"] for r in rows[-3:])
    assert min(a, b) < pooled < max(a, b)
    epochs = rows[-4]["epochs"]
    assert epochs["a"] * windows["a"] == pytest.approx(12)
    assert epochs["b"] * windows["b"] == pytest.approx(4)


def test_changed_text_is_prepared_anew_and_never_used_stale(text: Path, tmp_path: Path):
    mine = tmp_path / "mine"
    mine.mkdir()
    for i in range(100):
        (mine / f"{i}.txt").write_text(f"{i} words\n" * 9)
    recipe = load_recipe("try", [*TINY, f"data.path={mine}"])
    first = new_run(recipe, Path("one"), report=silent)
    first.train()
    (mine / "3.txt").write_text("changed\n" * 30)
    second = new_run(recipe, Path("two"), report=silent)
    assert second.data.training.fingerprint != first.data.training.fingerprint
    again = open_run(Path("one"), report=silent)  # goes on with the data that it began with
    assert again.data.training.fingerprint == first.data.training.fingerprint


def test_a_run_resumes_from_any_folder(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    recipe = load_recipe("try", [*TINY, f"data.path={os.path.relpath(text)}"])
    assert new_run(recipe, Path("run"), report=silent).train()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    session = open_run(Path("../run"), ["train.steps=20"], report=silent)
    assert session.train()
    events = [e["event"] for e in read_json_lines(session.paths.events)]
    assert "learning_rate_rises" in events, "a schedule that had decayed was stretched"
    assert not list(elsewhere.iterdir())
