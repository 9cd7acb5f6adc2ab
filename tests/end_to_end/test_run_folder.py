"""What lies in a run's folder is that run, whole, and nothing of another (R34, R36, R46, R47)."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest
from command import call
from endings import checkpoint, checkpoints, events, lines

from fromscratch.checkpoint.bundle import load_bundle
from fromscratch.foundation.files import sha256_of_file
from fromscratch.foundation.names import step_of_folder
from fromscratch.generate.engine import continue_text
from fromscratch.generate.sampling import SamplingOptions
from fromscratch.runs.recipe_files import load_recipe

SHORT = ["schedule.warmup_steps=0", "eval.every=0", "eval.tokens=32", "sample.every=0"]


@pytest.fixture(scope="module")
def workplace(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a recipe, and `run`: three steps of it."""
    root = tmp_path_factory.mktemp("workplace")
    for name in ("prose", "lists"):
        shutil.copytree(place / name, root / name)
    shutil.copy(place / "recipe.toml", root / "recipe.toml")
    with contextlib.chdir(root):
        done = call("train", "recipe.toml", *SHORT, "train.steps=3", "--run", "run")
    assert done.code == 0, done.err
    return root


def test_a_run_that_is_carried_away_is_complete(workplace: Path, tmp_path: Path, monkeypatch):
    """R36: of the whole workplace its folder alone is there, at another place."""
    away = tmp_path / "carried away"
    shutil.copytree(workplace / "run", away, symlinks=True)
    monkeypatch.chdir(tmp_path)
    hidden = workplace.with_name("hidden")
    workplace.rename(hidden)
    try:
        _look_at(away, workplace)
    finally:
        hidden.rename(workplace)


def _look_at(away: Path, workplace: Path) -> None:
    # It says how it was made: settings, data, tokenizer, software, and what happened.
    recipe = load_recipe(str(away / "recipe.toml"))
    assert (recipe.name, recipe.train.steps, recipe.optim.lr) == ("interrupted", 3, 0.003)
    for name in checkpoints(away):
        folder = away / "checkpoints" / name
        assert load_recipe(str(folder / "recipe.toml")) == recipe
        state = json.loads((folder / "state.json").read_text())
        assert state["recipe_hash"] == recipe.hash
        assert {"torch", "fromscratch", "python", "precision"} <= set(state["versions"])
        assert len(state["data_fingerprint"]) == len(state["tokenizer_fingerprint"]) == 64
    (started,) = events(away, "started")
    assert started["data"]["sources"] == ["prose", "lists"]
    assert started["data"]["fingerprint"] == state["data_fingerprint"]

    # And it can be used.
    written = call("generate", away, "the ", "--max-new-tokens", "4")
    assert written.code == 0, written.err
    assert written.out.startswith("the ")

    # What it cannot do without is named.
    refused = call("resume", away, "train.steps=4")
    assert refused.code == 2
    assert str(workplace / "prose") in refused.err


def test_the_run_that_is_named_goes_on_and_not_the_newest(workplace: Path, monkeypatch):
    """R34: beside it lies a newer one, further on, of the same recipe but for its rate."""
    monkeypatch.chdir(workplace)
    own, other = Path("named"), Path("newer")
    shutil.copytree("run", own, symlinks=True)
    done = call("train", "recipe.toml", *SHORT, "train.steps=5", "optim.lr=0.001", "--run", other)
    assert done.code == 0, done.err
    before = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
    assert call("resume", own, "train.steps=4").code == 0
    assert events(own, "resumed")[0]["message"] == f"from {own / 'checkpoints/step-00000003'}"
    assert {path: path.read_bytes() for path in other.rglob("*") if path.is_file()} == before

    # Somebody puts the other's checkpoint among its own: what differs is said and kept.
    shutil.copytree(checkpoint(other), own / "checkpoints/step-00000005")
    done = call("resume", own, "train.steps=6")
    assert done.code == 0, done.err
    said = events(own, "recipe_changed")[-1]
    assert said["step"] == 5
    assert "optim.lr=0.003 (was 0.001)" in said["message"]
    assert "optim.lr=0.003 (was 0.001)" in done.err


def test_the_same_prompts_are_continued_on_schedule_with_the_same_seeds(reference: Path):
    """R47, and the text is that of the step's weights."""
    config = load_recipe(str(reference / "recipe.toml")).sample
    samples = lines(reference / "samples.jsonl")
    assert [(s["step"], s["prompt"], s["seed"]) for s in samples] == [
        (step, prompt, config.seed + number)
        for step in (0, 6, 12, 18, 24)
        for number, prompt in enumerate(config.prompts)
    ]
    bundle = load_bundle(checkpoint(reference))
    for sample in samples[-len(config.prompts) :]:
        options = SamplingOptions(config.temperature, config.top_k, seed=sample["seed"])
        pieces = continue_text(
            bundle.model, bundle.tokenizer, sample["prompt"], max_new_tokens=6, options=options
        )
        assert "".join(pieces) == sample["text"]
    assert len({s["text"] for s in samples if s["prompt"] == "a "}) > 1, "the model has changed"


def test_what_is_written_and_measured_names_the_weights_that_were_used(reference: Path):
    """R46: those of the checkpoint that was asked for, whichever others there are."""
    names = [name for name in checkpoints(reference) if name.startswith("step-")]
    hashes = set()
    for name in (names[0], names[-1]):
        folder = reference / "checkpoints" / name
        weights = sha256_of_file(folder / "model.safetensors")
        hashes.add(weights)
        written = call("generate", folder, "the ", "--max-new-tokens", "2", "--json")
        assert json.loads(written.out)["sha256"] == weights
        measured = call("eval", folder, "--json")
        models = [record["model"] for record in json.loads(measured.out)["records"]]
        assert {(m["sha256"], m["step"]) for m in models} == {(weights, step_of_folder(name))}
    assert len(hashes) == 2
