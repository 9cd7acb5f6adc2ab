"""Parquet files into documents: FineWeb's columns, parts that make the whole, and damage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fromscratch.data import parquet
from fromscratch.data.documents import Document
from fromscratch.data.reading import Reading, SourceReport
from fromscratch.data.sources import Source
from fromscratch.foundation.errors import UserError
from tests.data.peak_memory import PEAK


def write(path: Path, rows: int = 10, *, row_group_size: int = 4, **columns: Any) -> Path:
    table = {"text": [f"text {i}" for i in range(rows)]} | columns
    pq.write_table(pa.table(table), path, row_group_size=row_group_size)
    return path


def read(path: Path, **changes: object) -> tuple[list[Document], SourceReport]:
    report = SourceReport()
    source = Source("s", str(path), Reading(**changes))  # type: ignore[arg-type]
    return list(source.documents(report)), report


class TestRows:
    def test_real_files_in_finewebs_columns(self, shared_data: Path) -> None:
        documents, report = read(shared_data / "pep")
        tables = [pq.read_table(p) for p in sorted((shared_data / "pep").glob("*.parquet"))]
        table = pa.concat_tables(tables)
        assert [d.text for d in documents] == table["text"].to_pylist()
        assert [d.id for d in documents] == table["id"].to_pylist()
        assert len(documents) == 736
        assert report.files == len(tables)
        assert report.n_skipped == 0

    @pytest.mark.parametrize(
        ("columns", "first"),
        [
            ({"id": ["a", "b"], "url": ["u", "v"]}, "a"),
            ({"id": [None, "b"], "url": ["u", "v"]}, "u"),
            ({"file_path": ["f", "g"]}, "f"),
            ({"id": [7, 8]}, "7"),
            ({"n": [1, 2]}, None),
        ],
    )
    def test_what_a_row_is_called(
        self, tmp_path: Path, columns: dict[str, Any], first: str | None
    ) -> None:
        path = write(tmp_path / "x.parquet", 2, **columns)
        documents, _ = read(path)
        assert documents[0].id == (first or f"{path}#0")

    def test_portions_of_row_groups_together_are_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(tmp_path / "x.parquet", 1_000, row_group_size=30)
        whole, _ = read(path)
        assert [d.id for d in whole] == [f"{path}#{i}" for i in range(1_000)]
        monkeypatch.setattr(parquet, "_STRETCH_BYTES", 1_000)
        source = Source("s", str(path))
        portions = source.portions()
        assert len(portions) > 5
        assert len({p.id for p in portions}) == len(portions)
        # Each for itself, and in any order.
        parts = {p.id: list(source.read(p, SourceReport())) for p in reversed(portions)}
        assert [d for p in portions for d in parts[p.id]] == whole

    def test_other_columns_and_inner_fields(self, tmp_path: Path) -> None:
        inner = [{"text": f"inner {i}", "n": i} for i in range(10)]
        path = write(tmp_path / "x.parquet", body=[f"body {i}" for i in range(10)], meta=inner)
        assert read(path, field="body")[0][3].text == "body 3"
        assert read(path, field="meta.text")[0][3].text == "inner 3"
        with pytest.raises(UserError, match=r'no field "txt"; it has text, body, meta.*--field'):
            read(path, field="txt")
        for absent in ("meta.body", "text.body", "meta.n.x"):
            with pytest.raises(UserError, match=f'no field "{absent}"'):
                read(path, field=absent)

    def test_conversations_are_rendered(self, tmp_path: Path) -> None:
        path = tmp_path / "x.parquet"
        turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
        pq.write_table(pa.table({"messages": [turns], "text": ["other"], "id": ["c1"]}), path)
        documents, _ = read(path, render="alpaca")
        assert documents[0].id == "c1"
        assert documents[0].text.endswith("### Instruction:\nHi\n\n### Response:\nHello.")

    def test_instructions_without_text_suggest_to_render_them(self, tmp_path: Path) -> None:
        path = tmp_path / "x.parquet"
        pq.write_table(pa.table({"instruction": ["Add."], "output": ["2"]}), path)
        with pytest.raises(UserError, match="--render alpaca"):
            read(path)
        assert len(read(path, render="alpaca")[0]) == 1
        write(tmp_path / "y.parquet")
        with pytest.raises(UserError, match="no columns of a conversation; it has text"):
            read(tmp_path / "y.parquet", render="alpaca")


class TestBad:
    def test_a_row_without_text_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "x.parquet"
        pq.write_table(pa.table({"text": ["a", "", None, "d"]}), path, row_group_size=2)
        with pytest.raises(UserError, match=r"x\.parquet, row 3: .*is null, not text"):
            read(path)
        documents, report = read(path, on_bad="skip")
        assert [d.text for d in documents] == ["a", "d"]
        assert [place.rpartition(", ")[2] for place, _ in report.skipped] == ["row 2", "row 3"]
        pq.write_table(pa.table({"text": [1, 2]}), path)
        with pytest.raises(UserError, match=r'row 1: the field "text" is a number'):
            read(path)

    def test_text_that_is_not_utf8_costs_its_row(self, tmp_path: Path) -> None:
        path = tmp_path / "x.parquet"
        texts = pa.array([b"a", b"Stra\xdfe", b"c"])
        pq.write_table(pa.table({"text": texts.view(pa.string())}), path)
        with pytest.raises(UserError, match=r"x\.parquet, row 2: not UTF-8"):
            read(path)
        assert [d.text for d in read(path, on_bad="skip")[0]] == ["a", "c"]
        pq.write_table(pa.table({"text": texts}), path)
        with pytest.raises(UserError, match='row 1: the field "text" is bytes, not text'):
            read(path)

    def test_a_file_without_the_column_is_said_once(self, tmp_path: Path) -> None:
        write(tmp_path / "a.parquet", 100, row_group_size=5)
        documents, report = read(tmp_path / "a.parquet", field="body", on_bad="skip")
        assert documents == []
        assert report.n_skipped == 1

    @pytest.mark.parametrize("damage", ["text", "cut", "tail", "empty", "no rows"])
    def test_what_is_no_parquet(self, tmp_path: Path, damage: str) -> None:
        path = write(tmp_path / "x.parquet", 1_000)
        raw = path.read_bytes()
        if damage == "no rows":
            write(path, 0)
        else:
            content = {"text": b"plain text", "cut": raw[:-300], "tail": raw[300:], "empty": b""}
            path.write_bytes(content[damage])
        write(tmp_path / "y.parquet")
        if damage in ("empty", "no rows"):
            documents, report = read(tmp_path)
            assert report.skipped == [(str(path), "empty")]
        else:
            with pytest.raises(UserError, match=r"x\.parquet.*damaged, or not a Parquet file"):
                read(tmp_path)
            documents, report = read(tmp_path, on_bad="skip")
            assert report.n_skipped == 1
        assert len(documents) == 10

    def test_damage_inside_keeps_what_came_before_and_other_portions(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "x.parquet"
        texts = [f"{i * 7919 % 99_991} and so on" * 3 for i in range(20_000)]
        pq.write_table(pa.table({"text": texts}), path, row_group_size=5_000, use_dictionary=False)
        chunk = pq.ParquetFile(path).metadata.row_group(2).column(0)
        raw = bytearray(path.read_bytes())
        middle = chunk.data_page_offset + chunk.total_compressed_size // 2
        raw[middle : middle + 5_000] = bytes(5_000)
        path.write_bytes(raw)
        monkeypatch.setattr(parquet, "_STRETCH_BYTES", 1)
        with pytest.raises(UserError, match=r"row \d+ or soon after: damaged"):
            read(path)
        documents, report = read(path, on_bad="skip")
        assert report.n_skipped == 1
        found = [d.text for d in documents]
        assert found[:10_000] == texts[:10_000]
        assert found[-5_000:] == texts[15_000:]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="measures memory by the resource module")
def test_one_huge_row_group_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    schema = pa.schema([("text", pa.string()), ("junk", pa.string())])
    batch = pa.table({"text": ["word " * 1_000] * 200, "junk": ["x" * 5_000] * 200}, schema=schema)
    whole = pa.concat_tables([batch] * 300)
    pq.write_table(whole, path, row_group_size=60_000, use_dictionary=False)
    code = """
import resource, sys
from fromscratch.data.sources import Source, SourceReport
source = Source("s", sys.argv[1])
first = next(source.documents(SourceReport()))
before = peak()
size = sum(len(d.text) for d in source.documents(SourceReport()))
print(size, (peak() - before) // 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", PEAK + code, str(path)], capture_output=True, text=True, check=True
    )
    size, megabytes = map(int, done.stdout.split())
    assert size == 300_000_000
    assert megabytes < 60
