"""A ladder from its first run to a run's report: killed, resumed, over its budget, asked again."""

import json
import signal
import time
from pathlib import Path

import pytest
from command import call, start
from endings import events, lines
from ladders import RECIPE, settle

from fromscratch.data.shards import load_manifest
from fromscratch.report.numerals import significant
from fromscratch.runs.scale import spent_seconds
from fromscratch.runs.scale_plan import read_ladder

ASKED = ("--hours", "0.01", "--gpu", "t4")


@pytest.fixture(scope="module")
def recipe(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scale") / "small.toml"
    path.write_text(RECIPE.format(data=place / "prose"))
    return path


@pytest.fixture(scope="module")
def held_out(place: Path) -> dict[str, int | str]:
    manifest = load_manifest(place / "prose")
    return {
        "val_tokens": manifest.total("tokens", "val"),
        "val_bytes": manifest.total("bytes", "val"),
        "tokenizer": "bytes",
    }


@pytest.fixture(scope="module")
def done(recipe: Path, held_out: dict[str, int | str]) -> Path:
    """A ladder that nothing ever happened to."""
    folder = recipe.parent / "ladder"
    settle(folder, recipe, held_out=held_out)
    made = call("scale", recipe, "--budget", "1h", "--out", folder, *ASKED)
    assert made.code == 0, made.err
    assert "for 36 s on Tesla T4" in made.out
    assert f"fromscratch train {recipe} model." in made.out
    return folder


def answered(folder: Path) -> dict:
    shown = call("scale", folder, "--json", *ASKED)
    assert shown.code == 0, shown.err
    return json.loads(shown.out)


@pytest.mark.slow
def test_a_ladder_is_fitted_and_answers_again_without_training(done: Path):
    before = sorted((p.name, p.stat().st_mtime_ns) for p in done.glob("trial-*/metrics.jsonl"))
    found = answered(done)
    assert found["finished"]
    assert len(found["fit"]["runs"]) == len(before) == 9
    for run in found["fit"]["runs"]:
        rows = lines(done / run["run"] / "metrics.jsonl")
        assert run["loss"] == [r["val_loss"] for r in rows if "val_loss" in r][-1]
        (begun,) = events(done / run["run"], "started")
        assert begun["parameters"]["total"] == run["parameters"]
    (first, *_) = found["answers"]
    assert first["loss_between"][0] < first["loss"] < first["loss_between"][1]
    later = json.loads(call("scale", done, "--json", "--hours", "1", "--gpu", "t4").out)
    assert later["answers"][0]["loss"] <= first["loss"]
    after = sorted((p.name, p.stat().st_mtime_ns) for p in done.glob("trial-*/metrics.jsonl"))
    assert after == before
    assert (done / "scale.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((done / "scale.json").read_text())["fit"] == found["fit"]


@pytest.mark.long
def test_a_killed_ladder_goes_on_and_comes_to_the_same(
    done: Path, recipe: Path, held_out: dict[str, int | str], tmp_path: Path
):
    folder = tmp_path / "ladder"
    plan = settle(folder, recipe, held_out=held_out)
    command = ("scale", recipe, "--budget", "1h", "--out", folder, *ASKED)
    process = start(*command, cwd=tmp_path)
    while not (folder / "trial-002/checkpoints").is_dir() and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert spent_seconds(folder, plan) > plan.planned_in
    again = call(*command)
    assert again.code == 0, again.err
    assert "run 1 of" not in again.err, "what was done is not done again"
    assert answered(folder)["fit"] == answered(done)["fit"]


@pytest.mark.slow
def test_the_budget_is_kept(recipe: Path, held_out: dict[str, int | str], tmp_path: Path):
    """What would not fit is not begun, and what does not end in time is stopped."""
    folder = tmp_path / "ladder"
    settle(folder, recipe, held_out=held_out, lengths=(50_000_000, 512, 1024), budget=6.0)
    ended = call("scale", recipe, "--budget", "6s", "--out", folder)
    assert ended.code == 2
    assert "too few for a law" in ended.err
    assert ended.err.count("is left out: the budget has") == 9
    assert spent_seconds(folder, read_ladder(folder)) > 6.0
    (stopped,) = events(folder / "trial-000", "stopped")
    assert stopped["step"] > 0
    again = call("scale", recipe, "--budget", "6s", "--out", folder)
    assert again.code == 2
    assert "run 1 of" not in again.err


@pytest.mark.slow
def test_a_run_s_report_shows_predicted_against_achieved(done: Path, recipe: Path, tmp_path: Path):
    run = tmp_path / "run"
    size = ("model.n_layer=3", "model.n_head=6", "model.d_model=48", "model.d_ff=128")
    trained = call("train", recipe, *size, "--scale", done, "--run", run)
    assert trained.code == 0, trained.err
    prediction = json.loads((run / "prediction.json").read_text())
    assert prediction["tokens"] == 8192
    page = (run / "report.html").read_text("utf-8")
    assert "Predicted and achieved" in page
    ended = [row["val_loss"] for row in lines(run / "metrics.jsonl") if "val_loss" in row][-1]
    assert f"It ended at {significant(ended)}" in page
    assert f"a loss of {significant(prediction['expected']['loss'])} nats" in page
    assert "optim.lr is 0.01, and the ladder" in page, "the rate did not follow the width"

    other = call("train", recipe, "eval.tokens=256", "--scale", done, "--run", tmp_path / "other")
    assert other.code == 2
    assert "eval.tokens: 512 there, 256 here" in other.err
    assert not (tmp_path / "other").exists()
