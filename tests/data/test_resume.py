"""A preparation that is killed at any moment and run again ends in the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fromscratch.data.encoding import Cursor, read_batches
from fromscratch.data.prepare import prepare
from fromscratch.data.shards import load_manifest
from fromscratch.data.sources import Source
from fromscratch.data.watching import Advance, Remark
from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.build import make_tokenizer
from tests.data.peak_memory import PEAK
from tests.data.preparing import complete_shards, files, killed, settings, texts


@pytest.mark.slow
@pytest.mark.parametrize("dedup", ["none", "near"])
def test_killed_before_every_operation_on_the_disk(tmp_path: Path, dedup: str) -> None:
    sources = texts(tmp_path / "texts", 100)
    options = settings(dedup=dedup, shard_tokens=16_000)
    clean = prepare(sources, tmp_path / "clean", options)
    assert len(clean.manifest.select("train")) > 3
    assert len(clean.manifest.select("val")) >= 2
    assert (sum(s.duplicates for s in clean.manifest.sources) > 20) == (dedup == "near")
    expected = files(tmp_path / "clean")
    moments = kills = 0
    for at in range(1, 1000, 5 if dedup == "none" else 7):
        folder = tmp_path / f"data-{at}"
        if not killed(sources, folder, options, at):
            break
        kills += 1
        # Once more, at another place of what is left.
        if not (folder / "manifest.json").is_file():
            killed(sources, folder, options, 3 + at % 17)
        if (folder / "manifest.json").is_file():  # whole; only the marker may be left behind
            load_manifest(folder)
            continue
        told: list[Advance | Remark] = []
        journal = folder / "progress.json"
        committed = json.loads(journal.read_text()) if journal.is_file() else None
        finished = complete_shards(folder)
        prepare(sources, folder, options, watch=told.append)
        assert files(folder) == expected, at
        done = [event.documents for event in told if isinstance(event, Advance)]
        if committed:
            moments += 1
            before = sum(s["documents"] for s in committed["sources"])
            assert not done or done[0] >= before  # what was committed is not done again
            counted = {s["file"] for s in committed["shards"]}
            assert len([f for f in finished if f not in counted]) <= 1  # at most a shard was lost
    assert kills > 12, kills
    assert moments > 8, moments


def test_what_lies_beyond_the_journal_is_cut_off(tmp_path: Path) -> None:
    """A machine that loses power may leave any bytes after those that were forced to the disk."""
    sources = texts(tmp_path / "texts", 300)
    prepare(sources, tmp_path / "clean", settings())
    for at in (40, 60, 80):
        folder = tmp_path / f"data-{at}"
        assert killed(sources, folder, settings(), at)
        journal = json.loads((folder / "progress.json").read_text())
        for split, state in journal["open"].items():
            for name in (
                f"{split}-{state['index']:05}.npy",
                f"docs-{split}-{state['index']:05}.npy",
            ):
                with open(folder / name, "ab") as file:
                    file.write(b"\xab" * 777)
        prepare(sources, folder, settings())
        assert files(folder) == files(tmp_path / "clean")


def test_a_file_that_is_shorter_than_the_journal_says_is_refused(tmp_path: Path) -> None:
    """Cutting it to the right length would fill it up with zeros, which are ids."""
    sources = texts(tmp_path / "texts", 300)
    folder = tmp_path / "data"
    assert killed(sources, folder, settings(), 60)
    state = json.loads((folder / "progress.json").read_text())["open"]["train"]
    assert state["documents"]
    shard = folder / f"train-{state['index']:05}.npy"
    with open(shard, "rb+") as file:
        file.truncate(200)
    with pytest.raises(UserError, match=r"train-.*200 bytes, fewer than the"):
        prepare(sources, folder, settings())
    shard.unlink()
    with pytest.raises(UserError, match=r"train-.*0 bytes, fewer than the"):
        prepare(sources, folder, settings())


def test_names_of_files_need_not_be_utf8(tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b"texts\xff")
    try:
        place.mkdir()
    except OSError:
        pytest.skip("this file system has names of characters, not of bytes")
    sources = texts(place, 100)
    prepare(sources, tmp_path / "clean", settings())
    assert killed(sources, tmp_path / "data", settings(), 30)
    with pytest.raises(UserError, match="interrupted") as caught:
        load_manifest(tmp_path / "data")
    assert str(place) in str(caught.value)
    prepare(sources, tmp_path / "data", settings())
    assert files(tmp_path / "data") == files(tmp_path / "clean")


def test_many_files_without_text_are_counted_and_the_first_named(tmp_path: Path) -> None:
    """All of them come with one batch, since none fills one."""
    (tmp_path / "texts").mkdir()
    for i in range(1_500):
        (tmp_path / "texts" / f"{i:04}.txt").touch()
    (tmp_path / "texts" / "z.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    source = Source("s", str(tmp_path / "texts"))
    work = [(0, portion) for portion in source.portions()]
    batches = list(read_batches([source], work, make_tokenizer("bytes"), Cursor()))
    assert [len(batch.documents) for batch in batches] == [2]
    report = batches[0].report
    assert (report.n_skipped, len(report.skipped)) == (1_500, 1_000)
    assert [Path(place).name for place, _ in report.skipped[:2]] == ["0000.txt", "0001.txt"]


def test_other_text_or_settings_start_over(tmp_path: Path) -> None:
    sources = texts(tmp_path / "texts", 150)
    assert killed(sources, tmp_path / "data", settings(), 40)
    (tmp_path / "texts" / "one" / "0003.txt").write_text("something else entirely")
    prepare(sources, tmp_path / "data", settings())
    prepare(sources, tmp_path / "clean", settings())
    assert files(tmp_path / "data") == files(tmp_path / "clean")
    assert killed(sources, tmp_path / "more", settings(), 40)
    prepare(sources, tmp_path / "more", settings(seed=3))
    prepare(sources, tmp_path / "clean-3", settings(seed=3))
    assert files(tmp_path / "more") == files(tmp_path / "clean-3")


def test_a_trained_tokenizer_is_not_trained_again(tmp_path: Path) -> None:
    sources = texts(tmp_path / "texts", 150)
    options = settings(tokenizer="bpe:300")
    assert killed(sources, tmp_path / "data", options, 30)
    told: list[Advance | Remark] = []
    prepare(sources, tmp_path / "data", options, watch=told.append)
    assert {event.stage for event in told if isinstance(event, Advance)} == {"tokens"}
    prepare(sources, tmp_path / "clean", options)
    assert files(tmp_path / "data") == files(tmp_path / "clean")


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    sources = texts(tmp_path / "texts", 20)
    refused: list[str] = []

    def second(event: Advance | Remark) -> None:
        if not refused:
            with pytest.raises(UserError, match="Another process") as caught:
                prepare(sources, tmp_path / "data", settings())
            refused.append(str(caught.value))

    prepare(sources, tmp_path / "data", settings(), watch=second)
    assert refused
    assert not (tmp_path / "data" / "prepare.lock").exists()
    load_manifest(tmp_path / "data")


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_the_number_of_threads_changes_nothing(tmp_path: Path, workers: int) -> None:
    sources = texts(tmp_path / "texts", 200)
    prepare(sources, tmp_path / "one", settings(dedup="near"), workers=1)
    prepare(sources, tmp_path / "more", settings(dedup="near"), workers=workers)
    assert files(tmp_path / "one") == files(tmp_path / "more")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_text(tmp_path: Path, shared_data: Path) -> None:
    text = (shared_data / "wikitext2" / "valid.txt").read_text()
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from fromscratch.data.sources import Source\n"
        "from fromscratch.data.options import PrepareOptions\n"
        "from fromscratch.data.prepare import prepare\n"
        "options = PrepareOptions(documents='passage', tokenizer='bytes')\n"
        "prepare([Source('text', sys.argv[1])], Path(sys.argv[2]), options, fast=False)\n"
        "print(peak(), 'torch' in sys.modules)\n"
    )
    peaks = []
    for copies in (20, 60):
        folder = tmp_path / f"texts-{copies}"
        folder.mkdir()
        for i in range(copies):
            (folder / f"{i}.txt").write_text(f"{i}\n{text}")
        printed = subprocess.run(
            [sys.executable, "-c", PEAK + program, str(folder), str(tmp_path / f"data-{copies}")],
            env=os.environ | {"TIKTOKEN_CACHE_DIR": str(shared_data / "gpt2-bpe")},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        assert printed[1] == "False"
        peaks.append(int(printed[0]))
    assert peaks[1] < 1.1 * peaks[0], peaks
