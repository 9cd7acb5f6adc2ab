"""A sweep shared by processes, one of which is killed: each trial once, and the same results."""

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
from command import call
from endings import events, lines

from tests.forking.forks import Forks

SETTINGS = ("optim.lr=1e-3,1e-2", "train.tokens_per_step=128,256", "train.tokens=6144")
ENDS = ("val_bpb", "best_bpb", "val_loss", "tokens", "steps")


def results(folder: Path) -> dict[str, dict[str, float]]:
    """What each trial ended with, but for time, by its values."""
    done = call("sweep", "--show", folder, "--json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)["results"]
    assert [row["state"] for row in rows] == ["done"] * 4
    return {str(row["values"]): {key: row["result"][key] for key in ENDS} for row in rows}


@pytest.fixture(scope="module")
def shared(place: Path, tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Path:
    """The sweep as two processes did it together."""
    folder = tmp_path_factory.mktemp("shared") / "sweep"
    command = ("sweep", "recipe.toml", *SETTINGS, "--out", folder)
    both = [forks.start(*command, cwd=place), forks.start(*command, cwd=place)]
    assert [process.wait(240) for process in both] == [0, 0]
    return folder


@pytest.mark.slow
def test_two_processes_do_each_trial_once(shared: Path):
    ended = results(shared)
    assert len(ended) == 4
    for number in range(4):
        run = shared / f"trial-{number:03d}"
        assert len(events(run, "started")) == 1
        assert len(events(run, "finished")) == 1
    # Many epochs of a little text: the padding of its last window is no target.
    (tokens,) = {end["tokens"] for end in ended.values()}
    assert 0.99 * 6144 < tokens <= 6144, "compared at equal tokens"
    assert sorted(end["steps"] for end in ended.values()) == [24, 24, 48, 48]
    rows = lines(shared / "trial-000/metrics.jsonl")
    pooled = [row["val_bpb"] for row in rows if row.get("set") == "validation"]
    first = next(end for said, end in ended.items() if "'1e-3'" in said and "'128'" in said)
    assert (first["val_bpb"], first["best_bpb"]) == (pooled[-1], min(pooled))
    assert (shared / "sweep.png").read_bytes().startswith(b"\x89PNG")
    table = call("sweep", "--show", shared).out
    best = min(ended, key=lambda said: ended[said]["val_bpb"])
    assert f"best: optim.lr={'1e-2' if '1e-2' in best else '1e-3'}" in table
    assert f"{ended[best]['val_bpb']:.4f}" in table


@pytest.mark.slow
def test_the_trial_of_a_killed_process_goes_on_in_another(
    shared: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forks: Forks
):
    monkeypatch.chdir(place)
    folder = tmp_path / "sweep"
    command = ("sweep", "recipe.toml", *SETTINGS, "--out", folder)
    process = forks.start(*command, cwd=place)
    run = folder / "trial-000"
    while not (run / "checkpoints/step-00000010").is_dir() and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not events(run, "finished")
    shown = json.loads(call("sweep", "--show", folder, "--json").out)["results"]
    assert sorted(row["state"] for row in shown) == ["stopped", "waiting", "waiting", "waiting"]
    done = call(*command)
    assert done.code == 0, done.err
    assert "(goes on)" in done.err
    (resumed,) = events(run, "resumed")
    assert resumed["step"] >= 10, "what had been trained was not trained again"
    assert results(folder) == results(shared)
    shutil.rmtree(folder)
