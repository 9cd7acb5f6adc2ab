"""Text files into documents: nothing changed, nothing held that need not be, nothing bad unsaid."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.data.compressed import BLOCK_BYTES, zstd
from fromscratch.data.cutting import cut_into_paragraphs, cut_into_passages
from fromscratch.data.documents import Document
from fromscratch.data.read_file import read_file
from fromscratch.data.reading import BadInput, Documents, Reading, SourceReport
from fromscratch.foundation.errors import UserError

NO_LIMIT = 10**9


def read(path: Path, documents: Documents = "file", **changes: object) -> list[Document]:
    reading = Reading(documents, **changes)  # type: ignore[arg-type]
    return list(read_file(path, "s", reading, SourceReport()))


def in_blocks(text: str, size: int) -> Iterator[str]:
    return (text[i : i + size] for i in range(0, len(text), size))


def passages_of_whole(text: str) -> Iterator[str]:
    """The reference: the same cuts, made on the whole text at once."""
    start, last = 0, len(text.rstrip())
    while start < len(text):
        end = len(text)
        if end - start > 4_000:
            end = start + 4_000
            limit = min(len(text), end + 4_000)
            for line_ends in (r"\n\n+", r"\n+"):
                if match := re.compile(line_ends).search(text, end, limit):
                    end = match.end()
                    break
        if end >= last:
            end = len(text)
        yield text[start:end]
        start = end


def paragraphs_of_whole(text: str) -> list[str]:
    """The reference: split at runs of blank lines."""
    pieces = re.split(r"(?:^|\n)(?:[^\S\n]*(?:\n|$))+", text)
    return [p for p in pieces if p.strip()]


class TestPassages:
    @given(
        text=st.text(alphabet=st.sampled_from("ab \n"), max_size=300),
        repeat=st.sampled_from([1, 7, 60, 200]),
        block=st.sampled_from([1, 3_000, 4_001, 9_999, NO_LIMIT]),
    )
    def test_they_are_those_of_the_whole_text_whatever_the_blocks(
        self, text: str, repeat: int, block: int
    ) -> None:
        whole = text * repeat
        block = max(block, len(whole) // 50)  # a block a character takes a while
        cut = list(cut_into_passages(in_blocks(whole, block), NO_LIMIT))
        assert cut == list(passages_of_whole(whole))
        assert "".join(cut) == whole
        assert max(map(len, cut), default=0) <= 8_000 + len(whole) - len(whole.rstrip())

    @given(tail=st.integers(0, 9_000), block=st.sampled_from([700, 5_000, NO_LIMIT]))
    def test_blank_space_at_the_end_is_no_passage_of_its_own(self, tail: int, block: int) -> None:
        text = "x" * 3_990 + "\n\n" + " " * tail
        assert list(cut_into_passages(in_blocks(text, block), NO_LIMIT)) == [text]

    def test_real_text_is_cut_at_blank_lines(self, shakespeare: str) -> None:
        cut = list(cut_into_passages(in_blocks(shakespeare, 10_000), NO_LIMIT))
        assert cut == list(passages_of_whole(shakespeare))
        assert "".join(cut) == shakespeare
        assert len(cut) > 250
        assert all(p.endswith("\n\n") for p in cut[:-1])
        assert all(4_000 <= len(p) <= 8_000 for p in cut[:-1])

    def test_text_without_lines_is_cut_where_wanted(self) -> None:
        cut = [len(p) for p in cut_into_passages(in_blocks("x" * 10_000, 1_000), NO_LIMIT)]
        assert cut == [4_000, 4_000, 2_000]

    def test_endless_white_space_is_not_collected(self) -> None:
        def endless() -> Iterator[str]:
            while True:
                yield " " * 10_000

        with pytest.raises(BadInput, match="100,000 characters of white space"):
            list(cut_into_passages(endless(), 100_000))


class TestParagraphs:
    @given(
        text=st.text(alphabet=st.sampled_from("ab \n\t"), max_size=60),
        block=st.sampled_from([1, 2, 7, NO_LIMIT]),
    )
    def test_they_are_what_stands_between_blank_lines(self, text: str, block: int) -> None:
        cut = list(cut_into_paragraphs(in_blocks(text, block), NO_LIMIT))
        assert cut == paragraphs_of_whole(text)

    def test_the_speeches_of_tiny_shakespeare(self, shakespeare: str) -> None:
        cut = list(cut_into_paragraphs(in_blocks(shakespeare, 1_000), NO_LIMIT))
        assert cut == [p.strip("\n") for p in shakespeare.split("\n\n")]
        assert len(cut) == 7_222
        assert cut[0].startswith("First Citizen:\nBefore we proceed")

    def test_text_without_blank_lines_is_not_collected(self) -> None:
        def endless() -> Iterator[str]:
            while True:
                yield "a line\n" * 1_000

        with pytest.raises(BadInput, match="paragraph of more than 100,000 characters"):
            list(cut_into_paragraphs(endless(), 100_000))


class TestDecoding:
    @given(
        text=st.text(alphabet=st.sampled_from("a\r\né\U0001f600\ufeff "), max_size=40),
        before=st.integers(0, 3),
    )
    def test_blocks_that_end_inside_characters_and_line_ends(
        self, tmp_path_factory: pytest.TempPathFactory, text: str, before: int
    ) -> None:
        path = tmp_path_factory.mktemp("t") / "x.txt"
        # The text stands across the border of the first block.
        whole = "x" * (BLOCK_BYTES - before) + text + "y"
        path.write_bytes(whole.encode())
        assert read(path)[0].text == whole.replace("\r\n", "\n")
        assert "".join(d.text for d in read(path, "passage")) == whole.replace("\r\n", "\n")

    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
    @pytest.mark.parametrize("at", [0, 5, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 7])
    def test_the_place_of_a_byte_that_is_not_utf8(
        self, tmp_path: Path, mark: bytes, at: int
    ) -> None:
        path = tmp_path / "x.txt"
        path.write_bytes(mark + b"a" * at + b"\xdf\xdf rest")
        place = len(mark) + at
        for documents in ("file", "passage", "paragraph"):
            with pytest.raises(UserError, match=rf"x\.txt, byte {place}: not UTF-8.*--on-bad skip"):
                read(path, documents)  # type: ignore[arg-type]

    def test_a_character_cut_off_at_the_end(self, tmp_path: Path) -> None:
        path = tmp_path / "x.txt"
        path.write_bytes(b"abc" + "é".encode()[:1])
        with pytest.raises(UserError, match="byte 3: not UTF-8"):
            read(path)


class TestBounds:
    def test_a_file_too_long_for_one_document_says_to_cut_it(self, tmp_path: Path) -> None:
        path = tmp_path / "x.txt"
        path.write_text("many words\n" * 1_000)
        with pytest.raises(UserError, match=r"longer than one document.*--documents passage"):
            read(path, max_document_bytes=10_000)
        assert len(read(path, max_document_bytes=11_000)) == 1
        assert len(read(path, "passage", max_document_bytes=10_000)) == 3

    def test_what_was_sound_before_a_bad_place_is_kept_of_passages(self, tmp_path: Path) -> None:
        path = tmp_path / "x.txt"
        path.write_bytes(b"line\n" * 1_000_000 + b"\xff")
        report = SourceReport()
        reading = Reading("passage", on_bad="skip")
        documents = list(read_file(path, "s", reading, report))
        assert 4_000_000 < sum(len(d.text) for d in documents) < 5_000_000
        assert report.skipped == [(f"{path}, byte 5000000", "not UTF-8")]


COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "zst": zstd.compress}


@pytest.mark.parametrize("suffix", COMPRESS)
class TestCompressed:
    def test_several_parts_in_one_file_are_one_text(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"x.txt.{suffix}"
        path.write_bytes(COMPRESS[suffix](b"one\r") + COMPRESS[suffix](b"\ntwo"))
        assert [d.text for d in read(path)] == ["one\ntwo"]

    @pytest.mark.parametrize("cut", [1, 5, 1_000])
    def test_a_file_cut_off_says_so_and_keeps_what_came_before(
        self, tmp_path: Path, suffix: str, cut: int
    ) -> None:
        path = tmp_path / f"x.txt.{suffix}"
        text = "".join(f"{i * 7919 % 299993} is a number\n" for i in range(299_993)).encode()
        path.write_bytes(COMPRESS[suffix](text)[:-cut])
        with pytest.raises(UserError, match=r"after [\d,]+ bytes of its content: the .* cut off"):
            read(path)
        report = SourceReport()
        documents = list(read_file(path, "s", Reading("passage", on_bad="skip"), report))
        kept = "".join(d.text for d in documents).encode()
        assert text.startswith(kept)
        assert len(kept) > 3_000_000
        assert report.n_skipped == 1

    def test_something_else_under_that_name(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"x.txt.{suffix}"
        path.write_bytes(b"plain text, not packed at all")
        with pytest.raises(UserError, match=f"damaged, or not a {suffix[0]}.* file"):
            read(path)

    def test_an_empty_one(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"x.txt.{suffix}"
        for content in (b"", COMPRESS[suffix](b"")):
            path.write_bytes(content)
            report = SourceReport()
            assert list(read_file(path, "s", Reading(), report)) == []
            assert report.skipped == [(str(path), "empty")]
