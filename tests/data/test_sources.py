"""Which files become documents, in which order, and what is said about the others."""

from __future__ import annotations

import gzip
import io
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.data.compressed import zstd
from fromscratch.data.documents import Document, fitting_val_fraction, split_of
from fromscratch.data.folder import spool
from fromscratch.data.reading import Reading
from fromscratch.data.sources import (
    EMBEDDED,
    Source,
    SourceReport,
    name_for,
    parse_sources,
)
from fromscratch.foundation.errors import UserError

SKIP = Reading(on_bad="skip")


def read(spec: str | Path, reading: Reading = SKIP) -> tuple[list[Document], SourceReport]:
    report = SourceReport()
    return list(Source("s", str(spec), reading).documents(report)), report


def reasons(report: SourceReport) -> dict[str, str]:
    return {Path(path).name: reason for path, reason in report.skipped}


class TestFiles:
    def test_what_is_not_text_is_skipped_counted_and_named(self, tmp_path: Path) -> None:
        (tmp_path / "good.txt").write_text("Good.", encoding="utf-8")
        (tmp_path / "latin1.txt").write_bytes("Stra\xdfe".encode("latin-1"))
        (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00")
        (tmp_path / "utf16.txt").write_bytes("Text".encode("utf-16"))
        (tmp_path / "empty.txt").write_bytes(b"")
        (tmp_path / "blank.txt").write_text(" \n\t\n")
        (tmp_path / "only-bom.txt").write_bytes(b"\xef\xbb\xbf")
        documents, report = read(tmp_path)
        assert [d.text for d in documents] == ["Good."]
        assert report.files == 1
        assert reasons(report) == {
            "blank.txt": "empty",
            "empty.txt": "empty",
            "latin1.txt, byte 4": "not UTF-8",
            "only-bom.txt": "empty",
            "picture.png": "binary",
            "utf16.txt, byte 0": "is UTF-16, not UTF-8",
        }

    @pytest.mark.skipif(sys.platform != "linux", reason="needs a file that nobody can read")
    def test_a_file_that_cannot_be_read_is_skipped_with_the_systems_reason(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "good.txt").write_text("Good.")
        (tmp_path / "unreadable.txt").symlink_to("/proc/self/mem")  # also for root
        documents, report = read(tmp_path)
        assert len(documents) == 1
        assert reasons(report) == {"unreadable.txt": f"cannot be read ({os.strerror(5)})"}
        with pytest.raises(UserError, match=r"unreadable\.txt: cannot be read .*--on-bad skip"):
            read(tmp_path, Reading())

    def test_line_ends_and_byte_order_marks(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n\xef\xbb\xbffour")
        documents, _ = read(tmp_path)
        assert documents[0].text == "one\ntwo\rthree\n\ufefffour"

    def test_folders_are_read_in_order_of_their_paths_without_what_is_hidden(
        self, tmp_path: Path
    ) -> None:
        for name in ("b/2.txt", "b/10.txt", "a.txt", "B.txt", "c.txt", ".git/x.txt", ".hidden"):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(name)
        documents, _ = read(tmp_path)
        assert [d.text for d in documents] == ["B.txt", "a.txt", "b/10.txt", "b/2.txt", "c.txt"]
        assert [d.text for d in read(tmp_path / "**/*.txt")[0]] == [d.text for d in documents]

    def test_the_order_of_creation_does_not_matter(self, tmp_path: Path) -> None:
        names = [f"{i}.txt" for i in range(30)]
        for folder, order in (("x", names), ("y", names[::-1])):
            (tmp_path / folder).mkdir()
            for name in order:
                (tmp_path / folder / name).write_text(name)
        texts = [[d.text for d in read(tmp_path / folder)[0]] for folder in ("x", "y")]
        assert texts[0] == texts[1] == sorted(names)

    def test_what_is_not_text_stops_unless_it_is_plainly_something_else(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "good.txt").write_text("Good.", encoding="utf-8")
        (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00")
        (tmp_path / "empty.txt").write_bytes(b"")
        documents, report = read(tmp_path, Reading())
        assert len(documents) == 1
        assert report.n_skipped == 2
        with pytest.raises(UserError, match=r"picture\.png: is binary"):
            read(tmp_path / "picture.png", Reading())
        (tmp_path / "utf16.txt").write_bytes("Text".encode("utf-16"))
        with pytest.raises(UserError, match=r"utf16\.txt, byte 0: is UTF-16.*iconv -f UTF-16"):
            read(tmp_path, Reading())

    @pytest.mark.skipif(sys.platform == "win32", reason="needs links")
    def test_a_link_that_leads_back_up_is_followed_nowhere(self, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        for name in ("a.txt", "sub/b.txt"):
            (tmp_path / name).write_text(name)
        (tmp_path / "sub/loop").symlink_to(tmp_path, target_is_directory=True)
        (tmp_path / "sub/itself.txt").symlink_to("itself.txt")
        for spec in (tmp_path, tmp_path / "**", tmp_path / "**/*.txt"):
            assert [d.text for d in read(spec, Reading())[0]] == ["a.txt", "sub/b.txt"]

    def test_a_file_that_is_gone_when_its_turn_comes(self, tmp_path: Path) -> None:
        for name in ("a.txt", "b.txt"):
            (tmp_path / name).write_text(name)
        for reading in (SKIP, Reading()):
            source = Source("s", str(tmp_path), reading)
            portions = source.portions()
            (tmp_path / "b.txt").unlink()
            report = SourceReport()
            if reading is SKIP:
                found = [d.text for p in portions for d in source.read(p, report)]
                assert found == ["a.txt"]
                assert "No such file" in reasons(report)["b.txt"]
                (tmp_path / "b.txt").write_text("b.txt")
            else:
                with pytest.raises(UserError, match=r"b\.txt: cannot be read \(No such file"):
                    [d for p in portions for d in source.read(p, report)]

    def test_a_folder_may_hold_files_of_every_kind(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("text")
        (tmp_path / "b.jsonl").write_text('{"text": "line"}\n')
        (tmp_path / "c.json.gz").write_bytes(gzip.compress(b'{"text": "c4"}\n'))
        (tmp_path / "d.json").write_text('[{"text": "array"}]')
        (tmp_path / "e.txt.zst").write_bytes(zstd.compress(b"packed"))
        (tmp_path / "f.parquet").mkdir()
        pq.write_table(pa.table({"text": ["row"]}), tmp_path / "f.parquet/part-0.parquet")
        np.save(tmp_path / "g.npy", np.zeros(300, np.uint16))
        (tmp_path / "settings.json").write_text('{\n  "text": "no record"\n}\n')
        documents, report = read(tmp_path, Reading())
        assert [d.text for d in documents] == [
            "text", "line", "c4", "array", "packed", "row", '{\n  "text": "no record"\n}\n',
        ]  # fmt: skip
        assert reasons(report) == {"g.npy": "binary"}
        assert Source("s", str(tmp_path)).count(100) == 7
        assert Source("s", str(tmp_path)).count(3) == 3
        assert not Source("s", str(tmp_path)).tokenised
        assert Source("s", str(tmp_path / "*.npy")).tokenised
        (tmp_path / "only").mkdir()
        (tmp_path / "only/x.bin").write_bytes(b"ab")
        assert Source("s", str(tmp_path / "only")).tokenised

    def test_a_name_with_wildcards_in_it_is_a_file_first(self, tmp_path: Path) -> None:
        (tmp_path / "notes[1].txt").write_text("bracketed")
        (tmp_path / "notes1.txt").write_text("plain")
        assert [d.text for d in read(tmp_path / "notes[1].txt")[0]] == ["bracketed"]

    @pytest.mark.parametrize(("spec", "why"), [("nowhere", "does not exist"), ("*.txt", "no file")])
    def test_nothing_there_is_an_error_that_says_so(
        self, tmp_path: Path, spec: str, why: str
    ) -> None:
        with pytest.raises(UserError, match=why):
            read(tmp_path / spec)

    def test_what_this_program_wrote_is_not_its_next_text(self, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").write_text("mine")
        prepared, unfinished, run = (tmp_path / n for n in ("prepared", "unfinished", "run"))
        for folder in (prepared, unfinished, run, run / "checkpoints"):
            folder.mkdir()
        (prepared / "manifest.json").write_text('{"tokenizer_fingerprint": "x"}')
        (prepared / "tokenizer.json").write_text("{}")
        (unfinished / "INCOMPLETE").write_text("fromscratch prepare x --out unfinished\n")
        for name in ("recipe.toml", "events.jsonl", "metrics.jsonl", "checkpoints/config.json"):
            (run / name).write_text("not for training")
        assert [d.text for d in read(tmp_path)[0]] == ["mine"]

    def test_the_stamp_follows_the_files_and_not_the_clock(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_text("one")
        source = Source("s", str(tmp_path))
        first = source.stamp()
        assert source.stamp() == first
        path.write_text("other")
        second = source.stamp()
        assert second != first
        (tmp_path / "b.txt").write_text("more")
        assert source.stamp() not in (first, second)

    def test_a_listed_source_has_the_files_it_was_found_with(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("text")
        source = Source("s", str(tmp_path))
        listed = source.listed()
        stamp, portions = listed.stamp(), listed.portions()
        assert (stamp, portions) == (source.stamp(), source.portions())
        (tmp_path / "b.txt").write_text("more")
        assert (listed.stamp(), listed.portions()) == (stamp, portions)
        assert len(source.portions()) == 2
        (tmp_path / "a.txt").write_text("changed")  # which it does see
        assert listed.stamp() != stamp


class TestNames:
    def test_a_source_is_named_after_its_file_or_as_it_is_told(self, tmp_path: Path) -> None:
        specs = ["/x/tiny.txt", "code=/y/*.py", "tiny-text=/z", "my notes=/w", EMBEDDED]
        specs += ["stdlib:asyncio", "-"]
        assert [(s.name, s.spec) for s in parse_sources(specs)] == [
            ("tiny", "/x/tiny.txt"),
            ("code", "/y/*.py"),
            ("tiny-text", "/z"),
            ("my notes", "/w"),
            (EMBEDDED, EMBEDDED),
            ("asyncio", "stdlib:asyncio"),
            ("stdin", "-"),
        ]

    def test_an_equals_sign_in_a_path_is_part_of_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("year=2024").mkdir()
        assert parse_sources(["year=2024", "/x/year=2024/a.txt"])[0].spec == "year=2024"
        assert parse_sources(["/x/year=2024/a.txt"])[0].spec == "/x/year=2024/a.txt"

    def test_two_of_one_name_are_refused(self) -> None:
        with pytest.raises(UserError, match='called "a"'):
            parse_sources(["/x/a.txt", "/y/a.txt"])

    def test_standard_input_is_one_source(self) -> None:
        with pytest.raises(UserError, match="one source only"):
            parse_sources(["-", "b=-.jsonl"])

    def test_a_template_that_does_not_exist_is_refused_before_anything_is_read(self) -> None:
        with pytest.raises(UserError, match=r'template "alpca".*Did you mean "alpaca"'):
            parse_sources(["/x"], Reading(render="alpca"))

    @pytest.mark.parametrize("spec", ["/", ".", "..", "*", "/*"])
    def test_there_is_always_a_name(self, spec: str) -> None:
        assert name_for(spec)


class TestSplit:
    @given(text=st.text(), seed=st.integers(-(2**63), 2**63), fraction=st.floats(0, 1))
    def test_a_function_of_content_alone(self, text: str, seed: int, fraction: float) -> None:
        side = split_of(text, val_fraction=fraction, seed=seed)
        assert side == split_of("".join(text), val_fraction=fraction, seed=seed)
        assert fraction > 0 or side == "train"
        # A document that is held out stays so when more is held out.
        if side == "val":
            assert split_of(text, val_fraction=min(1.0, fraction * 2), seed=seed) == "val"

    def test_the_share_is_right_and_spread_over_the_corpus(self) -> None:
        sides = [split_of(f"document {i}", val_fraction=0.1, seed=0) for i in range(20_000)]
        for start in range(0, 20_000, 5_000):
            assert 0.08 < sides[start : start + 5_000].count("val") / 5_000 < 0.12

    def test_seeds_choose_other_documents(self) -> None:
        def held_out(seed: int) -> frozenset[int]:
            return frozenset(
                i for i in range(500) if split_of(str(i), val_fraction=0.1, seed=seed) == "val"
            )

        assert len({held_out(seed) for seed in range(20)}) == 20


class TestEmbedded:
    def test_the_standard_library_is_there_in_a_fixed_order(self) -> None:
        report = SourceReport()
        documents = list(Source("stdlib", EMBEDDED).documents(report))
        ids = [d.id for d in documents]
        assert len(ids) == len(set(ids)) > 500
        assert "argparse.py" in ids
        assert "help/if" in ids
        assert not any("site-packages" in i or i.startswith("test/") for i in ids)
        files = [i for i in ids if i.endswith(".py")]
        assert files == sorted(files)
        assert sum(len(d.text) for d in documents) > 5_000_000
        assert documents == list(Source("stdlib", EMBEDDED).documents(SourceReport()))

    def test_its_parts_are_parts_of_it(self) -> None:
        every = [d.text for d in Source("s", EMBEDDED).documents(SourceReport())]
        for part, first in (("help", "help/assert"), ("asyncio", "asyncio/__init__.py")):
            documents = list(Source("s", f"{EMBEDDED}:{part}").documents(SourceReport()))
            assert documents[0].id == first
            assert len(documents) > 20
            assert all(d.id.startswith(f"{part}/") for d in documents)
            assert {d.text for d in documents} <= set(every)
        only = list(Source("s", f"{EMBEDDED}:argparse").documents(SourceReport()))
        assert [d.id for d in only] == ["argparse.py"]

    def test_a_part_that_does_not_exist_is_refused_with_the_nearest(self) -> None:
        with pytest.raises(UserError, match=r'"asynco".*Did you mean "stdlib:asyncio"'):
            Source("s", f"{EMBEDDED}:asynco").portions()

    def test_passages_of_it_joined_are_the_files(self) -> None:
        whole = Source("s", "stdlib:asyncio")
        cut = Source("s", "stdlib:asyncio", Reading("passage"))
        texts = ["".join(d.text for d in s.documents(SourceReport())) for s in (whole, cut)]
        assert texts[0] == texts[1]


class TestStandardInput:
    def test_what_was_spooled_is_read_as_often_as_wanted(self, tmp_path: Path) -> None:
        place = spool(io.BytesIO(b"One text.\n"), tmp_path / "spool")
        source = Source("stdin", "-", spooled=place)
        assert source.is_standard_input
        for _ in range(2):
            documents = list(source.documents(SourceReport()))
            assert [(d.text, d.id) for d in documents] == [("One text.\n", "-")]
        assert [p.name for p in tmp_path.iterdir()] == ["spool"]

    def test_its_kind_is_said_as_a_suffix(self, tmp_path: Path) -> None:
        lines = gzip.compress(b'{"text": "one"}\n{"text": "two"}\n')
        place = spool(io.BytesIO(lines), tmp_path / "spool")
        (source,) = parse_sources(["chat=-.jsonl.gz"])
        found = replace(source, spooled=place).documents(SourceReport())
        assert [(d.text, d.id) for d in found] == [("one", "-.jsonl.gz#0"), ("two", "-.jsonl.gz#1")]

    def test_it_cannot_be_read_where_nobody_spools_it(self) -> None:
        with pytest.raises(UserError, match=r"only once.*fromscratch prepare -"):
            Source("stdin", "-").portions()

    def test_a_stream_that_breaks_off_leaves_nothing(self, tmp_path: Path) -> None:
        class Broken(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                if self.tell():
                    raise OSError("gone")
                return super().read(5)

        (tmp_path / "spool").write_bytes(b"older")
        with pytest.raises(OSError, match="gone"):
            spool(Broken(b"0123456789"), tmp_path / "spool")
        assert [p.name for p in tmp_path.iterdir()] == ["spool"]
        assert (tmp_path / "spool").read_bytes() == b"older"


@given(st.lists(st.text(min_size=1), min_size=2, max_size=40, unique=True), st.integers(0, 5))
def test_the_default_share_holds_something_out_and_leaves_something(texts: list[str], seed: int):
    fraction = fitting_val_fraction(texts, least=0.01, seed=seed)
    assert fraction is not None
    sides = [split_of(text, val_fraction=fraction, seed=seed) for text in texts]
    assert 1 <= sides.count("val") < len(texts)


def test_one_text_however_often_cannot_be_parted():
    assert fitting_val_fraction(["same"] * 9, least=0.01, seed=0) is None
