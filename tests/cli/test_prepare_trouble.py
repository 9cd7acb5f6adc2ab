"""`prepare` and `data merge` that are interrupted, run out of disk, or are not alone."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from fromscratch.data.prepare import prepare as prepare_here
from fromscratch.data.sources import Source
from fromscratch.data.watching import Advance, Remark
from tests.cli.preparing_cli import (
    BYTES,
    answer_of,
    documents,
    files,
    prepare,
    run,
    start,
    texts,
    wait_for_shards,
    write_texts,
)
from tests.data.hub_material import wait_for
from tests.data.preparing import settings
from tests.small_disk import small_disk

MUCH = "\n\n".join(texts(30_000))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text that takes a moment, prepared without any trouble."""
    root = tmp_path_factory.mktemp("trouble")
    (root / "much.txt").write_text(MUCH)
    prepare(*command("clean"), cwd=root)
    return root


def command(out: str | Path) -> list[str]:
    return ["much.txt", "--documents", "paragraph", "--shard-tokens", "50000", *BYTES,
            "--out", str(out)]  # fmt: skip


def test_ctrl_c_ends_with_one_line_and_the_same_command_goes_on(place: Path) -> None:
    process = start("prepare", *command("stopped"), cwd=place)
    wait_for_shards(process, place / "stopped", 4)
    process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    answer = answer_of(process)
    assert time.monotonic() - asked < 10
    assert (answer.code, answer.out) == (130, "")
    assert answer.err == "Interrupted; the same command goes on where it stopped.\n"
    again = prepare(*command("stopped"), cwd=place)
    assert "Going on where it stopped: " in again.err
    assert "documents are done." in again.err
    assert files(place / "stopped") == files(place / "clean")


def test_other_settings_are_said_to_start_over(place: Path) -> None:
    process = start("prepare", *command("changed"), cwd=place)
    wait_for_shards(process, place / "changed", 4)
    process.kill()
    answer_of(process)
    again = prepare(*command("changed"), "--seed", "1", cwd=place)
    assert "begun with other text or other settings; it starts over" in again.err


def test_a_merge_that_is_interrupted_is_begun_again(place: Path) -> None:
    for i in range(2):
        prepare(*command(f"part-{i}"), "--part", f"{i}/2", cwd=place)
    merge = ["data", "merge", "part-0", "part-1", "--out", "merged"]
    process = start(*merge, cwd=place)
    wait_for(lambda: (place / "merged/train-00001.npy").is_file())
    process.send_signal(signal.SIGINT)
    answer = answer_of(process)
    assert answer.code == 130, "it was over before it could be interrupted"
    assert answer.err == "Interrupted; the same command does it from the beginning.\n"
    shown = run("data", "show", "merged", cwd=place)
    assert shown.code == 2
    assert "Run it again: fromscratch data merge part-0 part-1 --out merged" in shown.err
    assert run(*merge, cwd=place).code == 0
    assert files(place / "merged") == files(place / "clean")


def test_a_limit_on_files_is_a_sentence_and_costs_nothing(place: Path) -> None:
    def narrow() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))

    words = [*command("narrow"), "--shard-tokens", "400000"]
    answer = run("prepare", *words, cwd=place, preexec_fn=narrow)
    assert answer.code == 2, answer
    assert "There is no room for narrow (File too large)" in answer.err
    assert "give the same command again: it goes on where it stopped" in answer.err
    assert "Traceback" not in answer.err
    prepare(*words, cwd=place)
    prepare(*command("wide"), "--shard-tokens", "400000", cwd=place)
    assert files(place / "narrow") == files(place / "wide")
    # Standard input that does not fit beside the output.
    piped = ["-", *command("piped")[1:]]
    given = (MUCH * 2).encode()
    answer = run("prepare", *piped, cwd=place, given=given, preexec_fn=narrow)
    assert answer.code == 2, answer
    assert "There is no room for piped" in answer.err
    assert not list(place.glob(".piped*")), "a full disk is not kept full"


@pytest.mark.slow
def test_a_disk_that_fills_up(place: Path) -> None:
    disk = place / "disk"
    with small_disk(disk, "4m"):
        answer = run("prepare", *command(disk / "data"), cwd=place)
        assert answer.code == 2, answer
        assert "warning: " in answer.err
        assert "and its disk has 0.0 GB free" in answer.err
        assert "No space left on device" in answer.err
        assert "Traceback" not in answer.err
        subprocess.run(["mount", "-o", "remount,size=80m", str(disk)], check=True)
        again = prepare(*command(disk / "data"), cwd=place)
        assert "Going on where it stopped: " in again.err
        assert files(disk / "data") == files(place / "clean")


def test_a_folder_that_cannot_be_written(place: Path) -> None:
    for out in ("much.txt/data", "/proc/nothing/here"):
        answer = run("prepare", *command(out), cwd=place)
        assert answer.code == 2, answer
        assert "cannot be written" in answer.err
        assert "--out" in answer.err


def test_two_at_once(place: Path) -> None:
    """One prepares; the other is told so, or that the data is there already."""
    processes = [start("prepare", *command("shared"), cwd=place) for _ in range(3)]
    answers = [answer_of(process) for process in processes]
    assert sorted(answer.code for answer in answers) == [0, 2, 2], answers
    for answer in answers:
        if answer.code:
            assert "Another process is preparing" in answer.err or "already holds" in answer.err
            assert "Traceback" not in answer.err
    assert files(place / "shared") == files(place / "clean")


def test_two_pipes_at_once(place: Path) -> None:
    words = ["prepare", "-", *BYTES, "--out", "pipes"]
    first = start(*words, cwd=place, stdin=subprocess.PIPE)
    assert first.stdin is not None
    first.stdin.write(b"half of it ")
    first.stdin.flush()
    wait_for(lambda: (place / "..pipes.stdin.tmp").exists())
    second = run(*words, cwd=place, given=b"something else")
    assert second.code == 2
    assert "Another process is preparing pipes" in second.err
    answer = answer_of(first, ("\n\n".join(texts(500))).encode())
    assert answer.code == 0, answer
    assert "half of it The text number 0" in "".join(documents(place / "pipes"))


def test_a_source_that_changes_while_it_is_read(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", texts(900))
    told: list[Advance | Remark] = []

    def add(event: Advance | Remark) -> None:
        if not told:
            (tmp_path / "texts/new.txt").write_text("It was not there before.")
        told.append(event)

    source = Source("texts", str(tmp_path / "texts"))
    made = prepare_here([source], tmp_path / "data", settings(), watch=add)
    assert [place for place, _ in made.notes] == [source.spec]
    assert "changed while it was read" in made.notes[0][1]
    unchanged = prepare_here([source], tmp_path / "data", settings(), overwrite=True)
    assert not unchanged.notes


def test_a_terminal_sees_rate_and_time_left_and_a_pipe_does_not(place: Path) -> None:
    master, slave = pty.openpty()
    words = ["prepare", *command("on-terminal")]
    process = start(*words, cwd=place, stderr=slave, environment={"COLUMNS": "150"})
    os.close(slave)
    wait_for_shards(process, place / "on-terminal", 1)
    # Work of less than two seconds is not worth a bar: let time pass.
    process.send_signal(signal.SIGSTOP)
    time.sleep(2.2)
    process.send_signal(signal.SIGCONT)
    seen = b""
    with contextlib.suppress(OSError):  # Linux: the other side has gone
        while piece := os.read(master, 65_536):
            seen += piece
    os.close(master)
    process.communicate()
    assert process.returncode == 0, seen
    assert "turning text into tokens: " in seen.decode()
    assert "B/s" in seen.decode()
    assert re.search(r"0:00:\d\d", seen.decode())
    piped = prepare(*command("in-a-pipe"), cwd=place)
    assert piped.err == ""
