"""R43: `--then COMMAND` is run when a run ends, whatever the end, and is told which."""

import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command import call, send
from endings import assert_same_end, events

ASK = (
    "import os, sys; "
    "open(sys.argv[1], 'a').write(' '.join("
    "os.environ.get('FROMSCRATCH_' + n, '-') for n in ('OUTCOME', 'STEP', 'RUN', 'ERROR')) + '\\n')"
    "; sys.exit(3)"
)


@pytest.fixture
def then(tmp_path: Path) -> tuple[list[str], Callable[[], list[str]]]:
    """The option with a command that writes down what it is told, and what it wrote."""
    told = tmp_path / "told"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(ASK)} {shlex.quote(str(told))}"
    return (
        ["--then", command],
        lambda: told.read_text().splitlines() if told.exists() else [],
    )


def test_finished(run, reference, then):
    option, told = then
    done = call("train", "recipe.toml", "--run", run, *option)
    assert done.code == 0, done.err
    assert told() == [f"finished 24 {run} -"]
    assert "finished at step 24; then: " in done.err
    assert "the command ended with exit code 3" in done.err
    assert_same_end(run, reference)
    # There is nothing left to do, and whoever waits for the end still wants it.
    assert call("resume", run, *option).code == 0
    assert told() == 2 * [f"finished 24 {run} -"]


def test_stopped_and_failed_with_a_sentence(at, run, then, monkeypatch):
    option, told = then
    at("micro_batch", 4 * 9 + 3, send(signal.SIGINT))
    assert call("train", "recipe.toml", "--run", run, *option).code == 0
    assert told() == [f"stopped 9 {run} -"]

    def block() -> None:
        (run / "checkpoints").rename(run / "away")
        (run / "checkpoints").write_text("in the way")

    at("row", 3, block)
    failed = call("resume", run, "checkpoint.background=false", *option)
    assert failed.code == 2
    assert told()[1].startswith(f"failed 24 {run} The state at step 24 could not be saved")
    assert "Traceback" not in failed.err


def test_failed_with_an_error_of_ours(at, run, then):
    option, told = then
    at("micro_batch", 4 * 6 + 1, lambda: 1 / 0)  # a checkpoint of step 5 may be on its way
    with pytest.raises(ZeroDivisionError):
        call("train", "recipe.toml", "--run", run, *option)
    assert told() == [f"failed 6 {run} ZeroDivisionError('division by zero')"]
    assert [e["step"] for e in events(run, "checkpoint")] == [0, 4, 5], "it was not waited for"


def test_a_mistake_before_the_run_runs_nothing(place, run, then):
    option, told = then
    run.mkdir()
    (run / "recipe.toml").write_text("")
    for mistaken in (
        ["train", "no-such-recipe"],
        ["train", "recipe.toml", "optim.lt=3"],
        ["train", "recipe.toml", "--run", run],
        ["resume", place / "prose"],
    ):
        assert call(*mistaken, *option).code == 2
    assert told() == []


def test_text_that_cannot_be_prepared_is_an_end_too(run, then, tmp_path):
    """Preparing it on first use may have taken the night."""
    option, told = then
    (tmp_path / "texts").mkdir()
    for i in range(40):
        (tmp_path / f"texts/{i}.txt").write_text(f"{i} words\n" * 9)
    recipe = (Path("recipe.toml").read_text()).split("[[data.source]]")[0]
    recipe += f'path = "{tmp_path / "texts"}"\nval_fraction = 0.1\n[train]\nsteps = 3\n'
    recipe += "tokens_per_step = 3_200_000\nmicro_batch = 2\n"  # far more than there is
    (tmp_path / "big.toml").write_text(recipe)
    done = call("train", tmp_path / "big.toml", "--run", run, *option)
    assert done.code == 2
    assert "goes through the" in done.err
    assert told()[0].startswith(f"failed 0 {run} train.tokens_per_step = 3,200,000")
