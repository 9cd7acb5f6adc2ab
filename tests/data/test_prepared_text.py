"""Prepared data as text again: nothing lost, nothing mixed, whatever the size of a block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fromscratch.data.prepared_text import (
    Block,
    document_offsets,
    read_beginning,
    read_blocks,
    whole_documents,
)
from fromscratch.data.shards import Shard
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import sha256_of_file
from fromscratch.foundation.names import documents_file, shard_file
from fromscratch.tokenizer.build import make_tokenizer, train_bpe
from fromscratch.tokenizer.tokenizer import Tokenizer

Writer = Callable[[Sequence[Sequence[str]], Tokenizer], tuple[Path, list[Shard]]]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    """Writes lists of texts as shards, by nothing but numpy."""

    def make(shards: Sequence[Sequence[str]], tokenizer: Tokenizer) -> tuple[Path, list[Shard]]:
        folder = tmp_path_factory.mktemp("data")
        made = []
        for index, texts in enumerate(shards):
            ids = [[*tokenizer.encode(text), tokenizer.eot_id] for text in texts]
            path = folder / shard_file("train", index)
            np.save(path, np.array([i for part in ids for i in part], dtype=np.uint16))
            offsets = np.cumsum([0, *map(len, ids)], dtype=np.int64)
            np.save(folder / documents_file("train", index), offsets)
            made.append(
                Shard(
                    file=path.name,
                    documents_file=documents_file("train", index),
                    split="train",
                    source="made",
                    tokens=int(offsets[-1]),
                    documents=len(texts),
                    bytes=sum(len(t.encode()) for t in texts),
                    sha256=sha256_of_file(path),
                )
            )
        return folder, made

    return make


@pytest.fixture(scope="session", params=["bytes", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "bytes":
        return make_tokenizer("bytes")
    return train_bpe(["na\u00efve caf\u00e9s of \u4f60\u597d " * 9], vocab_size=270)


def joined(blocks: list[Block]) -> dict[str, str]:
    """Each document's pieces, joined; each must begin once and end once, in order."""
    texts: dict[str, str] = {}
    unfinished = None
    for piece in (p for b in blocks for p in b.pieces):
        name = str(piece.place)
        assert piece.begins == (unfinished is None)
        assert unfinished in (None, name)
        assert piece.begins == (name not in texts)
        texts[name] = texts.get(name, "") + piece.text
        unfinished = None if piece.ends else name
    assert unfinished is None
    return texts


# Characters of one to four bytes, so that blocks end inside them.
TEXT = st.text("ab \n\u00e9\u4f60\U0001f600", max_size=30)


@settings(max_examples=60)
@given(
    shards=st.lists(st.lists(TEXT, min_size=1, max_size=8), min_size=1, max_size=3),
    block_tokens=st.integers(1, 40),
)
def test_the_pieces_are_the_documents(
    written: Writer, tokenizer: Tokenizer, shards: list[list[str]], block_tokens: int
) -> None:
    folder, made = written(shards, tokenizer)
    blocks = list(read_blocks(folder, tokenizer, made, block_tokens=block_tokens))
    expected = {
        f"{shard.file} document {i}": text
        for shard, texts in zip(made, shards, strict=True)
        for i, text in enumerate(texts)
    }
    assert joined(blocks) == expected
    assert all(len(b.ids) <= block_tokens for b in blocks)
    ids = np.concatenate([b.ids for b in blocks])
    assert np.array_equal(ids, np.concatenate([np.load(folder / s.file) for s in made]))
    whole = {str(place): text for place, text in whole_documents(blocks, 10**9)}
    assert whole == expected
    assert {str(p): t for p, t in whole_documents(blocks, 5)} == {
        name: text[:5] for name, text in expected.items()
    }


@pytest.mark.parametrize("share", [0.01, 0.1, 0.37, 0.5, 1.0])
def test_a_share_is_spread_over_all_shards(written: Writer, share: float) -> None:
    tokenizer = make_tokenizer("bytes")
    shards = [[f"{s}:{i:05}" for i in range(1_000)] for s in range(4)]  # 8 tokens each
    folder, made = written(shards, tokenizer)
    blocks = list(read_blocks(folder, tokenizer, made, share=share, block_tokens=32))
    texts = joined(blocks)
    assert abs(len(texts) / 4_000 - share) < 0.002
    for shard in range(4):
        inside = [t for t in texts.values() if t.startswith(f"{shard}:")]
        assert abs(len(inside) / 1_000 - share) < 0.01
        assert all(text in shards[shard] for text in inside)


def test_a_beginning_ends_with_a_whole_character(written: Writer) -> None:
    tokenizer = make_tokenizer("bytes")
    folder, [shard] = written([["first", "a\u4f60\u597d"]], tokenizer)
    assert [read_beginning(folder, tokenizer, shard, 1, n) for n in (1, 2, 3, 4, 7, 99)] == [
        "a",
        "a",
        "a",
        "a\u4f60",
        "a\u4f60\u597d",
        "a\u4f60\u597d",
    ]


class TestDamage:
    def test_an_id_that_the_tokenizer_lacks(self, written: Writer) -> None:
        tokenizer = make_tokenizer("bytes")
        folder, [shard] = written([["some text"]], tokenizer)
        ids = np.load(folder / shard.file)
        ids[3] = 300
        np.save(folder / shard.file, ids)
        with pytest.raises(UserError, match=r"train-00000\.npy holds the id 300.*257 ids"):
            list(read_blocks(folder, tokenizer, [shard]))

    @pytest.mark.parametrize(
        "offsets", [[0, 5], [1, 5, 10], [0, 5, 9], np.array([0, 5, 10], dtype=np.int32)]
    )
    def test_offsets_that_do_not_fit(self, written: Writer, offsets: Sequence[int]) -> None:
        tokenizer = make_tokenizer("bytes")
        folder, [shard] = written([["four", "four"]], tokenizer)
        assert document_offsets(folder, shard).tolist() == [0, 5, 10]
        array = offsets if isinstance(offsets, np.ndarray) else np.array(offsets, dtype=np.int64)
        np.save(folder / shard.documents_file, array)
        with pytest.raises(UserError, match="bounds of 2 documents in 10 tokens"):
            list(read_blocks(folder, tokenizer, [shard]))

    def test_no_offsets(self, written: Writer) -> None:
        tokenizer = make_tokenizer("bytes")
        folder, [shard] = written([["four"]], tokenizer)
        (folder / shard.documents_file).unlink()
        with pytest.raises(UserError, match=r"docs-train-00000\.npy cannot be read"):
            list(read_blocks(folder, tokenizer, [shard]))
