"""Files are old or new and never half; JSON that every reader takes; names on disk."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.foundation import files
from fromscratch.foundation.errors import UserError, did_you_mean
from fromscratch.foundation.files import (
    dump_json,
    finite_or_text,
    free_bytes,
    fsync_file,
    read_json,
    read_json_lines,
    sha256_of_file,
    write_atomically,
)
from fromscratch.foundation.names import shard_file, step_folder, step_of_folder


class TestWriteAtomically:
    def test_writes_bytes_and_text_and_leaves_nothing_else(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        write_atomically(path, "caf\u00e9\n")
        assert path.read_bytes() == "caf\u00e9\n".encode()
        write_atomically(path, b"\x00\r\n")
        assert path.read_bytes() == b"\x00\r\n"
        assert [p.name for p in tmp_path.iterdir()] == ["a.json"]

    def test_what_an_earlier_crash_left_is_no_obstacle(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        path.write_text("old")
        (tmp_path / ".a.json.tmp").write_text("half of something much longer than the new one")
        write_atomically(path, "new")
        assert path.read_text() == "new"
        assert [p.name for p in tmp_path.iterdir()] == ["a.json"]

    @pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
    def test_no_room_leaves_the_old_file_and_no_rubbish(self, tmp_path: Path) -> None:
        path = tmp_path / "a.bin"
        path.write_bytes(b"old")
        program = (
            "import resource, signal, sys; from pathlib import Path\n"
            "from fromscratch.foundation.files import write_atomically\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
            "write_atomically(Path(sys.argv[1]), b'x' * 1_000_000)\n"
        )
        done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True)
        assert done.returncode == 1
        assert b"OSError" in done.stderr
        assert path.read_bytes() == b"old"
        assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]

    @pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
    def test_a_reader_sees_old_or_new_also_when_the_writer_is_killed(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        program = (
            "import sys; from pathlib import Path\n"
            "from fromscratch.foundation.files import write_atomically\n"
            "n = 0\n"
            "while True:\n"
            "    write_atomically(Path(sys.argv[1]), str(n % 10) * 200_000)\n"
            "    n += 1\n"
        )
        seen = set()
        for _ in range(3):
            writer = subprocess.Popen([sys.executable, "-c", program, str(path)])
            deadline = time.monotonic() + 20
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.005)
            for _ in range(40):
                content = path.read_text()
                assert len(content) == 200_000
                assert len(set(content)) == 1
                seen.add(content[0])
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            content = path.read_text()
            assert len(content) == 200_000
            assert len(set(content)) == 1
        assert len(seen) > 1

    def test_syncing_changes_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_bytes(b"content")
        fsync_file(path)
        files.fsync_folder(tmp_path)
        assert path.read_bytes() == b"content"


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


class TestJson:
    def test_numbers_that_json_does_not_have_become_words(self) -> None:
        row = {"loss": math.nan, "norm": [math.inf, -math.inf, 1.5], "tuple": (math.nan, 2)}
        expected = {"loss": "nan", "norm": ["inf", "-inf", 1.5], "tuple": ["nan", 2]}
        assert json.loads(dump_json(row)) == expected
        assert json.loads(dump_json({"loss": np.float64("nan")})) == {"loss": "nan"}
        assert float(finite_or_text(math.inf)) == math.inf

    @given(value=VALUES)
    def test_any_value_makes_json_that_can_be_written(self, value: object) -> None:
        text = dump_json(value)
        text.encode("utf-8")
        assert "\n" not in text

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is not JSON")

        assert json.loads(text, parse_constant=refuse) == finite_or_text(value)

    def test_names_that_are_not_utf8_can_be_written(self, tmp_path: Path) -> None:
        name = os.fsdecode(b"caf\xe9.txt")
        write_atomically(tmp_path / "a.json", dump_json({"file": name}))
        assert read_json(tmp_path / "a.json") == {"file": name}

    def test_text_stays_readable(self) -> None:
        assert dump_json("caf\u00e9") == '"caf\u00e9"'

    def test_files_that_cannot_be_read_are_the_users_business(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="does not exist"):
            read_json(tmp_path / "a.json")
        for content in (b"", b'{"a": 1', b"\xff\xfe"):
            (tmp_path / "a.json").write_bytes(content)
            with pytest.raises(UserError, match="not readable JSON"):
                read_json(tmp_path / "a.json")

    def test_half_written_lines_are_passed_over(self, tmp_path: Path) -> None:
        path = tmp_path / "metrics.jsonl"
        assert list(read_json_lines(path)) == []
        whole = [{"step": n, "text": "caf\u00e9"} for n in range(5)]
        content = "".join(dump_json(row) + "\n" for row in whole).encode()
        for cut in range(len(content) + 1):
            path.write_bytes(content[:cut])
            rows = list(read_json_lines(path))
            assert rows == whole[: len(rows)]
            assert len(rows) >= content[:cut].count(b"\n")
        path.write_bytes(b'[1]\n12\n\x00\xff\n\n{"step": 1}\nnull\n')
        assert list(read_json_lines(path)) == [{"step": 1}]


class TestNames:
    @given(step=st.integers(0, 10**12))
    def test_a_step_survives_its_folder(self, step: int) -> None:
        assert step_of_folder(step_folder(step)) == step

    def test_steps_are_numbers_and_not_text(self) -> None:
        names = [step_folder(n) for n in (9900, 10_000, 99_999_999, 100_000_000)]
        assert [step_of_folder(n) for n in names] == [9900, 10_000, 99_999_999, 100_000_000]

    @pytest.mark.parametrize(
        "name", ["step-", "step-12.tmp", "step-12.tmp-3", "xstep-1", "latest", "step--1", "step-1 "]
    )
    def test_other_names_are_no_steps(self, name: str) -> None:
        assert step_of_folder(name) is None

    def test_shards(self) -> None:
        assert shard_file("train", 7) == "train-00007.npy"


def test_sha256(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(content)
    assert sha256_of_file(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_free_space_of_a_place_that_is_not_there_yet(tmp_path: Path) -> None:
    here, there = free_bytes(tmp_path), free_bytes(tmp_path / "a" / "b" / "c")
    assert here > 0
    assert abs(here - there) < 1e9


class TestErrors:
    def test_one_sentence_and_its_fix(self) -> None:
        error = UserError("It is wrong.", fix="Mend it.")
        assert str(error) == "It is wrong. Mend it."
        assert (error.what, error.fix) == ("It is wrong.", "Mend it.")
        assert str(UserError("It is wrong.")) == "It is wrong."
        assert isinstance(error, ValueError)

    @pytest.mark.parametrize(
        ("typed", "meant"),
        [("n_layers", "n_layer"), ("drop_out", "dropout"), ("modren-124m", "modern-124m")],
    )
    def test_did_you_mean(self, typed: str, meant: str) -> None:
        known = ["n_layer", "n_head", "dropout", "modern-124m", "fgpt-662m"]
        assert did_you_mean(typed, known) == f' Did you mean "{meant}"?'
        assert did_you_mean(typed, known, prefix="model.") == f' Did you mean "model.{meant}"?'

    def test_nothing_close_is_no_suggestion(self) -> None:
        assert did_you_mean("zzz", ["n_layer", "dropout"]) == ""
        assert did_you_mean("x", []) == ""
