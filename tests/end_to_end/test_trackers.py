"""What TensorBoard and wandb show of a run is what its own files say, also after a kill."""

import json
import signal
import time
from pathlib import Path

import pytest
from command import environment, start
from endings import lines
from shown import TensorBoard, Wandb
from wandb import teardown

from fromscratch.foundation.names import RunPaths
from fromscratch.track.config import TrackConfig
from fromscratch.track.jsonl import JsonlTracker
from fromscratch.track.mirrors import open_mirrors
from fromscratch.track.tracker import StepResult

SWITCHED_ON = (
    "track.tensorboard=true", "track.wandb=true", "track.wandb_project=races",
    "track.wandb_group=ours", 'track.wandb_tags=["small"]', "description=a note",
)  # fmt: skip


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert environment()["WANDB_MODE"] == "offline"


@pytest.fixture(autouse=True)
def _own_process_of_wandb() -> None:
    teardown()  # whoever used wandb in this process before leaves its address to child processes


def train(place: Path, *arguments: str | Path, until_rows: int | None = None) -> int:
    """Trains in a process, which is killed once the run has so many rows; returns how it ended."""
    process = start(*arguments, cwd=place)
    run = Path(arguments[arguments.index("--run") + 1 if "--run" in arguments else 1])
    try:
        while until_rows is not None and process.poll() is None:
            metrics = run / "metrics.jsonl"
            if metrics.exists() and metrics.read_bytes().count(b"\n") >= until_rows:
                process.kill()
            time.sleep(0.005)
        return process.wait(120)
    finally:
        process.kill()


def wanted(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What must be shown of a few numbers, by name, from the run's own file."""
    found: dict[str, list[tuple[int, float]]] = {}

    def add(name: str, row: dict, value: float) -> None:
        found.setdefault(name, []).append((row["step"], value))

    for row in lines(run / "metrics.jsonl"):
        if "val_loss" in row:
            end = "" if row["set"] == "validation" else f"/{row['set']}"
            add(f"val/bpb{end}", row, row["val_bpb"])
            add(f"val/loss{end}", row, row["val_loss"])
        else:
            for key in ("loss", "lr", "grad_norm", "tokens", "seconds"):
                add(f"train/{key}", row, row[key])
            for source, passes in row["epochs"].items():
                add(f"epochs/{source}", row, passes)
            for group, rate in row.get("lrs", {}).items():
                add(f"lr/{group}", row, rate)
    assert len(found["train/loss"]) >= 24
    assert {"val/bpb", "val/bpb/prose", "val/bpb/lists"} <= set(found)
    return found


def samples(run: Path) -> list[tuple[int, str]]:
    return [(row["step"], row["prompt"] + row["text"]) for row in lines(run / "samples.jsonl")]


def assert_tensorboard_shows(run: Path) -> None:
    shown = TensorBoard(run / "tensorboard")
    numbers, texts = shown.numbers(), shown.texts()
    for name, points in wanted(run).items():
        assert [step for step, _ in numbers[name]] == [step for step, _ in points], name
        assert [v for _, v in numbers[name]] == pytest.approx([v for _, v in points], rel=1e-6)
    drawn = sorted(
        (step, "\n".join(line[4:] for line in text.removesuffix("\n").split("\n")))
        for name, told in texts.items()
        if name.startswith("samples/")
        for step, text in told
    )
    assert drawn == sorted(samples(run))
    assert 'family = "gpt2"' in texts["recipe"][0][1]
    assert '"versions"' in texts["events/started"][0][1]


def assert_wandb_shows(run: Path) -> Wandb:
    # Of several, the one that is synced last would replace the others.
    (folder,) = run.glob("wandb/offline-run-*")
    shown = Wandb(folder)
    numbers = shown.numbers()
    for name, points in wanted(run).items():
        assert numbers[name] == points, name
    assert shown.samples() == samples(run)
    steps = [step for step, _ in shown.history]
    assert steps == sorted(set(steps)), "one row a step"
    assert shown.config["model"]["family"] == "gpt2"
    assert "torch" in shown.config["environment"]["versions"]
    assert (shown.run.project, shown.run.run_group) == ("races", "ours")
    assert (shown.run.display_name, shown.run.notes) == (run.name, "a note")
    assert list(shown.run.tags) == ["small"]
    return shown


@pytest.mark.long
def test_a_killed_run_is_shown_whole_and_every_row_once(place: Path, tmp_path: Path, offline):
    run = tmp_path / "run"
    ended = train(place, "train", "recipe.toml", *SWITCHED_ON, "--run", run, until_rows=22)
    assert ended == -signal.SIGKILL, "it must not have ended before the kill"
    # On a busy machine wandb may not have begun before the kill.
    kept = run / "wandb.json"
    identity = json.loads(kept.read_text())["id"] if kept.exists() else None
    # A kill at once after the resume, before anything is shown, costs no row either.
    assert train(place, "resume", run, until_rows=1) == -signal.SIGKILL
    assert train(place, "resume", run) == 0
    assert_tensorboard_shows(run)
    shown = assert_wandb_shows(run)
    assert identity in (None, shown.identity)
    events = [row for row in lines(run / "events.jsonl") if row["event"] == "resumed"]
    assert shown.events()["resumed"][-1] == (events[-1]["step"], events[-1]["message"])


@pytest.mark.long
def test_trackers_switched_on_late_show_the_run_from_its_start(
    place: Path, tmp_path: Path, offline
):
    run = tmp_path / "run"
    assert train(place, "train", "recipe.toml", "--run", run) == 0
    assert not (run / "tensorboard").exists()
    assert not (run / "wandb").exists()
    assert train(place, "resume", run, *SWITCHED_ON, "train.steps=26") == 0
    assert_tensorboard_shows(run)
    assert_wandb_shows(run)


@pytest.mark.slow
def test_a_run_that_goes_back_shows_its_new_rows_only(tmp_path: Path, offline):
    paths = RunPaths(tmp_path / "run")
    paths.root.mkdir()
    files = JsonlTracker(paths, resumed_step=None)
    told: list[tuple] = []
    mirrors = open_mirrors(
        TrackConfig(tensorboard=True, wandb=True),
        paths,
        recipe={"name": "x"},
        report=lambda *a: told.append(a),
    )

    def row(number: int, loss: float) -> None:
        for tracker in (*mirrors, files):
            tracker.step(StepResult(number, 8, loss, 1e-3, 0.5, False, 9.0, 0.1, 0.2, {"a": 0.1}))

    for number in range(1, 6):
        row(number, 1.0)
    for mirror in mirrors:
        mirror.rewind(2, duties_done=True)
    for number in (3, 4):
        row(number, 2.0)
    for mirror in mirrors:
        mirror.close()
    files.close()
    teardown()
    assert told == []
    wanted = [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]
    assert TensorBoard(paths.tensorboard).numbers()["train/loss"] == wanted
    (folder,) = paths.wandb.glob("offline-run-*")
    assert Wandb(folder).numbers()["train/loss"] == wanted
