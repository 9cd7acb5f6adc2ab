"""What has been seen: like a dict in any batches, after any kill, in memory that does not grow."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.data.duplicates import Seen
from fromscratch.data.key_set import KeySet
from fromscratch.foundation.errors import UserError
from tests.data.peak_memory import PEAK

_CONTENT = st.integers(0, 12).map(lambda n: n.to_bytes(1, "big") * 16) | st.sampled_from(
    [bytes(16), bytes(8) + b"\1" * 8, b"\1" * 8 + bytes(8)]
)
_BANDS = st.lists(st.integers(0, 40), min_size=14, max_size=14) | st.just([0] * 14)


class Model:
    """The rule in plain Python."""

    def __init__(self) -> None:
        self.known: set[object] = set()

    def keep(self, content: bytes, bands: list[int] | None) -> bool:
        marks = {content, *((i, band) for i, band in enumerate(bands or []) if band)}
        if self.known & marks:
            return False
        self.known |= marks
        return True


def arrays(
    documents: list[tuple[bytes, list[int]]], near: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    keys = np.array([list(content) for content, _ in documents], dtype=np.uint8).reshape(-1, 16)
    bands = np.array([bands for _, bands in documents], dtype=np.uint64).reshape(-1, 14)
    return keys, bands if near else None


@given(
    st.lists(st.tuples(_CONTENT, _BANDS), max_size=30),
    st.booleans(),
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["go", "reopen", "back"])), max_size=12),
    st.data(),
)
def test_any_batching_and_any_return_give_the_plain_rules_answers(
    documents: list[tuple[bytes, list[int]]],
    near: bool,
    plan: list[tuple[int, str]],
    data: st.DataObject,
) -> None:
    model = Model()
    expected = [model.keep(content, bands if near else None) for content, bands in documents]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seen"
        seen = Seen(path, near=near)
        at = 0
        for size, then in [*plan, (len(documents) + 1, "go")]:
            batch = documents[at : at + size]
            assert seen.keep(at, *arrays(batch, near)).tolist() == expected[at : at + size]
            at += len(batch)
            if then == "reopen":
                seen.commit()
                seen.close()
                seen = Seen(path, near=near)
            elif then == "back":
                at = data.draw(st.integers(0, at))
                seen.forget_from(at)
        seen.keep(at, *arrays(documents[at:], near))
        seen.close()


@pytest.mark.long
@pytest.mark.parametrize("expected", [0, 40_000_000])
def test_a_larger_set_than_memory_holds_answers_like_numpy(tmp_path: Path, expected: int) -> None:
    """Through the memory's table into the file, and its doublings or a file large at once."""
    rng = np.random.default_rng(5)
    numbers = rng.integers(1, 2**64, 2_600_000, dtype=np.uint64)
    keys = KeySet(tmp_path, expected=expected)
    for start in range(0, len(numbers), 250_000):
        keys.add(numbers[start : start + 250_000])
    others = rng.integers(1, 2**64, 500_000, dtype=np.uint64)
    asked = np.concatenate([others, numbers[::7], np.zeros(3, dtype=np.uint64)])
    assert (keys.contains(asked) == np.isin(asked, numbers)).all()
    keys.add(numbers)  # what is there already changes nothing
    assert keys.contains(numbers[:1000]).all()
    assert not keys.contains(others).any()
    keys.close()
    assert list(tmp_path.iterdir()) == []


def test_a_torn_end_of_the_log_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    keys = np.random.default_rng(0).integers(0, 256, (50, 16), dtype=np.uint8)
    seen = Seen(path, near=False)
    assert seen.keep(0, keys).all()
    seen.close()
    whole = path.read_bytes()
    for torn in (b"\1\2\3", bytes(16), bytes(5000), whole[16:48]):
        path.write_bytes(whole + torn)
        seen = Seen(path, near=False)
        assert not seen.keep(50, keys).any()
        seen.close()
        assert path.read_bytes() == whole
    path.write_bytes(whole[:9])  # killed while it was made
    seen = Seen(path, near=False)
    assert seen.keep(0, keys).all()
    seen.close()
    assert path.read_bytes() == whole


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    Seen(path, near=False).close()
    with pytest.raises(UserError, match="was not written by the same kind"):
        Seen(path, near=True)
    path.write_text("something of mine that is longer than a header\n")
    with pytest.raises(UserError, match="was not written by the same kind"):
        Seen(path, near=False)
    assert path.read_text().startswith("something of mine")


_WORKER = """
import json, sys
from pathlib import Path
import numpy as np
from fromscratch.data.duplicates import Seen
from fromscratch.foundation.files import write_atomically

folder, total, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(seed)  # of the batches alone: documents depend on their number
n = total + 4096
content = np.random.default_rng(1).integers(0, n // 2, n).astype(np.uint64)
bands = np.random.default_rng(2).integers(1, 40 * n, (n, 14)).astype(np.uint64)
keys = np.column_stack([content, ~content]).view(np.uint8)
journal = folder / "journal"
done = int(journal.read_text()) if journal.exists() else 0
seen = Seen(folder / "seen", near=True)
seen.forget_from(done)
while done < total:
    for _ in range(int(rng.integers(1, 6))):
        size = min(int(rng.integers(1, 500)), total - done)
        seen.keep(done, keys[done : done + size], bands[done : done + size])
        done += size
    seen.commit()
    write_atomically(journal, str(done))
seen.close()
print("done", flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment_the_log_becomes_that_of_an_uninterrupted_run(
    tmp_path: Path,
) -> None:
    total = 100_000

    def start(name: str, seed: int) -> subprocess.Popen[str]:
        (tmp_path / name).mkdir(exist_ok=True)
        command = [
            sys.executable,
            "-c",
            PEAK + _WORKER,
            str(tmp_path / name),
            str(total),
            str(seed),
        ]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    whole = start("whole", 0)
    assert whole.communicate()[0] == "done\n"
    assert whole.returncode == 0
    rng = np.random.default_rng(9)
    journal = tmp_path / "killed" / "journal"
    kills = 0
    for attempt in range(1, 100):
        worker = start("killed", attempt)
        before = journal.read_text() if journal.exists() else ""
        # Past its first commit, so that some progress is made; then any moment.
        while worker.poll() is None and (journal.read_text() if journal.exists() else "") == before:
            time.sleep(0.002)
        time.sleep(float(rng.uniform(0, 0.05)))
        if kills < 12:  # enough; now it may end
            worker.kill()
        output, _ = worker.communicate()
        if output == "done\n":
            break
        kills += 1
    assert kills >= 3
    assert int(journal.read_text()) == total
    assert (tmp_path / "killed" / "seen").read_bytes() == (tmp_path / "whole" / "seen").read_bytes()
    assert sorted(p.name for p in (tmp_path / "killed").iterdir()) == ["journal", "seen"]


_MEASURE = """
import json, resource, sys
from pathlib import Path
import numpy as np
from fromscratch.data.duplicates import Seen

total = int(sys.argv[2])
rng = np.random.default_rng(0)
seen = Seen(Path(sys.argv[1]), near=True)
kept = 0
for first in range(0, total, 10_000):
    content = rng.integers(0, 256, (10_000, 16), dtype=np.uint8)
    bands = rng.integers(1, 2**64, (10_000, 14), dtype=np.uint64)
    kept += int(seen.keep(first, content, bands).sum())
seen.commit()
seen.forget_from(total - 1)  # builds the index anew
seen.close()
print(json.dumps([kept, peak()]))
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="no resource module")
def test_memory_does_not_grow_with_the_documents(tmp_path: Path) -> None:
    peaks = []
    for total in (400_000, 800_000):  # of 15 keys each: the first fills what memory may hold
        command = [sys.executable, "-c", PEAK + _MEASURE, str(tmp_path / str(total)), str(total)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        kept, peak = json.loads(done.stdout)
        assert kept == total
        peaks.append(peak)
    assert peaks[1] < 1.1 * peaks[0]
