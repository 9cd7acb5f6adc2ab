"""JSON files into documents: good lines come out, bad ones are named, long ones are not held."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.data.compressed import BLOCK_BYTES, zstd
from fromscratch.data.documents import Document
from fromscratch.data.json_files import _values
from fromscratch.data.read_file import read_file
from fromscratch.data.reading import BadInput, Reading, SourceReport
from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.texts import encodable
from tests.data.peak_memory import PEAK

GOOD = '{"text": "good"}'


def read(path: Path, **changes: object) -> tuple[list[Document], SourceReport]:
    report = SourceReport()
    reading = Reading(**changes)  # type: ignore[arg-type]
    return list(read_file(path, "s", reading, report)), report


def lines_file(folder: Path, *lines: bytes | str) -> Path:
    path = folder / "x.jsonl"
    path.write_bytes(b"\n".join(x.encode() if isinstance(x, str) else x for x in lines) + b"\n")
    return path


# A bad second line -> what is said about it.
BAD_LINES: dict[str, tuple[bytes, str]] = {
    "not JSON": (b'{"text": "a" "b"}', "line 2, column 14: not JSON (Expecting ',' delimiter)"),
    "cut off": (b'{"text": "a', "line 2, column 10: not JSON (Unterminated string"),
    "a raw control character": (b'{"text": "a\x01"}', "line 2, column 12: not JSON (Invalid"),
    "not UTF-8": (b'{"text": "Stra\xdfe"}', "line 2, byte 31 of the file: not UTF-8"),
    "no such field": (b'{"body": "a", "n": 1}', 'line 2: has no field "text"; it has body, n'),
    "null": (b'{"text": null}', 'line 2: the field "text" is null, not text'),
    "a number": (b'{"text": 17}', 'line 2: the field "text" is a number, not text'),
    "a list": (b'{"text": ["a"]}', 'line 2: the field "text" is a list, not text'),
    "no object": (b'"text"', "line 2: is a string, not an object"),
    "instructions": (
        b'{"instruction": "Add.", "input": "", "output": "2"}',
        "render them with --render alpaca",
    ),
    "brackets without end": (b"[" * 200_000, "line 2: cannot be parsed"),
    "a number without end": (b'{"text": ' + b"9" * 5_000 + b"}", "line 2: cannot be parsed"),
    "too long": (b'{"text": "' + b"a" * 300_000 + b'"}', "line 2: has 300,01"),
}


class TestLines:
    @pytest.mark.parametrize("bad", BAD_LINES)
    def test_a_bad_line_is_named_and_costs_only_itself(self, tmp_path: Path, bad: str) -> None:
        line, message = BAD_LINES[bad]
        path = lines_file(tmp_path, GOOD, line, GOOD)
        with pytest.raises(UserError) as caught:
            read(path, max_document_bytes=250_000)
        assert str(caught.value).startswith(f"{path}, line 2")
        assert message in str(caught.value)
        assert "--on-bad skip" in str(caught.value)
        documents, report = read(path, max_document_bytes=250_000, on_bad="skip")
        assert [d.text for d in documents] == ["good", "good"]
        assert [d.id for d in documents] == [f"{path}#0", f"{path}#2"]
        assert report.n_skipped == 1

    def test_what_is_odd_but_not_bad(self, tmp_path: Path) -> None:
        path = lines_file(
            tmp_path,
            b"\xef\xbb\xbf" + GOOD.encode() + b"\r",
            "",
            '{"text": "one\u2028two\u0085three"}',  # line ends for some, not for JSON
            '{"text": "\\ud800 alone \\ud83d\\ude00"}',
            '{"text": "first", "text": "last", "id": 7}',
            '{"text": "", "id": "e"}',
            '{"text": "crlf\\r\\nkept", "url": "https://x"}',
        )
        documents, report = read(path)
        assert [(encodable(d.text), d.id) for d in documents] == [
            ("good", f"{path}#0"),
            ("one\u2028two\u0085three", f"{path}#2"),
            ("\ufffd alone \U0001f600", f"{path}#3"),
            ("last", "7"),
            ("crlf\r\nkept", "https://x"),
        ]
        assert report.skipped == [(f"{path}, line 6", "empty")]

    def test_the_field_may_be_another_or_inside_another(self, tmp_path: Path) -> None:
        path = lines_file(
            tmp_path, '{"meta": {"text": "inner"}, "b": "B"}', '{"meta.text": "literal", "b": "C"}'
        )
        assert [d.text for d in read(path, field="b")[0]] == ["B", "C"]
        assert [d.text for d in read(path, field="meta.text")[0]] == ["inner", "literal"]
        with pytest.raises(UserError, match=r'no field "meta\.body"'):
            read(path, field="meta.body")

    def test_the_list_of_what_was_skipped_is_bounded(self, tmp_path: Path) -> None:
        path = lines_file(tmp_path, *["not JSON"] * 3_000, GOOD)
        documents, report = read(path, on_bad="skip")
        assert len(documents) == 1
        assert report.n_skipped == 3_000
        assert len(report.skipped) == 1_000

    def test_utf16_is_said_once(self, tmp_path: Path) -> None:
        path = tmp_path / "x.jsonl"
        path.write_bytes("\n".join([GOOD] * 50).encode("utf-16"))
        with pytest.raises(UserError, match="line 1, byte 0 of the file: is UTF-16, not UTF-8"):
            read(path)
        assert read(path, on_bad="skip")[1].n_skipped == 1

    @pytest.mark.parametrize("suffix", ["gz", "zst"])
    def test_compressed_whole_and_cut_off(self, tmp_path: Path, suffix: str) -> None:
        lines = [json.dumps({"text": f"number {i * 7919 % 104729}"}) for i in range(30_000)]
        raw = "\n".join(lines).encode()
        packed = gzip.compress(raw) if suffix == "gz" else zstd.compress(raw)
        path = tmp_path / f"x.jsonl.{suffix}"
        path.write_bytes(packed)
        whole, _ = read(path)
        assert len(whole) == 30_000
        path.write_bytes(packed[: len(packed) // 2])
        with pytest.raises(UserError, match=r"line [\d]+: the .* file is cut off"):
            read(path)
        kept, report = read(path, on_bad="skip")
        assert [d.text for d in kept] == [d.text for d in whole[: len(kept)]]
        assert 6_000 < len(kept) < 24_000
        assert report.n_skipped == 1

    @pytest.mark.slow
    @pytest.mark.skipif(sys.platform == "win32", reason="measures memory by the resource module")
    @pytest.mark.parametrize("kind", ["line", "array", "text", "paragraph"])
    def test_three_hundred_megabytes_without_an_end_are_not_held(
        self, tmp_path: Path, kind: str
    ) -> None:
        suffix = {"line": "jsonl", "array": "json"}.get(kind, "txt")
        path = tmp_path / f"x.{suffix}.gz"
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(b"[" * (kind == "array") + b'{"text": "')
            for _ in range(300):
                file.write(b"a" * 1_000_000)
            file.write(b'"}\n' + GOOD.encode() + b"\n")
        code = """
import resource, sys
from pathlib import Path
from fromscratch.data.read_file import read_file
from fromscratch.data.reading import Reading, SourceReport
report = SourceReport()
before = peak()
reading = Reading(sys.argv[2], on_bad="skip")
texts = [d.text for d in read_file(Path(sys.argv[1]), "s", reading, report)]
grown = peak() - before
print(len(texts), report.n_skipped, grown // 1024, report.skipped[0][1])
"""
        documents = "paragraph" if kind == "paragraph" else "file"
        done = subprocess.run(
            [sys.executable, "-c", PEAK + code, str(path), documents],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        n_documents, n_skipped, megabytes, reason = done.stdout.split(" ", 3)
        assert (n_documents, n_skipped) == ("1" if kind == "line" else "0", "1"), done.stdout
        assert int(megabytes) < 220, done.stdout
        assert "more" in reason or "longer" in reason


class TestArrays:
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    )

    @given(st.lists(values, max_size=5), st.sampled_from([1, 2, 5, 10**6]), st.booleans())
    def test_values_are_those_of_the_whole_text_whatever_the_blocks(
        self, values: list[object], size: int, pretty: bool
    ) -> None:
        text = json.dumps(values, indent=2 if pretty else None)
        blocks = (text[i : i + size] for i in range(0, len(text), size))
        assert list(_values(blocks, 10**9)) == values

    @given(st.lists(values, max_size=4), st.data())
    def test_a_text_cut_off_anywhere_is_bad(self, values: list[object], data: st.DataObject):
        text = json.dumps(values)
        cut = data.draw(st.integers(1, len(text) - 1))
        with pytest.raises(BadInput):
            list(_values(iter([text[:cut]]), 10**9))

    def test_real_instructions(self, shared_data: Path) -> None:
        path = shared_data / "instructions" / "instruction_data_1100.json"
        documents, _ = read(path, render="alpaca")
        rows = json.loads(path.read_text())
        assert len(documents) == len(rows) == 1_100
        for row, document in zip(rows, documents, strict=True):
            assert f"### Instruction:\n{row['instruction']}" in document.text
            assert document.text.endswith(f"\n\n### Response:\n{row['output']}")
            assert (f"### Input:\n{row['input']}" in document.text) == bool(row["input"])
        with pytest.raises(UserError, match=r"record 1: has no field .*--render alpaca"):
            read(path)

    def test_a_bad_place_ends_it(self, tmp_path: Path) -> None:
        path = tmp_path / "x.json"
        rest = ", " + GOOD + " " * 3 * BLOCK_BYTES + "]"
        path.write_text(f'[{GOOD}, {{"text": "a" "b"}}{rest}')
        with pytest.raises(UserError, match="record 2, character 32: not JSON"):
            read(path)
        path.write_text(f"[{GOOD}, {GOOD}, 17, {GOOD}")
        with pytest.raises(UserError, match="record 3: is a number, not an object"):
            read(path)
        documents, report = read(path, on_bad="skip")
        assert len(documents) == 3
        assert report.skipped[1] == (f"{path}, character 57, after record 4", "is cut off")
        path.write_text(f"[{GOOD}] and more")
        with pytest.raises(UserError, match="character 19: goes on after the array's end"):
            read(path)

    @pytest.mark.parametrize("content", ["", " \n ", "\ufeff"])
    def test_an_empty_file(self, tmp_path: Path, content: str) -> None:
        for name in ("x.json", "x.jsonl"):
            (tmp_path / name).write_text(content, encoding="utf-8")
            documents, report = read(tmp_path / name)
            assert documents == []
            assert report.skipped == [(str(tmp_path / name), "empty")]

    def test_an_empty_array(self, tmp_path: Path) -> None:
        (tmp_path / "x.json").write_text("[ ]")
        assert read(tmp_path / "x.json")[0] == []

    def test_one_object_over_several_lines_is_no_record(self, tmp_path: Path) -> None:
        path = tmp_path / "x.json"
        path.write_text(json.dumps({"text": "good", "n": 1}, indent=2))
        with pytest.raises(UserError, match="line 1, column 2: not JSON"):
            read(path)
