"""The folder of copies: bounded, shared by processes, and never with half a file in it."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hub_material import bytes_in, noise, shards, wait_for
from hub_server import HubServer, Repo, Trouble

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import sha256_of_file
from tests.small_disk import small_disk

BIG = 10**9


# --- bounded disk ---------------------------------------------------------------------------------


def watch(folder: Path, stop: threading.Event, peak: list[int]) -> None:
    while not stop.is_set():
        peak[0] = max(peak[0], bytes_in(folder))
        time.sleep(0.002)


def test_the_folder_never_grows_past_its_bound(hub, open_set, tmp_path):
    repo = hub.add("a/b", shards(6))
    hub.trouble.append(Trouble("/cdn/", "slow", times=99, per_chunk=0.004))
    folder, bound = tmp_path / "copies", 2 * 200_000 + 5_000
    stop, peak = threading.Event(), [0]
    watcher = threading.Thread(target=watch, args=(folder, stop, peak))
    watcher.start()
    try:
        dataset = open_set("hf:a/b", bound)
        for file in dataset.files():
            with dataset.local(file) as path:
                time.sleep(0.05)
                assert path.read_bytes() == repo.commits[dataset.revision][file.path]
        dataset.close()
    finally:
        stop.set()
        watcher.join()
    assert 300_000 < peak[0] <= bound
    # One request a file: what was fetched ahead was not thrown away before it was read.
    assert len(hub.fetches()) == 6


def test_the_next_file_is_fetched_while_this_one_is_read(hub, open_set):
    hub.add("a/b", shards(3))
    dataset = open_set("hf:a/b")
    files = dataset.files()
    with dataset.local(files[0]):
        wait_for(lambda: len(hub.fetches()) == 2 and hub.fetches()[1].sent == 200_000)
    with dataset.local(files[1], then=files[0]):
        pass
    assert len(hub.fetches()) == 2
    with dataset.local(files[0], then=files[2]):
        wait_for(lambda: len(hub.fetches()) == 3)


def test_room_for_one_file_only_means_no_fetching_ahead(hub, open_set, tmp_path):
    hub.add("a/b", shards(3))
    dataset = open_set("hf:a/b", 250_000)
    for file in dataset.files():
        with dataset.local(file) as path:
            time.sleep(0.05)
            assert sha256_of_file(path) == file.oid
            assert bytes_in(tmp_path / "copies") <= 250_000


def test_the_oldest_goes_first_and_foreign_files_stay(hub, open_set, tmp_path):
    hub.add("a/b", shards(4))
    folder = tmp_path / "copies"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    dataset = open_set("hf:a/b", 600_000)
    one, two, three, four = dataset.files()
    for file in (one, two, three, one, four):  # one is used again, so two is the oldest
        with dataset.local(file, prefetch=False):
            time.sleep(0.02)
    kept = {p.name.split("-", 1)[1] for p in folder.glob("*.parquet")}
    assert kept == {f.path.split("/")[1] for f in (one, three, four)}
    assert (folder / "thesis.txt").read_text() == "mine"


def test_a_file_larger_than_the_bound_is_refused_with_both_numbers(hub, open_set):
    hub.add("a/b", {"train.parquet": noise(5_000)})
    dataset = open_set("hf:a/b", 4_999)
    with pytest.raises(UserError, match=r"5,000 bytes, more than the 4,999.*--keep-local"):
        dataset.local(dataset.files()[0]).__enter__()
    assert hub.fetches() == []


def test_a_file_larger_than_the_disk_is_refused_before_it_is_asked_for(hub, open_set):
    repo = hub.add("a/b", {"train.parquet": noise(5_000)})
    repo.pretended["train.parquet"] = 10**16
    dataset = open_set("hf:a/b", 10**17)
    with pytest.raises(UserError, match=r"needs 10,000,000,000,000,000 more bytes.* free\."):
        dataset.local(dataset.files()[0]).__enter__()
    assert hub.fetches() == []


def test_a_disk_smaller_than_the_bound_is_the_bound(hub, open_set, tmp_path):
    repo = hub.add("a/b", shards(5))
    with small_disk(tmp_path / "disk", "500k"):
        dataset = open_set("hf:a/b", folder=tmp_path / "disk" / "copies")
        for file in dataset.files():
            with dataset.local(file) as path:
                assert path.read_bytes() == repo.commits[dataset.revision][file.path]
        dataset.close()


def test_a_disk_that_others_fill_meanwhile(hub, open_set, tmp_path):
    content = noise(400_000)
    hub.add("a/b", {"train.parquet": content})
    hub.trouble.append(Trouble("/cdn/", "slow", per_chunk=0.02))
    with small_disk(tmp_path / "disk", "600k"):
        filler = tmp_path / "disk" / "filler"
        dataset = open_set(
            "hf:a/b",
            folder=tmp_path / "disk" / "copies",
            on_bytes=lambda file, n: (
                None if filler.exists() else filler.write_bytes(b"x" * 300_000)
            ),
        )
        file = dataset.files()[0]
        with pytest.raises(UserError, match=r"The disk is full: train.parquet.*goes on where"):
            dataset.local(file).__enter__()
        filler.unlink()
        filler.touch()
        with dataset.local(file) as path:
            assert path.read_bytes() == content
        assert hub.fetches()[-1].range is not None


def test_files_open_at_once_must_fit_together(hub, open_set):
    hub.add("a/b", shards(2))
    dataset = open_set("hf:a/b", 300_000)
    one, two = dataset.files()
    with dataset.local(one), pytest.raises(UserError, match="does not fit beside the 200,000"):
        dataset.local(two).__enter__()
    with dataset.local(two):
        pass


# --- processes ------------------------------------------------------------------------------------

READER = """
import sys, time, hashlib
from pathlib import Path
from fromscratch.data.hub import HubDataset
folder, bound, pause = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
dataset = HubDataset("hf:a/b", folder=folder, keep_local=bound)
for file in dataset.files():
    with dataset.local(file) as path:
        time.sleep(pause)
        print(file.path, hashlib.sha256(path.read_bytes()).hexdigest(), flush=True)
assert "torch" not in sys.modules
"""


def reader(
    hub: HubServer, folder: Path, bound: int = BIG, pause: float = 0
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", READER, str(folder), str(bound), str(pause)],
        env=os.environ | {"HF_ENDPOINT": hub.endpoint},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def expected_output(repo: Repo) -> str:
    files = repo.commits[repo.refs["main"]]
    return "".join(f"{p} {hashlib.sha256(files[p]).hexdigest()}\n" for p in sorted(files))


def test_downloads_killed_again_and_again_go_on_where_they_were(hub, tmp_path):
    repo = hub.add("a/b", shards(2, size=800_000))
    kills = (100_000, 300_000, 200_000)  # bytes that a process may receive before it is killed
    for bytes_before in kills:
        hub.trouble[:] = [Trouble("/cdn/", "slow", times=99, per_chunk=0.02)]
        asked = len(hub.fetches())
        process = reader(hub, tmp_path)
        wait_for(lambda a=asked, n=bytes_before: sum(f.sent for f in hub.fetches()[a:]) > n)
        process.kill()
        process.communicate()
    arrived = {p.name.split("-", 1)[1]: p.stat().st_size for p in tmp_path.glob("*.parquet*")}
    assert arrived
    hub.trouble.clear()
    asked = len(hub.fetches())
    out, err = reader(hub, tmp_path).communicate(timeout=60)
    assert out == expected_output(repo), err
    # What had arrived was not sent again.
    assert sum(f.sent for f in hub.fetches()[asked:]) == 1_600_000 - sum(arrived.values())
    assert any(f.range for f in hub.fetches())
    assert not list(tmp_path.glob("*.part"))
    assert not list(tmp_path.glob("*.lease"))


def test_two_processes_share_one_folder_within_its_bound(hub, tmp_path):
    repo = hub.add("a/b", shards(5))
    hub.trouble.append(Trouble("/cdn/", "slow", times=99, per_chunk=0.004))
    stop, peak = threading.Event(), [0]
    bound = 450_000  # both read one file each, with no room for a third
    watcher = threading.Thread(target=watch, args=(tmp_path, stop, peak))
    watcher.start()
    readers = [reader(hub, tmp_path, bound, 0.03) for _ in range(2)]
    outcomes = [r.communicate(timeout=100) for r in readers]
    stop.set()
    watcher.join()
    for out, err in outcomes:
        assert out == expected_output(repo), err
    assert 0 < peak[0] <= bound


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_ctrl_c_ends_a_process_whose_next_file_is_on_its_way(hub, tmp_path):
    hub.add("a/b", shards(2, size=800_000))
    # The file ahead crawls for an hour; the one being read is at hand.
    hub.trouble.append(Trouble("/cdn/train-00001|/cdn/data/train-00001", "slow", per_chunk=60))
    process = reader(hub, tmp_path, pause=60)
    wait_for(lambda: len(hub.fetches()) == 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in err
    assert "thread" not in err.lower().replace("threading.py", "")
    assert process.returncode != 0


def test_a_copy_that_somebody_cut_is_fetched_again(hub, open_set):
    hub.add("a/b", shards(1))
    dataset = open_set("hf:a/b")
    file = dataset.files()[0]
    with dataset.local(file) as path:
        pass
    path.write_bytes(path.read_bytes()[:100])
    with dataset.local(file) as path:
        assert sha256_of_file(path) == file.oid
