"""Which checkpoints stay: the last, the best, the permanent ones; a temporary one for a while."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.checkpoint.store import CheckpointStore, verify


def write(folder: Path) -> None:
    (folder / "state.json").write_text("{}")


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints", keep_last=2)


def test_permanent_ones_stay_and_count_among_the_last(store):
    for step in (10, 20, 30, 40, 50):
        store.save(step, write, keep="permanent" if step % 20 == 0 else "recent")
    assert store.steps() == [20, 40, 50]
    # What made them permanent may have left the recipe since.
    for step in (60, 70, 80):
        store.save(step, write)
    assert store.steps() == [20, 40, 70, 80]


def test_a_temporary_one_goes_when_a_newer_one_is_there(store):
    store.save(10, write)
    store.save(20, write)
    for step in (23, 26):
        store.save(step, write, keep="temporary")
        assert store.steps() == [10, 20, step], "it pushes out no other than a temporary one"
        assert store.pointer("latest").name == f"step-000000{step}"
    store.save(30, write)
    assert store.steps() == [20, 30]


def test_one_of_the_same_step_becomes_stronger_never_weaker(store):
    def keep(step: int) -> str:
        folder = store.root / f"step-{step:08d}"
        assert verify(folder) is None
        return json.loads((folder / "MANIFEST.json").read_text()).get("keep", "recent")

    store.save(5, write, keep="temporary")
    assert keep(5) == "temporary"
    store.save(5, write, best=True)
    assert keep(5) == "recent"
    store.save(5, write, keep="permanent")
    assert keep(5) == "permanent"
    store.save(5, write, keep="temporary", replace=True)
    assert keep(5) == "permanent"


def test_a_manifest_of_an_earlier_release_is_one_of_the_last(store):
    folder = store.save(1, write)
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    assert "keep" not in manifest, "what an earlier release reads is unchanged"
    for step in (2, 3):
        store.save(step, write)
    assert store.steps() == [2, 3]


saves = st.lists(
    st.tuples(st.sampled_from(["temporary", "recent", "permanent"]), st.booleans()),
    min_size=1,
    max_size=12,
)


@given(saves, st.integers(1, 3), st.booleans())
def test_after_any_saves_there_is_what_was_promised(tmp_path_factory, plan, keep_last, keep_best):
    store = CheckpointStore(
        tmp_path_factory.mktemp("any"), keep_last=keep_last, keep_best=keep_best
    )
    kinds: dict[int, str] = {}
    best = None
    for step, (keep, is_best) in enumerate(plan, start=1):
        store.save(step, write, best=is_best, keep=keep)
        kinds[step] = keep
        best = step if is_best else best
        lasting = [s for s in kinds if kinds[s] != "temporary"]
        promised = {s for s in kinds if kinds[s] == "permanent"} | set(lasting[-keep_last:])
        promised |= {step} | ({best} if keep_best and best else set())
        assert set(store.steps()) == promised
