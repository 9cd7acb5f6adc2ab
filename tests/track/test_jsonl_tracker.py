"""The JSON-lines files of a run: whole rows, none twice, none lost, whatever happened before."""

import json
import math
import resource
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fromscratch.foundation.names import RunPaths
from fromscratch.track.jsonl import JsonlTracker, append_event
from fromscratch.track.tracker import (
    HealthResult,
    HellaSwagResult,
    SampleResult,
    StepResult,
    Trackers,
    ValidationResult,
)


def step(number: int, loss: float = 1.5) -> StepResult:
    return StepResult(number, 8 * number, loss, 1e-3, 0.5, False, 100.0, 0.1, 0.2, {"a": 0.25})


def validation(number: int, name: str = "validation") -> ValidationResult:
    return ValidationResult(number, 8 * number, name, 1.25, 3.5, 1.8, 0.2, 0.1, 64)


def hellaswag(number: int) -> HellaSwagResult:
    return HellaSwagResult(number, 8 * number, 0.25, 0.5, 4, "completion", 0.2, 0.1)


def sample(number: int) -> SampleResult:
    return SampleResult(number, "the ", f"text\n{number}", 0)


def health(number: int) -> HealthResult:
    return HealthResult(number, {"blocks.0": {"grad_norm": 0.5}}, {"blocks.0": {"mean": 1e-9}})


def steps(path: Path) -> list[tuple[int, bool]]:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [(row["step"], "val_loss" in row) for row in rows]


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    """A run with rows up to step 4, validated and sampled at 0, 2 and 4."""
    paths = RunPaths(tmp_path)
    tracker = JsonlTracker(paths, resumed_step=None)
    for number in range(5):
        if number:
            tracker.step(step(number))
        if number % 2 == 0:
            tracker.validation(validation(number))
            tracker.validation(validation(number, "other"))
            tracker.sample(sample(number))
        tracker.event("checkpoint", number, "said", {"best": False})
    tracker.close()
    return paths


@pytest.mark.parametrize(("duties_done", "kept"), [(True, [2, 4]), (False, [2])])
def test_answers_of_hellaswag_are_dropped_with_the_other_duties(tmp_path, duties_done, kept):
    """Of the resumed step only where they are about to be given again; of later ones always."""
    paths = RunPaths(tmp_path)
    tracker = Trackers([JsonlTracker(paths, resumed_step=None)])
    for number in (2, 4, 6):
        tracker.step(step(number))
        tracker.hellaswag(hellaswag(number))
    tracker.close()
    JsonlTracker(paths, resumed_step=4, duties_done=duties_done).close()
    rows = [json.loads(line) for line in paths.metrics.read_text().splitlines()]
    assert [row for row in rows if "hellaswag_acc" in row] == [hellaswag(n).row() for n in kept]
    assert [row["step"] for row in rows if "loss" in row] == [2, 4]


def test_rows_are_what_was_logged(paths):
    rows = [json.loads(line) for line in paths.metrics.read_text().splitlines()]
    assert rows[0] == validation(0).row()
    assert rows[2] == step(1).row()
    assert [json.loads(line)["text"] for line in paths.samples.read_text().splitlines()] == [
        "text\n0", "text\n2", "text\n4",
    ]  # fmt: skip


def test_a_row_is_in_the_systems_hands_at_once(tmp_path):
    """Read by another while the tracker is open: a kill loses nothing that was logged."""
    paths = RunPaths(tmp_path)
    tracker = JsonlTracker(paths, resumed_step=None)
    tracker.step(step(1))
    assert steps(paths.metrics) == [(1, False)]
    tracker.close()


@pytest.mark.parametrize(
    ("resumed", "duties_done", "metrics", "samples"),
    [
        (4, True, [(0, 1), (0, 1), (1, 0), (2, 0), (2, 1), (2, 1), (3, 0), (4, 0), (4, 1), (4, 1)],
         [0, 2, 4]),
        (4, False, [(0, 1), (0, 1), (1, 0), (2, 0), (2, 1), (2, 1), (3, 0), (4, 0)], [0, 2]),
        (3, True, [(0, 1), (0, 1), (1, 0), (2, 0), (2, 1), (2, 1), (3, 0)], [0, 2]),
        (2, False, [(0, 1), (0, 1), (1, 0), (2, 0)], [0]),
        (0, True, [(0, 1), (0, 1)], [0]),
        (0, False, [], []),
        (None, True, [], []),
    ],
)  # fmt: skip
def test_rows_past_the_resumed_step_are_dropped(paths, resumed, duties_done, metrics, samples):
    events = paths.events.read_bytes()
    JsonlTracker(paths, resumed_step=resumed, duties_done=duties_done).close()
    assert steps(paths.metrics) == [(number, bool(of_duty)) for number, of_duty in metrics]
    assert [number for number, _ in steps(paths.samples)] == samples
    assert paths.events.read_bytes() == events, "events are history"


@pytest.mark.parametrize(("until", "duties_done"), [(4, True), (3, True), (2, False), (0, True)])
def test_going_back_drops_what_a_resume_there_drops(paths, until, duties_done, tmp_path_factory):
    events = paths.events.read_bytes()
    tracker = JsonlTracker(paths, resumed_step=4)
    for number in (5, 6):
        tracker.step(step(number))
        tracker.health(health(number))
    resumed = RunPaths(tmp_path_factory.mktemp("resumed") / "run")
    shutil.copytree(paths.root, resumed.root)
    JsonlTracker(resumed, resumed_step=until, duties_done=duties_done).close()
    tracker.rewind(until, duties_done=duties_done)
    for file in ("metrics", "samples", "health"):
        assert getattr(paths, file).read_bytes() == getattr(resumed, file).read_bytes()
    assert paths.health.read_bytes() == b""
    assert paths.events.read_bytes() == events
    tracker.step(step(until + 1))
    tracker.health(health(until + 1))
    tracker.close()
    assert steps(paths.metrics)[-1] == (until + 1, False)
    assert [row["step"] for row in map(json.loads, paths.health.open())] == [until + 1]


def test_the_file_of_health_comes_with_its_first_row(paths):
    tracker = JsonlTracker(paths, resumed_step=4)
    assert not paths.health.exists()
    tracker.health(health(4))
    tracker.flush()
    tracker.close()
    (row,) = map(json.loads, paths.health.open())
    assert row == health(4).row()


def test_an_update_that_was_refused_is_marked():
    assert "applied" not in step(1).row()
    assert replace(step(1), applied=False).row()["applied"] is False


def test_what_is_kept_is_kept_to_the_byte(paths):
    before = paths.metrics.read_bytes()
    JsonlTracker(paths, resumed_step=4).close()
    assert paths.metrics.read_bytes() == before


def test_half_a_last_line(paths):
    """A kill in the middle of a write: the half row goes, and the next does not stick to it."""
    for path in (paths.metrics, paths.samples, paths.events):
        path.write_bytes(path.read_bytes()[:-9])
    tracker = JsonlTracker(paths, resumed_step=4)
    tracker.step(step(5))
    tracker.sample(sample(5))
    tracker.event("resumed", 4, "here", {})
    tracker.close()
    assert steps(paths.metrics)[-2:] == [(4, True), (5, False)]
    assert [number for number, _ in steps(paths.samples)] == [0, 2, 5]
    last = paths.events.read_text().splitlines()[-1]
    assert json.loads(last)["event"] == "resumed"


def test_a_half_line_of_half_a_character(paths):
    paths.metrics.write_bytes(paths.metrics.read_bytes() + b'{"step": 5, "x": "\xe2\x82')
    JsonlTracker(paths, resumed_step=4).close()
    assert len(steps(paths.metrics)) == 10


def test_numbers_that_are_none(tmp_path):
    paths = RunPaths(tmp_path)
    tracker = JsonlTracker(paths, resumed_step=None)
    tracker.step(step(1, math.nan))
    tracker.step(step(2, -math.inf))
    tracker.close()
    assert [json.loads(x)["loss"] for x in paths.metrics.read_text().splitlines()] == [
        "nan", "-inf",
    ]  # fmt: skip
    JsonlTracker(paths, resumed_step=2).close()
    assert len(steps(paths.metrics)) == 2


@pytest.fixture
def no_room(tmp_path: Path) -> Iterator[Any]:
    """Files of this process may not grow beyond a size while it is set."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size or hard, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def test_rows_wait_for_room_on_a_full_disk(tmp_path, no_room):
    paths = RunPaths(tmp_path)
    tracker = JsonlTracker(paths, resumed_step=None)
    tracker.step(step(1))
    no_room(paths.metrics.stat().st_size + 30)  # the next row does not fit as a whole
    tracker.step(step(2))
    tracker.step(step(3))
    with pytest.raises(OSError, match="File too large"):
        tracker.flush()  # a checkpoint must not be committed now
    no_room(0)
    tracker.step(step(4))
    tracker.flush()
    tracker.close()
    assert steps(paths.metrics) == [(n, False) for n in (1, 2, 3, 4)]


def test_an_event_of_a_run_that_is_not_training(paths):
    append_event(paths, "yardsticks", 4, "told", {"rows": [1]})
    last = json.loads(paths.events.read_text().splitlines()[-1])
    assert (last["event"], last["step"], last["rows"]) == ("yardsticks", 4, [1])


def test_several_trackers_hear_the_same(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    both = [RunPaths(tmp_path / name) for name in "ab"]
    tracker = Trackers([JsonlTracker(p, resumed_step=None) for p in both])
    tracker.step(step(1))
    tracker.validation(validation(1))
    tracker.sample(sample(1))
    tracker.event("finished", 1, "done", {})
    tracker.flush()
    tracker.close()
    for file in ("metrics", "samples"):
        assert getattr(both[0], file).read_bytes() == getattr(both[1], file).read_bytes() != b""
