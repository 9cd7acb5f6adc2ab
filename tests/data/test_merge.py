"""Parts that are joined give the very bytes that one process would have written."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.data.merge import merge
from fromscratch.data.options import Part, PrepareOptions
from fromscratch.data.prepare import prepare
from fromscratch.data.shards import load_manifest
from fromscratch.data.sources import Source
from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.build import train_bpe
from tests.data.preparing import files, killed, settings, texts


@given(st.lists(st.integers(0, 1000)), st.integers(1, 12))
def test_every_portion_is_in_one_part_and_they_stay_in_order(sizes: list[int], count: int) -> None:
    parts = [Part(i, count).slice(sizes) for i in range(count)]
    assert [n for part in parts for n in range(len(sizes))[part]] == list(range(len(sizes)))


@given(st.lists(st.integers(1, 1000), min_size=1), st.integers(1, 12))
def test_parts_are_of_about_the_same_size(sizes: list[int], count: int) -> None:
    for i in range(count):
        size = sum(sizes[Part(i, count).slice(sizes)])
        assert abs(size - sum(sizes) / count) <= max(sizes) + 1


def make_parts(
    folder: Path, sources: list[Source], count: int, options: PrepareOptions
) -> list[Path]:
    folders = [folder / f"part-{count}-{i}" for i in range(count)]
    for i, part in enumerate(folders):
        prepare(sources, part, options, part=Part(i, count))
    return folders


@pytest.mark.parametrize("dedup", ["none", "exact", "near"])
def test_the_bytes_of_one_process(tmp_path: Path, dedup: str) -> None:
    sources = texts(tmp_path / "texts", 200)
    options = settings(dedup=dedup)
    clean = prepare(sources, tmp_path / "clean", options)
    for count in (1, 2, 3, 7):
        folders = make_parts(tmp_path, sources, count, options)
        made = merge(folders[::-1], tmp_path / f"merged-{count}", overwrite=False)
        assert files(made.folder) == files(tmp_path / "clean")
        assert made.skipped == clean.skipped
    assert [s.files_skipped for s in clean.manifest.sources] == [1, 1]


def test_a_merge_that_stopped_is_not_taken_for_a_preparation(tmp_path: Path) -> None:
    sources = texts(tmp_path / "texts", 60)
    folders = make_parts(tmp_path, sources, 2, settings())
    os.truncate(folders[1] / "keys.bin", 0)
    with pytest.raises(UserError, match="cut off"):
        merge(folders, tmp_path / "data")
    with pytest.raises(UserError, match=r"interrupted before it finished\.(.|\n)*data merge"):
        load_manifest(tmp_path / "data")
    prepare(sources, tmp_path / "data", settings())  # into the same folder, with the same settings
    prepare(sources, tmp_path / "clean", settings())
    assert files(tmp_path / "data") == files(tmp_path / "clean")


def test_documents_of_any_length(tmp_path: Path) -> None:
    """Books, and none: more tokens than a batch in one document, thousands of documents in one."""
    draw = random.Random(1)
    lengths = [1, 3_000_000, 1, 700_000, 700_000, *draw.choices(range(1, 40), k=3_000), 1_048_576]
    with open(tmp_path / "texts.jsonl", "w") as file:
        for i, n in enumerate(lengths):
            file.write(json.dumps({"text": f"{i} " + "ab " * (n // 3)}) + "\n")
    sources = [Source("s", str(tmp_path / "texts.jsonl")), *texts(tmp_path / "texts", 9)]
    options = settings(shard_tokens=500_000, val_fraction=0.3)
    prepare(sources, tmp_path / "clean", options)
    merge(make_parts(tmp_path, sources, 2, options), tmp_path / "merged")
    assert files(tmp_path / "merged") == files(tmp_path / "clean")


def test_more_parts_than_files(tmp_path: Path) -> None:
    sources = texts(tmp_path / "texts", 3)
    options = settings(val_fraction=0.4)
    prepare(sources, tmp_path / "clean", options)
    merge(make_parts(tmp_path, sources, 12, options), tmp_path / "merged")
    assert files(tmp_path / "merged") == files(tmp_path / "clean")


@pytest.mark.parametrize("at", [20, 40])
def test_a_part_that_was_killed_goes_on(tmp_path: Path, at: int) -> None:
    sources = texts(tmp_path / "texts", 300)
    options = settings(dedup="near", shard_tokens=10_000)
    folders = make_parts(tmp_path, sources, 2, options)
    again = tmp_path / "again"
    assert killed(sources, again, options, at, part=Part(1, 2))
    with pytest.raises(UserError, match="interrupted") as caught:
        merge([folders[0], again], tmp_path / "merged")
    assert "--part 1/2" in str(caught.value)
    prepare(sources, again, options, part=Part(1, 2))
    assert files(again) == files(folders[1])


def test_what_was_remarked_of_parts_is_remarked_of_the_whole(tmp_path: Path) -> None:
    for name in ("a", "b"):  # tokens without end-of-text, which are cut somewhere
        np.save(tmp_path / f"{name}.npy", np.arange(5000, dtype=np.uint16) % 256)
    sources = [Source("ids", str(tmp_path / "*.npy"))]
    options = settings(val_fraction=0.0, allow_no_validation=True)
    clean = prepare(sources, tmp_path / "clean", options)
    assert len(clean.notes) == 2
    merged = merge(make_parts(tmp_path, sources, 2, options), tmp_path / "merged")
    assert merged.notes == clean.notes


def test_joining_that_was_interrupted_is_done_again(tmp_path: Path) -> None:
    sources = texts(tmp_path / "texts", 100)
    folders = make_parts(tmp_path, sources, 2, settings())

    def interrupt(event: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(folders, tmp_path / "merged", watch=interrupt)
    with pytest.raises(UserError, match="Run it again: fromscratch data merge"):
        load_manifest(tmp_path / "merged")
    merge(folders, tmp_path / "merged")
    prepare(sources, tmp_path / "clean", settings())
    assert files(tmp_path / "merged") == files(tmp_path / "clean")


class TestRefusals:
    @pytest.fixture
    def sources(self, tmp_path: Path) -> list[Source]:
        return texts(tmp_path / "texts", 30)

    def test_a_part_is_not_data(self, tmp_path: Path, sources: list[Source]) -> None:
        folders = make_parts(tmp_path, sources, 2, settings())
        with pytest.raises(UserError, match="one part of a preparation"):
            load_manifest(folders[0])

    def test_missing_double_and_foreign_parts(self, tmp_path: Path, sources: list[Source]) -> None:
        folders = make_parts(tmp_path, sources, 3, settings())
        other = make_parts(tmp_path / "other", sources, 3, settings(seed=1))
        with pytest.raises(UserError, match="Missing: part 1/3"):
            merge([folders[0], folders[2]], tmp_path / "merged")
        with pytest.raises(UserError, match="given twice"):
            merge([folders[0], folders[1], folders[1]], tmp_path / "merged")
        with pytest.raises(UserError, match="different preparations"):
            merge([folders[0], folders[1], other[2]], tmp_path / "merged")
        prepare(sources, tmp_path / "whole", settings())
        with pytest.raises(UserError, match="not a part"):
            merge([tmp_path / "whole"], tmp_path / "merged")
        assert not (tmp_path / "merged").exists()

    def test_a_part_is_not_replaced_by_the_whole(
        self, tmp_path: Path, sources: list[Source]
    ) -> None:
        folders = make_parts(tmp_path, sources, 2, settings())
        before = files(folders[0])
        with pytest.raises(UserError, match="one of the parts"):
            merge(folders, folders[0].parent / "x" / ".." / folders[0].name, overwrite=True)
        assert files(folders[0]) == before

    def test_damaged_parts(self, tmp_path: Path, sources: list[Source]) -> None:
        folders = make_parts(tmp_path, sources, 2, settings())
        keys = folders[1] / "keys.bin"
        content = keys.read_bytes()
        keys.write_bytes(content[:-1])
        with pytest.raises(UserError, match=r"keys\.bin is cut off"):
            merge(folders, tmp_path / "merged")
        keys.write_bytes(content)
        shard = next(folders[1].glob("train-*.npy"))
        tokens = shard.read_bytes()
        shard.write_bytes(tokens[:-1] + bytes([tokens[-1] ^ 1]))  # of the same length, one bit off
        with pytest.raises(UserError, match=rf"{shard.name} is not as it was written"):
            merge(folders, tmp_path / "merged")
        shard.write_bytes(tokens)
        merge(folders, tmp_path / "merged")  # what the first attempt left is no hindrance
        prepare(sources, tmp_path / "clean", settings())
        assert files(tmp_path / "merged") == files(tmp_path / "clean")

    def test_parts_made_with_different_tokenizers_of_one_name(
        self, tmp_path: Path, sources: list[Source]
    ) -> None:
        folders = []
        for i, words in enumerate(["some words to learn", "other text entirely"]):
            made = train_bpe([words] * 20, vocab_size=270)
            (tmp_path / "bpe").mkdir(exist_ok=True)
            made.save(tmp_path / "bpe")
            folders.append(tmp_path / f"part-{i}")
            options = settings(tokenizer=str(tmp_path / "bpe"))
            prepare(sources, folders[i], options, part=Part(i, 2))
        with pytest.raises(UserError, match="different tokenizers"):
            merge(folders, tmp_path / "merged")

    def test_every_part_must_have_the_same_tokenizer(
        self, tmp_path: Path, sources: list[Source]
    ) -> None:
        with pytest.raises(UserError, match="tokenizer train"):
            prepare(sources, tmp_path / "a", settings(tokenizer="bpe:300"), part=Part(0, 2))
        made = train_bpe(["some words to learn from"] * 20, vocab_size=280)
        (tmp_path / "bpe").mkdir()
        made.save(tmp_path / "bpe")
        options = settings(tokenizer=str(tmp_path / "bpe"))
        prepare(sources, tmp_path / "clean", options)
        merge(make_parts(tmp_path, sources, 2, options), tmp_path / "merged")
        assert files(tmp_path / "merged") == files(tmp_path / "clean")

    @pytest.mark.parametrize("text", ["3/3", "1", "a/b", "-1/2", "1/0", "1/2/3"])
    def test_what_is_no_part(self, text: str) -> None:
        with pytest.raises(UserError, match="part"):
            Part.parse(text)
