"""What a resumed run must not change in silence (R34, R37), and who may train it."""

import shutil
import time
from pathlib import Path

import pytest
from command import call
from endings import checkpoint, events
from filelock import FileLock

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.names import RunPaths
from fromscratch.runs.assemble import new_run
from fromscratch.runs.pick_up import open_run
from fromscratch.runs.recipe_files import load_recipe

SHORT = [
    "train.steps=3",
    "schedule.warmup_steps=0",
    "eval.every=0",
    "sample.every=0",
    "eval.tokens=32",
]


def silent(event: object) -> None:
    """Nobody watches."""


@pytest.fixture
def own(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A short run on data of its own, in a folder of its own, which is the current one."""
    monkeypatch.chdir(tmp_path)
    for name in ("prose", "lists"):
        shutil.copytree(place / name, tmp_path / name)
    shutil.copy(place / "recipe.toml", tmp_path / "recipe.toml")
    done = call("train", "recipe.toml", *SHORT, "--run", "run")
    assert done.code == 0, done.err
    return tmp_path / "run"


def prepare_anew(place: Path, tokenizer: str = "bytes") -> None:
    shutil.rmtree("prose")
    made = call(
        "prepare", place / "prose-text", "--out", "prose", "--tokenizer", tokenizer,
        "--val-fraction", "0.15", "--documents", "file", "--seed", "1",
    )  # fmt: skip
    assert made.code == 0, made.err


def test_changed_data_is_refused_also_beside_another_change(place, own):
    prepare_anew(place)
    for overrides in ([], ["train.steps=5"], ["optim.lr=0.001"]):
        done = call("resume", own, *overrides)
        assert done.code == 2
        assert "The training data is not what this run was trained on" in done.err
        assert "with an override of data.path or data.source" in done.err


def test_data_changed_on_purpose_stays_changed(place, own):
    made = call(
        "prepare", place / "lists-text", "--out", "other", "--tokenizer", "bytes",
        "--val-fraction", "0.2", "--documents", "file",
    )  # fmt: skip
    assert made.code == 0
    sources = 'data.source=[{name = "other", path = "other"}]'
    done = call("resume", own, sources, "train.steps=5")
    assert done.code == 0, done.err
    assert events(own, "data_changed")[0]["step"] == 3
    (consumed,) = events(own, "consumed_data")  # of the mixture before, "other" was a part
    assert consumed["step"] == 3
    assert "the run was trained on this very text before" in consumed["message"]
    again = call("resume", own, "train.steps=7")
    assert again.code == 0, again.err
    assert len(events(own, "data_changed")) == 1


def test_another_tokenizer_is_refused(place, own):
    prepare_anew(place, "bpe:257")
    shutil.rmtree("lists")
    shutil.copytree("prose", "lists")
    done = call("resume", own, "data.tokenizer=bpe:257", "train.steps=5")
    assert done.code == 2
    assert "another tokenizer" in done.err


def test_an_override_is_recorded(own):
    done = call("resume", own, "train.steps=5", "optim.lr=0.001")
    assert done.code == 0, done.err
    (event,) = events(own, "recipe_changed")
    assert event["step"] == 3
    assert "optim.lr=0.001 (was 0.003)" in event["message"]
    assert "train.steps=5 (was 3)" in event["message"]
    assert "recipe changed: " in done.err
    for file in (own / "recipe.toml", checkpoint(own) / "recipe.toml"):
        recipe = load_recipe(str(file))
        assert (recipe.optim.lr, recipe.train.steps) == (0.001, 5)
    # Said once; from the next checkpoint on it is what the run is.
    assert call("resume", own, "train.steps=6").code == 0
    assert "optim.lr" not in events(own, "recipe_changed")[-1]["message"]


def test_an_edit_of_the_recipe_is_recorded_too(own):
    recipe = own / "recipe.toml"
    text = recipe.read_text().replace("\nsteps = 3\n", "\nsteps = 4\n")
    recipe.write_text(text.replace("lr = 0.003", "lr = 0.002"))
    done = call("resume", own)
    assert done.code == 0, done.err
    assert "optim.lr=0.002 (was 0.003)" in events(own, "recipe_changed")[0]["message"]


def test_another_shape_is_refused(own):
    done = call("resume", own, "model.d_model=64", "train.steps=5")
    assert done.code == 2
    assert "a model of another shape" in done.err


def test_another_optimiser_is_refused(own):
    done = call("resume", own, "optim.name=muon", "train.steps=5")
    assert done.code == 2
    assert "does not fit this recipe's optimiser" in done.err
    # A refusal changes nothing: what was asked for is not in the recipe now.
    assert call("resume", own, "train.steps=4").code == 0


def test_a_run_that_is_being_trained_is_refused(own):
    with FileLock(RunPaths(own).lock):
        done = call("resume", own, "train.steps=5")
    assert done.code == 2
    assert "Another process is training" in done.err
    assert call("resume", own, "train.steps=5").code == 0


@pytest.mark.slow
def test_two_processes_on_one_run(own, forks):
    """The second is refused while the first really trains."""
    first = forks.start("resume", own, "train.steps=100000", cwd=own.parent)
    try:
        while not events(own, "resumed"):
            assert first.poll() is None
            time.sleep(0.01)
        done = call("resume", own)
        assert done.code == 2
        assert "Another process is training" in done.err
    finally:
        first.kill()
        first.wait()
    assert call("resume", own, "train.steps=4").code == 0


def test_what_could_not_be_opened_is_not_left_locked(own):
    paths = RunPaths(own)
    with pytest.raises(UserError, match="another shape"):
        open_run(own, ["model.d_model=64"], report=silent)
    with FileLock(paths.lock, timeout=0):
        pass
    session = open_run(own, ["train.steps=4"], report=silent)
    paths.metrics.unlink()
    paths.metrics.mkdir()  # the log cannot be opened
    with pytest.raises(UserError, match="cannot go on"):
        session.train()
    with FileLock(paths.lock, timeout=0):
        pass


def test_a_run_is_never_overwritten(own):
    done = call("train", "recipe.toml", *SHORT, "--run", "run")
    assert done.code == 2
    assert "already exists" in done.err


def test_a_kill_while_the_folder_was_made_leaves_nothing_in_the_way(own):
    folder = own.parent / "half"
    folder.mkdir()
    (folder / "run.lock").touch()
    (folder / ".recipe.toml.tmp").write_text("name = ")
    done = call("train", "recipe.toml", *SHORT, "--run", "half")
    assert done.code == 0, done.err


def test_two_that_start_the_same_run(own):
    """Both saw an empty place; the second must not write over the first."""
    recipe = load_recipe("recipe.toml", SHORT)
    first = new_run(recipe, own.parent / "new", report=silent)
    with pytest.raises(UserError, match="already exists"):
        new_run(recipe, own.parent / "new", report=silent)
    first.train()
