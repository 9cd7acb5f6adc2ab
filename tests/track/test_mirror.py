"""A tracker elsewhere neither slows a run nor ends it, and shows what the run's files say."""

import math
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wandb import teardown

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.names import RunPaths
from fromscratch.track import mirrors, wandb
from fromscratch.track.config import TrackConfig
from fromscratch.track.jsonl import JsonlTracker
from fromscratch.track.mirror import Mirror, history_of, numbers_of
from fromscratch.track.mirrors import open_mirrors, refuse_missing_trackers
from fromscratch.track.tracker import HellaSwagResult, SampleResult, StepResult, ValidationResult


def step(number: int) -> StepResult:
    return StepResult(number, 8 * number, 1.5, 1e-3, 0.5, False, 100.0, 0.1, 0.2, {"a": 0.25})


class Kept:
    """A sink that keeps what it is shown, as slowly as it is told to."""

    def __init__(self, first: int = 0) -> None:
        self.first = first
        self.shown: list[tuple[int, Any]] = []
        self.may_go_on = threading.Event()

    def open(self) -> int:
        self.may_go_on.wait(60)
        return self.first

    def numbers(self, step: int, values: dict[str, float], seconds: float | None) -> None:
        self.shown.append((step, values))

    def sample(self, step: int, prompt: str, text: str) -> None:
        self.shown.append((step, text))

    def event(self, step: int, name: str, message: str, details: Mapping[str, Any]) -> None:
        self.shown.append((step, name))

    def flush(self) -> None:
        self.shown.append((-1, "flush"))

    def close(self) -> None:
        self.shown.append((-1, "close"))


def test_a_sink_that_does_not_answer_holds_nothing_up():
    sink, told = Kept(), []
    mirror = Mirror("Slow", lambda say: sink, list, lambda *a: told.append(a))
    for number in (1, 2):
        mirror.step(step(number))
        mirror.flush()
    assert sink.shown == [], "it is still waiting, and we are here"
    sink.may_go_on.set()
    mirror.close()
    assert [entry[0] for entry in sink.shown] == [1, -1, 2, -1, -1]
    assert sink.shown[-1] == (-1, "close")
    assert told == []


def test_what_a_sink_has_is_not_shown_to_it_again(tmp_path: Path):
    paths = RunPaths(tmp_path)
    files = JsonlTracker(paths, resumed_step=None)
    files.event("started", 0, "here", {})
    for number in (1, 2, 3):
        files.step(step(number))
    files.sample(SampleResult(2, "a", "sample", 0))
    files.validation(ValidationResult(2, 16, "validation", 1.25, 3.5, 1.8, 0.2, 0.1, 64))
    files.close()
    sink = Kept(first=2)
    sink.may_go_on.set()
    mirror = Mirror("Resumed", lambda say: sink, lambda: history_of(paths), lambda *a: None)
    mirror.step(step(4))
    mirror.close()
    assert [number for number, _ in sink.shown] == [2, 2, 2, 3, 4, -1]
    assert sink.shown[1][1]["val/bpb"] == 1.8
    assert sink.shown[2] == (2, "sample")


@pytest.mark.parametrize("duties_done", [False, True])
def test_a_run_that_goes_back_is_shown_anew_up_to_there(tmp_path: Path, duties_done: bool):
    paths = RunPaths(tmp_path)
    files = JsonlTracker(paths, resumed_step=None)
    sink = Kept()
    sink.may_go_on.set()
    mirror = Mirror("Back", lambda say: sink, lambda: history_of(paths), lambda *a: None)
    for tracker in (files, mirror):
        for number in (1, 2, 3):
            tracker.step(step(number))
        tracker.validation(ValidationResult(2, 16, "validation", 1.25, 3.5, 1.8, 0.2, 0.1, 64))
        tracker.hellaswag(HellaSwagResult(2, 16, 0.25, 0.5, 4, "completion", 0.2, 0.1))
        tracker.event("rollback", 3, "spoilt", {})
    mirror.rewind(2, duties_done=duties_done)
    mirror.step(step(3))
    mirror.close()
    files.close()
    closed = [place for place, shown in enumerate(sink.shown) if shown == (-1, "close")]
    assert len(closed) == 2, "what the sink had is taken back"
    again = [number for number, _ in sink.shown[closed[0] + 1 : closed[1]]]
    assert again == ([1, 2, 2, 2, 3, 3] if duties_done else [1, 2, 3, 3])
    assert sink.shown[closed[1] - 1][1]["train/loss"] == 1.5


def test_a_sink_that_fails_is_one_event_and_nothing_more(tmp_path: Path):
    paths = RunPaths(tmp_path)
    paths.tensorboard.write_text("a file where the folder should be")
    told: list[tuple[Any, ...]] = []
    (mirror,) = open_mirrors(
        TrackConfig(tensorboard=True), paths, recipe={}, report=lambda *a: told.append(a)
    )
    deadline = time.monotonic() + 60
    for number in range(1, 100_000):
        mirror.step(step(number))
        if told or time.monotonic() > deadline:
            break
        time.sleep(0.001)
    mirror.flush()
    mirror.close()
    assert len(told) == 1
    name, at, message, _ = told[0]
    assert (name, at > 0) == ("tracker_failed", True)
    assert message.startswith("TensorBoard: FileExistsError")
    assert "the run's own files go on" in message


@pytest.mark.slow
def test_a_server_that_cannot_be_reached_costs_no_row(tmp_path: Path, monkeypatch):
    """Online, with a login, and nobody at the other end: the run is kept offline, all of it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(wandb, "_INIT_SECONDS", 1.0)
    teardown()
    told: list[str] = []
    paths = RunPaths(tmp_path)
    config = TrackConfig(wandb=True)
    (mirror,) = open_mirrors(
        config, paths, recipe={"name": "x"}, report=lambda *a: told.append(a[2])
    )
    mirror.step(step(1))
    mirror.close()
    assert len(told) == 1
    assert "cannot be reached" in told[0]
    assert f"wandb sync {paths.wandb}" in told[0]
    teardown()  # waits for the last bytes, and leaves no process of wandb's to other tests
    (folder,) = paths.wandb.glob("offline-run-*")
    assert b"train/loss" in next(folder.glob("*.wandb")).read_bytes()


@pytest.mark.parametrize("package", ["tensorboard", "wandb"])
def test_a_missing_package_is_named_before_anything_is_spent(package: str, monkeypatch):
    monkeypatch.setattr(mirrors, "find_spec", lambda name: None if name == package else object())
    refuse_missing_trackers(TrackConfig())
    with pytest.raises(UserError, match=rf"track.{package} = true .*fromscratch\[track\]"):
        refuse_missing_trackers(TrackConfig(tensorboard=True, wandb=True))


def test_names_of_numbers():
    row = {"step": 3, "loss": 2.0, "lrs": {"embed": 0.3, "deep": {"er": 1}}, "clipped": True}
    assert numbers_of(row | {"grad_norm": "inf", "word": "no number", "none": None}) == {
        "train/loss": 2.0, "lr/embed": 0.3, "lr/deep/er": 1.0, "train/clipped": 1.0,
        "train/grad_norm": math.inf,
    }  # fmt: skip
    validation = {"step": 3, "tokens": 9, "val_loss": 1.0, "val_bpb": 0.5, "seconds": 7.0}
    assert numbers_of(validation | {"set": "poems"}) == {
        "val/loss/poems": 1.0,
        "val/bpb/poems": 0.5,
    }
    assert numbers_of(validation | {"set": "validation"}) == {"val/loss": 1.0, "val/bpb": 0.5}


NUMBERS = st.dictionaries(
    st.text("abc_", min_size=1, max_size=4),
    st.recursive(
        st.floats() | st.integers(-9, 9) | st.booleans(),
        lambda inner: st.dictionaries(st.text("abc_", min_size=1, max_size=4), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=5,
)


@given(NUMBERS)
def test_every_number_of_a_row_is_shown_once(row: dict[str, Any]):
    def count(value: Any) -> int:
        return sum(map(count, value.values())) if isinstance(value, dict) else 1

    assert len(numbers_of(row)) == count(row)
