"""One command for ever: `train --or-resume` starts a run, goes on with it, leaves it when over."""

import contextlib
import json
import shutil
import signal
import tomllib
from pathlib import Path

import pytest
from command import call, send
from endings import assert_same_end, events

BARE = ("schedule.warmup_steps=0", "eval.every=0", "sample.every=0")


def command(run, *more, recipe="recipe.toml"):
    return call("train", recipe, *more, "--run", run, "--or-resume")


def test_the_same_command_until_the_run_is_over(at, run, reference):
    at("micro_batch", 4 * 9 + 3, send(signal.SIGTERM))
    first = command(run)
    assert first.code == 0, first.err
    assert "stopped and saved at step 9" in first.out
    second = command(run)
    assert second.code == 0, second.err
    assert "from step 9 of 24" in second.out
    assert "finished 24 steps" in second.out
    assert_same_end(run, reference)
    assert not events(run, "recipe_changed")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    third = command(run)
    assert third.code == 0
    assert "has done all its 24 steps" in third.out
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.fixture
def short(place, tmp_path, monkeypatch):
    """A finished run of three steps, and its command."""
    monkeypatch.chdir(place)
    run = tmp_path / "short"
    done = command(run, "train.steps=3", *BARE)
    assert done.code == 0, done.err
    return run


def test_what_the_command_says_anew_is_a_change_on_purpose(short):
    done = command(short, "train.steps=4", *BARE)
    assert done.code == 0, done.err
    assert "from step 3 of 4" in done.out
    assert [e["message"] for e in events(short, "recipe_changed")] == ["train.steps=4 (was 3)"]
    again = command(short, "train.steps=4", *BARE)
    assert "has done all its 4 steps" in again.out
    # Another way to say how long replaces the first.
    done = command(short, "train.tokens=1280", *BARE)
    assert done.code == 0, done.err
    assert "finished 5 steps" in done.out


def test_the_same_command_does_not_undo_what_resume_was_told(short):
    longer = call("resume", short, "train.steps=5")
    assert longer.code == 0, longer.err
    again = command(short, "train.steps=3", *BARE)
    assert again.code == 0, again.err
    assert "has done all its 5 steps" in again.out
    assert tomllib.loads((short / "recipe.toml").read_text())["train"]["steps"] == 5


def test_a_recipe_that_was_edited_is_refused_with_the_words_that_mean_it(short, tmp_path):
    text = Path("recipe.toml").read_text()
    edited = tmp_path / "recipe.toml"
    edited.write_text(text.replace("lr = 0.003", "lr = 0.001"))
    same = ("train.steps=3", *BARE)
    refused = command(short, *same, recipe=edited)
    assert refused.code == 2
    assert "optim.lr=0.001 (was 0.003)" in refused.err
    assert f"fromscratch resume {short}" in refused.err
    # What the message says to type works, and from then on without being typed.
    done = command(short, "train.steps=4", *same[1:], "optim.lr=0.001", recipe=edited)
    assert done.code == 0, done.err
    assert "optim.lr=0.001" in events(short, "recipe_changed")[-1]["message"]
    assert command(short, "train.steps=4", *same[1:], recipe=edited).code == 0


def test_a_word_that_is_left_out_again_is_noticed(short):
    refused = command(short, "train.steps=3", *BARE[:-1])
    assert refused.code == 2
    assert "sample.every=6 (was 0)" in refused.err


def test_another_recipes_run_is_refused(short, tmp_path):
    other = tmp_path / "other.toml"
    text = Path("recipe.toml").read_text()
    other.write_text(text.replace('"interrupted"', '"another"'))
    refused = command(short, recipe=other)
    assert refused.code == 2
    assert 'a run of the recipe "interrupted", not of "another"' in refused.err


def test_without_run_the_folder_is_the_recipes(place, tmp_path, monkeypatch):
    shutil.copytree(place / "prose", tmp_path / "prose")
    shutil.copytree(place / "lists", tmp_path / "lists")
    shutil.copy(place / "recipe.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    words = ("train", "recipe.toml", "train.steps=1", *BARE)
    assert call(*words, "--or-resume").code == 0
    assert (tmp_path / "runs" / "interrupted" / "recipe.toml").is_file()
    assert "has done all its 1 steps" in call(*words, "--or-resume").out


def test_a_kill_before_there_was_a_recipe_is_no_run(short, tmp_path, place, monkeypatch):
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "run.lock").touch()
    shutil.copy(short / "asked.toml", begun)
    (begun / ".recipe.toml.tmp").write_text("half")
    done = command(begun, "train.steps=1", *BARE)
    assert done.code == 0, done.err
    assert "finished 1 steps" in done.out


def test_a_run_of_an_earlier_release_takes_words_as_resume_does(short):
    (short / "asked.toml").unlink()
    done = command(short, "train.steps=4", *BARE)
    assert done.code == 0, done.err
    assert "finished 4 steps" in done.out
    assert (short / "asked.toml").is_file()


def test_finetuning_goes_on_where_the_model_that_it_started_from_has_gone(short, tmp_path):
    pairs = [{"instruction": f"Say {i}.", "input": "", "output": f"{i}"} for i in range(60)]
    data = tmp_path / "pairs.json"
    data.write_text(json.dumps(pairs))
    recipe = tmp_path / "talk.toml"
    recipe.write_text(
        f'[data]\npath = "{data}"\nval_fraction = 0.1\n[train]\nobjective = "sft"\nsteps = 2\n'
        "tokens_per_step = 64\nmicro_batch = 1\n[eval]\nevery = 0\n[sample]\nevery = 0\n"
    )
    base, run = tmp_path / "base", tmp_path / "talk"
    shutil.copytree(short, base, symlinks=True)
    with contextlib.chdir(tmp_path):
        first = command(run, "--from", base, recipe=recipe)
        assert first.code == 0, first.err
        shutil.rmtree(base)
        again = command(run, "--from", base, recipe=recipe)
        assert again.code == 0, again.err
        assert "has done all its 2 steps" in again.out
        other = command(run, "--from", short, recipe=recipe)
    assert other.code == 2
    assert "was started from" in other.err
