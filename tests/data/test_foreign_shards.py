"""Other programs' token files: their documents, and every way in which a file can lie."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from fromscratch.data import foreign_shards
from fromscratch.data.documents import Document
from fromscratch.data.foreign_shards import _cut
from fromscratch.data.reading import Reading, SourceReport
from fromscratch.data.sources import Source
from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.build import make_tokenizer
from fromscratch.tokenizer.tokenizer import Tokenizer

EOT = 256
TEXTS = [b"one text", b"another", b"x", b"the last of them"]


@pytest.fixture(scope="module")
def bytewise() -> Tokenizer:
    """257 ids: the bytes, and end-of-text."""
    return make_tokenizer("bytes")


def ids(*, before: bool = False) -> list[int]:
    parts = [[EOT, *t] if before else [*t, EOT] for t in TEXTS]
    return [i for part in parts for i in part]


def header(count: int, magic: int = 20240520, version: int = 1) -> bytes:
    return struct.pack("<256i", magic, version, count, *[0] * 253)


def write_raw(path: Path, tokens: list[int]) -> Path:
    np.array(tokens, "<u2").tofile(path.with_suffix(".bin"))
    return path.with_suffix(".bin")


def write_llmc(path: Path, tokens: list[int]) -> Path:
    path.with_suffix(".bin").write_bytes(header(len(tokens)) + np.array(tokens, "<u2").tobytes())
    return path.with_suffix(".bin")


def write_llama(path: Path, tokens: list[int]) -> Path:
    content = header(len(tokens), 20240801, 7) + np.array(tokens, "<u4").tobytes()
    path.with_suffix(".bin").write_bytes(content)
    return path.with_suffix(".bin")


def write_npy(dtype: type) -> Callable[[Path, list[int]], Path]:
    def write(path: Path, tokens: list[int]) -> Path:
        np.save(path.with_suffix(".npy"), np.array(tokens, dtype))
        return path.with_suffix(".npy")

    return write


def write_tensor(dtype: type) -> Callable[[Path, list[int]], Path]:
    def write(path: Path, tokens: list[int]) -> Path:
        save_file({"tokens": np.array(tokens, dtype)}, path.with_suffix(".safetensors"))
        return path.with_suffix(".safetensors")

    return write


WRITERS: dict[str, Callable[[Path, list[int]], Path]] = {
    "nanoGPT": write_raw,
    "llm.c": write_llmc,
    "llm.c with Llama 3 ids": write_llama,
    "npy uint16": write_npy(np.uint16),
    "npy uint32": write_npy(np.uint32),
    "safetensors int32": write_tensor(np.int32),
    "safetensors uint16": write_tensor(np.uint16),
    "safetensors int64": write_tensor(np.int64),
}


def read(
    path: Path, tokenizer: Tokenizer, **changes: object
) -> tuple[list[Document], SourceReport]:
    report = SourceReport()
    source = Source("s", str(path), Reading(**changes))  # type: ignore[arg-type]
    assert source.tokenised
    return list(source.documents(report, tokenizer)), report


class TestDocuments:
    @pytest.mark.parametrize("writer", WRITERS)
    @pytest.mark.parametrize("before", [True, False])
    def test_every_format_with_end_of_text_on_either_side(
        self, tmp_path: Path, bytewise: Tokenizer, writer: str, before: bool
    ) -> None:
        path = WRITERS[writer](tmp_path / "x", ids(before=before))
        documents, report = read(path, bytewise)
        assert all(d.ids is not None and type(d.ids) is np.ndarray for d in documents)
        assert all(d.ids is not None and d.ids.dtype == np.uint32 for d in documents)
        assert [bytes(d.ids.tolist()) for d in documents if d.ids is not None] == TEXTS
        assert report.files == 1
        assert report.n_skipped == 0
        assert documents[0].id == f"{path}@{int(before)}"
        assert documents[1].id == f"{path}@{len(TEXTS[0]) + 1 + int(before)}"

    @given(
        tokens=st.lists(st.integers(0, 3), max_size=40),
        block=st.integers(1, 7),
        longest=st.sampled_from([3, 100]),
    )
    def test_cuts_do_not_depend_on_the_blocks(
        self, tokens: list[int], block: int, longest: int
    ) -> None:
        array = np.array(tokens, np.uint16)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(foreign_shards, "_BLOCK_TOKENS", block)
            cut = [(at, part.tolist()) for at, part in _cut(array, len(array), 0, longest)]
        text = "".join(map(str, tokens))
        expected = [p[i : i + longest] for p in text.split("0") for i in range(0, len(p), longest)]
        assert ["".join(map(str, part)) for _, part in cut] == expected
        assert all(tokens[at : at + len(part)] == part for at, part in cut)

    def test_a_file_without_end_of_text_is_cut_and_says_so(
        self, tmp_path: Path, bytewise: Tokenizer
    ) -> None:
        path = write_raw(tmp_path / "x", [i % 256 for i in range(5_000)])
        documents, report = read(path, bytewise)
        assert [len(d.ids) for d in documents if d.ids is not None] == [2_048, 2_048, 904]
        assert report.n_skipped == 0
        assert report.notes == [
            (str(path), "has no end-of-text id (256): every 2,048 tokens are a document")
        ]

    def test_a_folder_of_them(self, tmp_path: Path, bytewise: Tokenizer) -> None:
        write_raw(tmp_path / "b", [1, 2, EOT])
        write_npy(np.uint16)(tmp_path / "a", [3, EOT])
        (tmp_path / "c.bin").write_bytes(b"")
        documents, report = read(tmp_path, bytewise)
        assert [d.ids.tolist() for d in documents if d.ids is not None] == [[3], [1, 2]]
        assert report.skipped == [(str(tmp_path / "c.bin"), "empty")]

    def test_real_ids_are_those_of_the_text(
        self, tmp_path: Path, gpt2: Tokenizer, shakespeare: str
    ) -> None:
        parts = shakespeare[:200_000].split("\n\n")
        tokens = [i for part in gpt2.encode_batch(parts) for i in (gpt2.eot_id, *part)]
        documents, _ = read(write_llmc(tmp_path / "x", tokens), gpt2)
        assert [gpt2.decode(d.ids.tolist()) for d in documents if d.ids is not None] == parts


def _bad(path: Path, content: bytes | npt.NDArray[np.generic] | dict[str, object]) -> Path:
    if isinstance(content, bytes):
        path.with_suffix(".bin").write_bytes(content)
        return path.with_suffix(".bin")
    if isinstance(content, dict):
        save_file(content, path.with_suffix(".safetensors"))  # type: ignore[arg-type]
        return path.with_suffix(".safetensors")
    np.save(path.with_suffix(".npy"), content)
    return path.with_suffix(".npy")


BAD: dict[str, tuple[bytes | npt.NDArray[np.generic] | dict[str, object], str]] = {
    "odd size": (b"abc", "no file of token ids: it has 3 bytes"),
    "wrong magic": (header(2, 20240522) + b"abcd", "byte 0: .*magic number 20240522; known are"),
    "wrong version": (header(2, version=9) + b"abcd", "byte 4: has version 9; known is 1"),
    "more said than there": (header(9) + b"abcd", "byte 8: the header says 9 tokens, .* holds 2"),
    "less said than there": (header(1) + b"abcd", "byte 8: the header says 1 tokens, .* holds 2"),
    "a negative count": (header(-1) + b"ab", "byte 8: the header says -1 tokens"),
    "a header cut off": (header(9)[:500], "byte 500: ends inside its header"),
    "two dimensions": (np.zeros((2, 3), np.uint16), r"uint16 in the shape \[2, 3\]"),
    "numbers with fractions": (np.zeros(3, np.float32), "holds float32"),
    "no such tensor": ({"ids": np.zeros(3, np.int32)}, 'has no tensor "tokens"; it has ids'),
    "a tensor of fractions": ({"tokens": np.zeros(3, np.float32)}, "holds F32"),
    "a tensor of rows": ({"tokens": np.zeros((1, 3), np.int32)}, r"shape \[1, 3\]"),
}


class TestBad:
    @pytest.mark.parametrize("bad", BAD)
    def test_a_file_that_is_not_what_it_should_be(
        self, tmp_path: Path, bytewise: Tokenizer, bad: str
    ) -> None:
        content, message = BAD[bad]
        path = _bad(tmp_path / "x", content)
        with pytest.raises(UserError, match=message) as caught:
            read(path, bytewise)
        assert str(caught.value).startswith(str(path))
        documents, report = read(path, bytewise, on_bad="skip")
        assert documents == []
        assert report.n_skipped == 1

    @pytest.mark.parametrize("name", ["x.npy", "x.safetensors"])
    @pytest.mark.parametrize("keep", [5, 60, -3])
    def test_a_file_cut_off(
        self, tmp_path: Path, bytewise: Tokenizer, name: str, keep: int
    ) -> None:
        writer = write_npy(np.uint16) if name.endswith("npy") else write_tensor(np.int32)
        path = writer(tmp_path / "x", ids())
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(UserError, match=r"not an? .* that can be read"):
            read(path, bytewise)

    def test_objects_are_not_loaded(self, tmp_path: Path, bytewise: Tokenizer) -> None:
        path = tmp_path / "x.npy"
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        with pytest.raises(UserError, match="Python objects"):
            read(path, bytewise)

    @pytest.mark.parametrize("wrong", [257, 65_535, -1])
    def test_an_id_beyond_the_vocabulary_is_named_and_costs_its_document(
        self, tmp_path: Path, bytewise: Tokenizer, wrong: int
    ) -> None:
        tokens = ids()
        tokens[12] = wrong
        path = write_tensor(np.int32)(tmp_path / "x", tokens)
        with pytest.raises(UserError) as caught:
            read(path, bytewise)
        assert f"{path}, token 12: the id {wrong} is beyond the vocabulary of 257" in str(
            caught.value
        )
        assert "--tokenizer" in str(caught.value)
        documents, report = read(path, bytewise, on_bad="skip")
        assert [bytes(d.ids.tolist()) for d in documents if d.ids is not None] == [
            TEXTS[0],
            *TEXTS[2:],
        ]
        assert report.n_skipped == 1

    def test_reading_ids_without_a_tokenizer_is_a_programmers_mistake(self, tmp_path: Path) -> None:
        source = Source("s", str(write_raw(tmp_path / "x", ids())))
        with pytest.raises(AssertionError):
            next(source.documents(SourceReport()))
