"""A run that has gone back leaves no checkpoint of the course that it gave up."""

import shutil
from pathlib import Path

import pytest

from fromscratch.checkpoint.store import CheckpointStore


def write(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weights")


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    """Steps 900 to 10100, of which the last but one is the best."""
    store = CheckpointStore(tmp_path / "checkpoints", keep_last=4)
    for step in (900, 9900, 10000, 10100):
        store.save(step, write, best=step == 10000)
    return store


def test_later_ones_go_and_pointers_to_them_too(store):
    store.discard_after(9900)
    assert store.steps() == [900, 9900]
    assert sorted(path.name for path in store.root.iterdir()) == ["step-00000900", "step-00009900"]
    store.save(9900, write, replace=True)
    assert store.pointer("latest") == store.root / "step-00009900"
    assert store.pointer("best") is None
    assert store.newest_valid() == store.root / "step-00009900"


def test_pointers_to_what_stays_stay(store):
    store.discard_after(10000)
    assert store.steps() == [900, 9900, 10000]
    assert store.pointer("best") == store.root / "step-00010000"
    store.discard_after(10000)
    assert store.steps() == [900, 9900, 10000]


def test_a_kill_in_the_middle_leaves_whole_checkpoints(store, monkeypatch):
    """The newest goes first, out of sight before its files go."""
    calls = 0

    def rmtree(path: Path, real=shutil.rmtree) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            (path / "MANIFEST.json").unlink()
            raise KeyboardInterrupt
        real(path)

    monkeypatch.setattr("shutil.rmtree", rmtree)
    with pytest.raises(KeyboardInterrupt):
        store.discard_after(900)
    monkeypatch.undo()
    assert store.steps() == [900, 9900]
    assert store.newest_valid(lambda folder, problem: pytest.fail(problem)) is not None
    store.save(9950, write)
    assert sorted(p.name for p in store.root.iterdir() if p.name.startswith("step")) == [
        "step-00000900", "step-00009900", "step-00009950",
    ]  # fmt: skip
