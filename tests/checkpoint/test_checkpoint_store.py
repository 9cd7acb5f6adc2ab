"""The store: what it keeps, what it believes, and what a kill between any two lines leaves."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fromscratch.checkpoint.background import Background
from fromscratch.checkpoint.store import CheckpointStore, verify
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import read_json, write_atomically


def content(text: str) -> Callable[[Path], None]:
    """Fills a checkpoint with two files, each written in its own way."""

    def write(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(text.encode() * 100)
        write_atomically(folder / "state.json", text)

    return write


def names(store: CheckpointStore) -> list[str]:
    return sorted(path.name for path in store.root.iterdir())


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints", keep_last=2)


def test_a_checkpoint_is_whole_and_pointed_at(store):
    folder = store.save(500, content("a"), best=True)
    assert folder.name == "step-00000500"
    assert verify(folder) is None
    assert store.pointer("latest") == store.pointer("best") == store.newest_valid() == folder
    files = read_json(folder / "MANIFEST.json")["files"]
    assert set(files) == {"model.safetensors", "state.json"}


def test_steps_are_numbers_not_text(store):
    """R33, also where the folder's name is longer than its padding."""
    for step in (9_900, 10_000, 99_999_999, 100_000_000):
        store.save(step, content(str(step)))
    assert store.steps() == [99_999_999, 100_000_000]
    assert store.newest_valid().name == "step-100000000"
    by_hand = store.root / "step-9"
    by_hand.mkdir()
    assert store.steps()[0] == 9


def test_the_last_and_the_best_are_kept(store):
    store.save(10, content("a"), best=True)
    for step in (20, 30, 40):
        store.save(step, content(str(step)))
    assert store.steps() == [10, 30, 40]
    store.save(50, content("b"), best=True)
    assert store.steps() == [40, 50]


def test_without_keep_best_the_best_goes_too(tmp_path):
    store = CheckpointStore(tmp_path, keep_last=1, keep_best=False)
    store.save(10, content("a"), best=True)
    store.save(20, content("b"))
    assert store.steps() == [20]
    assert store.pointer("best") is None


def test_retention_removes_nothing_that_is_not_a_checkpoint(store):
    store.save(1, content("a"))
    for name in ("step-3.tmp.notes", "my.corrupt", "notes.tmp", "steps-00000001"):
        (store.root / name).mkdir()
    (store.root / "step-00000002").write_text("a file")
    for step in (4, 5, 6):
        store.save(step, content("b"))
    store.discard_unfinished()
    kept = {"step-3.tmp.notes", "my.corrupt", "notes.tmp", "steps-00000001", "step-00000002"}
    assert kept < set(names(store))


def test_retention_comes_after_the_commit(store):
    """R35: a save that fails costs nothing that was there."""
    store.save(1, content("a"))
    store.save(2, content("b"))

    def fails(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        store.save(3, fails)
    assert store.steps() == [1, 2]
    assert not [name for name in names(store) if name.endswith(".tmp")]
    assert store.pointer("latest").name == "step-00000002"


def test_saving_the_same_step_again(store):
    store.save(1, content("first"))
    store.save(1, content("second"))
    assert (store.root / "step-00000001/state.json").read_text() == "first"
    store.save(1, content("third"), replace=True)
    assert (store.root / "step-00000001/state.json").read_text() == "third"
    (store.root / "step-00000001/state.json").write_text("damaged")
    store.save(1, content("fourth"))
    assert (store.root / "step-00000001/state.json").read_text() == "fourth"
    assert names(store) == ["latest", "step-00000001"]


# --- damage ---------------------------------------------------------------------------------------


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_every_flipped_bit_is_found_or_harmless(store):
    """A flip anywhere in a checkpoint: never an exception, and never a checkpoint that is not."""
    folder = store.save(1, content("some state"))
    original = {path: path.read_bytes() for path in folder.iterdir()}
    for path, data in original.items():
        # Weights are all alike; of the manifest and the state every byte has a meaning of its own.
        for at in range(0, len(data), 50 if path.suffix == ".safetensors" else 1):
            flip(path, at)
            problem = verify(folder)
            if path.name != "MANIFEST.json":
                assert problem == f"{path.name} does not match its checksum"
            elif problem is None:  # in the step, or in white space: the files are what they were
                manifest = read_json(path)
                assert set(manifest["files"]) == {p.name for p in original} - {path.name}
            path.write_bytes(data)
    assert verify(folder) is None


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ("", "is damaged"),
        ("[]", "is damaged"),
        ("null", "is damaged"),
        ('{"format_version": 1}', "is damaged"),
        ('{"format_version": 1, "files": []}', "is damaged"),
        ('{"format_version": 1, "files": {"a": 3}}', "is damaged"),
        ('{"format_version": 1, "files": {"a": {"bytes": 1}}}', "is damaged"),
        ('{"format_version": 1, "files": {}}', "names no files"),
        ('{"format_version": 7, "files": {"a": {"bytes": 1, "sha256": ""}}}', "format 7"),
        ('{"format_version": 1, "files": {"a": {"bytes": 1, "sha256": ""}}}', "a is missing"),
    ],
)
def test_a_manifest_that_is_none(store, manifest, words):
    folder = store.save(1, content("a"))
    (folder / "MANIFEST.json").write_text(manifest)
    assert words in verify(folder)


def test_what_is_missing_or_cut_short(store):
    folder = store.save(1, content("a"))
    (folder / "model.safetensors").write_bytes(b"a" * 99)
    assert verify(folder) == "model.safetensors has 99 bytes instead of 100"
    (folder / "model.safetensors").unlink()
    assert verify(folder) == "model.safetensors is missing"
    (folder / "MANIFEST.json").unlink()
    assert verify(folder) == "it has no MANIFEST.json"


def test_a_corrupt_one_is_put_aside_once_and_gone_after_the_next_commit(store):
    store.save(1, content("a"))
    flip(store.save(2, content("b")) / "model.safetensors", 7)
    assert store.newest_valid().name == "step-00000001"
    assert "step-00000002" in names(store), "who only reads changes nothing"
    told: list[tuple[str, str]] = []
    for _ in range(2):
        found = store.newest_valid(lambda folder, why: told.append((folder.name, why)))
        assert found.name == "step-00000001"
    assert told == [("step-00000002", "model.safetensors does not match its checksum")]
    assert "step-00000002.corrupt" in names(store)
    store.save(2, content("b"))
    assert names(store) == ["latest", "step-00000001", "step-00000002"]


def test_none_intact_is_refused_and_left_as_it_was(store):
    for step in (1, 2):
        flip(store.save(step, content("a")) / "model.safetensors", 7)
    before = names(store)
    for _ in range(2):
        with pytest.raises(UserError, match="None of the 2 checkpoints"):
            store.newest_valid(lambda folder, why: None)
    assert names(store) == before
    for step in (1, 2):  # as an earlier release put them aside
        folder = store.root / f"step-0000000{step}"
        folder.rename(folder.with_name(folder.name + ".corrupt"))
    with pytest.raises(UserError, match="None of the 2 checkpoints"):
        store.newest_valid()


def test_no_checkpoint_is_none(store):
    assert store.newest_valid() is None
    store.root.mkdir()
    assert store.newest_valid() is None
    assert store.discard_unfinished() == []


def test_pointers_follow_a_resumed_state(store):
    store.save(1, content("a"), best=True)
    store.save(2, content("b"))
    store._point("latest", store.root / "step-00000001")  # as if killed before them
    store.point_again(2, best_step=2)
    assert store.pointer("latest").name == store.pointer("best").name == "step-00000002"
    store.point_again(2, best_step=7)  # which is not there any more
    assert store.pointer("best").name == "step-00000002"


def test_pointers_without_links(store, monkeypatch):
    """A file system without symbolic links gets files with the name in them."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    store.save(1, content("a"), best=True)
    store.save(2, content("b"))
    assert (store.root / "latest").read_text() == "step-00000002\n"
    assert store.pointer("latest").name == "step-00000002"
    assert store.pointer("best").name == "step-00000001"


# --- killed between any two lines -----------------------------------------------------------------

TOUCHES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.scandir"}
"""What Python's audit hooks report of a process that changes a disk, each before it happens."""


def killed_at(number: int, action: Callable[[], None]) -> bool:
    """Runs an action in a process that dies before its n-th touch of the disk; False if it ends."""
    child = os.fork()
    if child == 0:
        seen = 0

        def hook(event: str, _: object) -> None:
            nonlocal seen
            if event in TOUCHES:
                seen += 1
                if seen == number:
                    os._exit(9)

        sys.addaudithook(hook)
        try:
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("beside", [False, True], ids=["waiting", "beside training"])
def test_a_kill_between_any_two_lines_loses_no_committed_checkpoint(tmp_path, monkeypatch, beside):
    """Five saves (old ones go, the best is replaced in place), killed at each touch in turn.

    Beside training, a thread saves while another appends a row to a file.
    """
    plan = [
        (1, "one", True, False),
        (2, "two", False, False),
        (3, "three", True, False),
        (3, "again", False, True),
        (4, "four", False, False),
    ]
    # A killed process loses nothing that the system has: only a power cut asks for fsync.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    number = 0
    killed = True
    while killed:
        number += 1
        root = tmp_path / str(number)
        log = tmp_path / f"{number}.log"
        log.write_text("")
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)

        def save_all(root: Path = root, log: Path = log, descriptor: int = descriptor) -> None:
            store, background = CheckpointStore(root, keep_last=2), Background("test")
            for step, text, best, replace in plan:

                def save(step=step, text=text, best=best, replace=replace) -> None:
                    store.save(step, content(text), best=best, replace=replace)

                if beside:
                    background.start(save)
                    with open(log.with_suffix(".rows"), "a") as rows:
                        rows.write(f"{step}\n")
                    assert background.collect() is None
                else:
                    save()
                os.write(descriptor, f"{step} {text}\n".encode())

        killed = killed_at(number, save_all)
        os.close(descriptor)
        committed = [line.split() for line in log.read_text().splitlines()]

        store = CheckpointStore(root, keep_last=2)
        store.discard_unfinished()
        newest = store.newest_valid(lambda folder, why: pytest.fail(f"{folder}: {why}"))
        done = len(committed)
        if newest is None:
            assert done == 0
        else:
            # What was committed last, or what was being committed when the kill came.
            allowed = [(s, t) for s, t, _, _ in plan[max(0, done - 1) : done + 1]]
            found = (int(newest.name[5:]), (newest / "state.json").read_text())
            assert found in allowed
            best = 3 if found[0] >= 3 else 1
            store.point_again(found[0], best)
            assert store.pointer("latest") == newest
            assert store.pointer("best") == store.root / f"step-{best:08d}"
            assert verify(store.pointer("best")) is None
        # And the run goes on to the same end.
        for step, text, is_best, replace in plan[done:]:
            store.save(step, content(text), best=is_best, replace=replace)
        assert names(store) == ["best", "latest", "step-00000003", "step-00000004"]
        assert (store.root / "step-00000003/state.json").read_text() == "again"
        assert (store.root / "step-00000004/state.json").read_text() == "four"
    assert number > 100, "too few touches were seen for this to have tested anything"
