"""What `data show` finds in prepared data: what was put there, and no more memory than for less."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.data.advice import advice
from fromscratch.data.audit import AuditOptions, audit
from fromscratch.data.copies import CopyFinder
from fromscratch.data.documents import SPLITS
from fromscratch.data.prepare import PrepareOptions, prepare
from fromscratch.data.prepared_text import Piece, Place
from fromscratch.data.shards import Manifest, Shard, load_manifest
from fromscratch.data.sources import Source
from fromscratch.data.special_text import SPECIAL_TEXTS, SpecialTextFinder
from fromscratch.foundation.files import sha256_of_file
from fromscratch.foundation.names import documents_file, shard_file
from fromscratch.tokenizer.build import make_tokenizer
from fromscratch.tokenizer.tokenizer import load_tokenizer
from tests.data.peak_memory import PEAK


def prepared(folder: Path, sources: dict[str, list[str]], **options: object) -> Path:
    made = []
    for name, texts in sources.items():
        (folder / name).mkdir()
        for i, text in enumerate(texts):
            (folder / name / f"{i:04}.txt").write_text(text)
        made.append(Source(name, str(folder / name)))
    chosen = {"tokenizer": "bytes", "val_fraction": 0.2, "documents": "file"} | options
    return prepare(made, folder / "data", PrepareOptions(**chosen)).folder  # type: ignore[arg-type]


def place(number: int, split: str = "train") -> Place:
    return Place(split, "made", f"{split}-00000.npy", number)  # type: ignore[arg-type]


def sentence(i: int) -> str:
    return f"Number {i} has a square of {i * i} and a cube of {i**3}; so much for {i}.\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """226 documents of two sources, in several shards."""
    numbers = [sentence(i) * (1 + i % 5) for i in range(200)]
    return prepared(
        tmp_path_factory.mktemp("numbers"),
        {"numbers": numbers, "letters": [chr(97 + i) * 40 for i in range(26)]},
        shard_tokens=5_000,
    )


class TestOfWhatWasPrepared:
    def test_the_parts_add_up(self, data: Path) -> None:
        found = audit(data, AuditOptions())
        manifest = load_manifest(data)
        assert found.total.documents == 226
        for split in SPLITS:
            parts = [found.sources[name][split] for name in ("numbers", "letters")]
            whole = found.splits[split]
            assert whole.tokens == sum(p.tokens for p in parts) == manifest.total("tokens", split)
            assert whole.documents == sum(p.documents for p in parts)
            assert whole.bytes == sum(p.bytes for p in parts)
            assert found.split_lengths[split].tokens == whole.tokens
        assert found.lengths.tokens == found.total.tokens == found.content.tokens
        assert found.total.bytes == found.total.tokens - 226
        assert found.content.looked_at == {"train": 1.0, "val": 1.0}

    def test_duplicates_that_were_left_out_are_shown(self, tmp_path: Path) -> None:
        folder = prepared(tmp_path, {"twice": [sentence(i // 2) for i in range(80)]}, dedup="exact")
        found = audit(folder, AuditOptions())
        assert (found.total.documents, found.manifest.sources[0].duplicates) == (40, 40)

    def test_tokens_are_counted(self, data: Path) -> None:
        found = audit(data, AuditOptions(frequent=300)).content
        ids = [np.load(data / s.file) for s in load_manifest(data).shards]
        counts = Counter(np.concatenate(ids).tolist())
        assert {t.id: t.count for t in found.frequent} == counts
        assert found.never == 257 - len(counts)
        assert [t.count for t in found.frequent] == sorted(counts.values(), reverse=True)
        texts = {t.id: t.text for t in found.frequent}
        assert texts[ord("a")] == "'a'"
        assert texts[load_tokenizer(data).eot_id] == "end of text"

    def test_random_documents_are_those_of_the_seed(self, data: Path) -> None:
        one, same, other = (audit(data, AuditOptions(seed=s)).samples for s in (1, 1, 2))
        assert one == same != other
        assert len(one) == len({s.place for s in one}) == 10
        everything = audit(data, AuditOptions(samples=1000)).samples
        assert len(everything) == 226
        texts = Counter(s.beginning for s in everything)
        assert texts == Counter(
            [(sentence(i) * (1 + i % 5))[:256] for i in range(200)]
            + [chr(97 + i) * 40 for i in range(26)]
        )
        assert all(s.tokens >= len(s.beginning.encode()) + 1 for s in everything)

    def test_nothing_stands_on_both_sides(self, data: Path) -> None:
        found = audit(data, AuditOptions()).content
        assert (found.exact_copies, found.exact_examples) == (0, [])

    def test_a_part_is_looked_at_and_said(self, data: Path) -> None:
        found = audit(data, AuditOptions(most_tokens=100)).content
        assert not found.complete
        assert 0 < found.looked_at["train"] <= 1


class TestAcrossTheSplit:
    def test_near_copies_are_found(self, tmp_path: Path, shakespeare: str) -> None:
        pytest.importorskip("rensa")
        texts = [shakespeare[i * 3_000 : i * 3_000 + 2_500] for i in range(60)]
        data = prepared(tmp_path, {"plays": [*texts, *(f"{t} edited" for t in texts)]})
        found = audit(data, AuditOptions())
        near = found.content.near
        assert near is not None
        sides = {}
        for sample in audit(data, AuditOptions(samples=500)).samples:
            sides.setdefault(sample.beginning, set()).add(sample.place.split)
        expected = sum(1 for side in sides.values() if len(side) == 2)
        assert expected > 5
        assert near.near == expected
        for pair in near.pairs:
            assert pair.held_out.startswith("val-")
            assert pair.training.startswith("train-")
            assert pair.held_out_text == pair.training_text
            assert pair.similarity > 0.9
        assert found.content.exact_copies == 0
        assert "--dedup near" in advice(found)[0].fix

    def test_exact_copies_in_foreign_data_are_found(self, tmp_path: Path) -> None:
        data = prepared(tmp_path, {"numbers": [sentence(i) for i in range(100)]})
        manifest = load_manifest(data)
        # Another tool split at random: what was held out stands in training too.
        [val], [train] = manifest.select("val"), manifest.select("train")
        ids = np.concatenate([np.load(data / train.file), np.load(data / val.file)])
        offsets = np.load(data / train.documents_file)
        more = np.load(data / val.documents_file)[1:] + offsets[-1]
        np.save(data / train.file, ids)
        np.save(data / train.documents_file, np.concatenate([offsets, more]))
        both = replace(
            train,
            tokens=len(ids),
            documents=train.documents + val.documents,
            bytes=train.bytes + val.bytes,
            sha256=sha256_of_file(data / train.file),
        )
        replace(manifest, shards=[both, val]).save(data)
        found = audit(data, AuditOptions())
        assert found.content.exact_copies == val.documents > 5
        copy = found.content.exact_examples[0]
        assert (copy.held_out, copy.training) == (
            Place("val", "numbers", val.file, 0),
            Place("train", "numbers", train.file, train.documents),
        )
        assert "word for word" in advice(found)[0].what

    @given(
        held_out=st.lists(st.text("ab", max_size=4), max_size=12),
        training=st.lists(st.text("ab", max_size=4), max_size=12),
        cut=st.integers(0, 4),
    )
    def test_copies_are_those_of_a_set(
        self, held_out: list[str], training: list[str], cut: int
    ) -> None:
        finder = CopyFinder(n_examples=100)
        for i, text in enumerate(held_out):
            finder.hold_out([Piece(place(i, "val"), text, True, True)])
        for i, text in enumerate(training):
            finder.compare([Piece(place(i), text[:cut], True, False)])
            finder.compare([Piece(place(i), text[cut:], False, True)])
        common = (set(held_out) & set(training)) - {""}  # that two are empty says nothing
        assert finder.count == sum(t in common for t in held_out)
        for copy in finder.examples:
            assert held_out[copy.held_out.number] == training[copy.training.number]
        assert len(finder.examples) == len(common)


@given(
    parts=st.lists(st.sampled_from([*SPECIAL_TEXTS[:6], "<s>", "</s>", "<|", "|>", "<", " x "])),
    cuts=st.lists(st.integers(0, 200), max_size=4),
)
def test_special_text_is_counted_across_cuts(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    whole, cut = SpecialTextFinder(), SpecialTextFinder()
    whole.add([Piece(place(0), text, True, True)])
    bounds = [0, *sorted(c % (len(text) + 1) for c in cuts), len(text)]
    for i in range(len(bounds) - 1):
        piece = text[bounds[i] : bounds[i + 1]]
        cut.add([Piece(place(0), piece, i == 0, i == len(bounds) - 2)])
    assert whole.result() == cut.result()
    assert {s.text: s.count for s in whole.result()} == {
        t: text.count(t) for t in SPECIAL_TEXTS if t in text
    }
    assert all(s.documents == 1 and s.places == [place(0)] for s in whole.result())


MEASURE = """
import resource, sys
from pathlib import Path
from fromscratch.data.audit import AuditOptions, audit
from fromscratch.data.contamination import find_contamination
from fromscratch.data.evaluation_items import Item
folder = Path(sys.argv[1])
before = peak()
found = audit(folder, AuditOptions(most_tokens=None))
assert found.content.tokens == found.lengths.tokens
words = " ".join(f"word{i}" for i in range(20))
assert not find_contamination(folder, [Item(words, "item 0")]).contaminated
print(found.content.tokens, peak())
"""


def sparse_data(folder: Path, tokens: int) -> Path:
    """Data whose shards are holes: documents of 50,000 bytes that are all zero."""
    folder.mkdir()
    tokenizer = make_tokenizer("bytes")
    tokenizer.save(folder)
    shards = []
    for index, (split, size) in enumerate([("val", tokens // 50), *[("train", tokens // 4)] * 4]):
        path = folder / shard_file(split, index)
        np.lib.format.open_memmap(path, mode="w+", dtype=np.uint16, shape=(size,))
        offsets = np.append(np.arange(0, size, 50_000, dtype=np.int64), size)
        np.save(folder / documents_file(split, index), offsets)
        documents = len(offsets) - 1
        shards.append(
            Shard(
                file=path.name,
                documents_file=documents_file(split, index),
                split=split,  # type: ignore[arg-type]
                source="holes",
                tokens=size,
                documents=documents,
                bytes=size,
                sha256="not looked at",
            )
        )
    Manifest(
        tokenizer="bytes",
        tokenizer_fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        eot_id=tokenizer.eot_id,
        val_fraction=0.02,
        seed=0,
        dedup="none",
        sources=[],
        shards=shards,
    ).save(folder)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the platform does not tell peak memory")
def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    peaks = {}
    for tokens in (5_000_000, 30_000_000):
        folder = sparse_data(tmp_path / str(tokens), tokens)
        done = subprocess.run(
            [sys.executable, "-c", PEAK + MEASURE, str(folder)],
            capture_output=True,
            text=True,
            check=True,
        )
        read, peaks[tokens] = map(int, done.stdout.split())
        assert read == tokens + tokens // 50
    small, large = peaks.values()
    assert large < small * 1.05, "six times the data, the same memory"
    assert large * 1024 < 500e6 or sys.platform == "darwin"
