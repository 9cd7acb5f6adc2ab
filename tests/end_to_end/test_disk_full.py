"""R35: a disk that fills up costs no checkpoint that was there, and no step once there is room."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import call, start
from endings import assert_same_end, checkpoints, events

from tests.small_disk import small_disk

SMALL = 20_000
"""Bytes a file may have: less than a tiny model's weights, and soon less than metrics.jsonl."""


def limit(size: int) -> None:
    """No file of this process may grow beyond `size`; Python makes an OSError of it."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size if size > 0 else hard, hard))


@pytest.fixture
def room() -> Iterator[None]:
    """Whatever a test does, there is room again after it."""
    yield
    limit(0)


@pytest.mark.usefixtures("room")
def test_a_full_disk_in_the_middle_is_survived(at, run, reference):
    at("row", 7, lambda: limit(SMALL))  # full at step 8, where one is due for being the best
    at("row", 17, lambda: limit(0))
    done = call("train", "recipe.toml", "--run", run)
    assert done.code == 0, done.err
    failed = events(run, "checkpoint_failed")
    # That of step 5 may still be under way on a slow disk.
    assert {5, 8, 10, 12, 15, 16} >= {e["step"] for e in failed} >= {10, 15}
    assert "checkpoint failed: not saved at step 10" in done.err
    assert events(run, "finished")
    assert_same_end(run, reference)
    assert checkpoints(run) == checkpoints(reference)


@pytest.mark.usefixtures("room")
def test_full_to_the_end_keeps_what_was_there(at, run, reference):
    at("row", 7, lambda: limit(SMALL))
    done = call("train", "recipe.toml", "--run", run)
    limit(0)
    assert done.code == 2
    assert "The state at step 24 could not be saved" in done.err
    assert "File too large" in done.err
    # That of step 5 is written while training goes on, and may be too late.
    newest = max(name for name in checkpoints(run) if name.startswith("step-"))
    assert newest in ("step-00000004", "step-00000005")
    assert f"The newest checkpoint is that of step {newest[-1]}." in done.err
    assert "Make room and resume" in done.err
    assert "Traceback" not in done.err
    assert not [name for name in checkpoints(run) if name.endswith(".tmp")]
    assert call("resume", run).code == 0
    assert_same_end(run, reference)


@pytest.mark.slow
def test_a_process_without_room_says_so(place, run, reference):
    """In a child process, from its first instant: nothing is trained that could not be saved."""

    def narrow() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, resource.RLIM_INFINITY))

    log = run.parent / "log"
    with open(log, "wb") as stderr:
        process = start(
            "train", "recipe.toml", "--run", run, cwd=place, stderr=stderr, preexec_fn=narrow
        )
    assert process.wait(240) == 2
    assert "The state at step 0 could not be saved" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert call("resume", run).code == 0
    assert_same_end(run, reference)


def fill(folder: Path) -> None:
    with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)


def test_a_small_disk_that_others_fill(at, place, reference, tmp_path, monkeypatch):
    """Not a byte is free for five steps: also the rows have to wait."""
    monkeypatch.chdir(place)
    disk = tmp_path / "disk"
    with small_disk(disk, "4m"):
        run = disk / "run"
        at("row", 7, lambda: fill(disk))
        at("row", 12, (disk / "filler").unlink)
        done = call("train", "recipe.toml", "--run", run, "checkpoint.keep_last=2")
        assert done.code == 0, done.err
        assert 10 in {e["step"] for e in events(run, "checkpoint_failed")}
        assert_same_end(run, reference)
        # Full from the start of a resume: a sentence, and nothing is lost.
        fill(disk)
        more = call("resume", run, "train.steps=26")
        assert more.code == 2
        assert "No space left on device" in more.err
        assert "Traceback" not in more.err
        (disk / "filler").unlink()
        assert call("resume", run, "train.steps=26").code == 0
        assert events(run, "finished")[-1]["step"] == 26
