"""gigatoken is trusted as far as it has been compared, and no further."""

from __future__ import annotations

import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.data.sources import SourceReport, parse_sources
from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.build import train_bpe
from fromscratch.tokenizer.engines import LibraryEngine, TiktokenEngine, parted
from fromscratch.tokenizer.gigatoken_engine import GigatokenEngine, gigatoken_engine
from fromscratch.tokenizer.self_test import code_points_that_differ, first_difference
from fromscratch.tokenizer.tokenizer import Tokenizer

pytest.importorskip("gigatoken")

# Letters of Unicode 17, which gigatoken 0.10 knows and tiktoken 0.14 does not.
NEW_LETTERS = ["\U000323b0", "\U00033479", "\u088f", "\ua7d2"]
ANY_TEXT = st.text(
    alphabet=st.one_of(
        st.sampled_from([*" \n\t'sStl019aZ!", "\u00a0", "\u2028", "\u4f60", *NEW_LETTERS]),
        st.characters(),
    ),
    max_size=60,
)


@pytest.fixture(scope="module")
def fast(gpt2: Tokenizer) -> Tokenizer:
    tokenizer = Tokenizer(gpt2._content, name="gpt2")
    assert re.fullmatch(r"Encoded by gigatoken [\d.]+\.", tokenizer.choose_engine())
    return tokenizer


@pytest.fixture(scope="module")
def peer(gpt2_vocabulary: object) -> tiktoken.Encoding:
    return tiktoken.get_encoding("gpt2")


@given(texts=st.lists(ANY_TEXT, max_size=8))
def test_any_texts(fast: Tokenizer, peer: tiktoken.Encoding, texts: list[str]) -> None:
    assert [ids.tolist() for ids in parted(fast.encode_ragged(texts))] == [
        peer.encode_ordinary(text) for text in texts
    ]


@given(before=ANY_TEXT, after=ANY_TEXT, letter=st.sampled_from(NEW_LETTERS))
def test_letters_that_only_it_knows(
    fast: Tokenizer, peer: tiktoken.Encoding, before: str, after: str, letter: str
) -> None:
    text = f"{before}{letter}'s{after}"
    assert fast.encode(text) == peer.encode_ordinary(text)


def test_every_character(fast: Tokenizer, peer: tiktoken.Encoding) -> None:
    # Before what shows its kind; the planes beyond have no characters.
    points = [*range(0xD800), *range(0xE000, 0x34000), *range(0xE0000, 0xE0200)]
    texts = [f"{chr(c)}'s {chr(c)}" for c in points]
    ids, lengths = fast.encode_ragged(texts)
    expected = [peer.encode_ordinary(text) for text in texts]
    assert lengths.tolist() == [len(e) for e in expected]
    assert np.array_equal(ids, np.concatenate(expected))


def test_real_text_from_two_threads(
    fast: Tokenizer, peer: tiktoken.Encoding, shared_data: object
) -> None:
    (stdlib,) = parse_sources(["stdlib"])
    texts = [d.text for d in stdlib.documents(SourceReport())][:300]
    for path in sorted((shared_data / "pep").glob("*.parquet"))[:1]:
        texts += pq.read_table(path, columns=["text"])["text"].to_pylist()[:100]
    with ThreadPoolExecutor(2) as pool:
        encoded = list(pool.map(fast.encode_ragged, [texts[::2], texts[1::2]] * 2))
    for number, ragged in enumerate(encoded):
        for text, ids in zip(texts[number % 2 :: 2], parted(ragged), strict=True):
            assert ids.tolist() == peer.encode_ordinary(text)


def test_a_trained_tokenizer_too() -> None:
    texts = [f"It's number {i}, isn't it?  \n" for i in range(500)]
    made = train_bpe(texts, vocab_size=500, pattern="gpt2")
    quick = Tokenizer(made._content, name="bpe")
    assert "gigatoken" in quick.choose_engine()
    for text in texts:
        assert quick.encode(text) == made.encode(text)


class TestWhereItWillNotDo:
    def test_a_pattern_that_it_does_not_know(self) -> None:
        made = train_bpe(["some text " * 50], vocab_size=300, pattern="modern")
        assert made.choose_engine() == (
            "Encoded by tiktoken (gigatoken does not know this kind of tokenizer)."
        )

    def test_it_is_not_wanted(self, gpt2: Tokenizer) -> None:
        tokenizer = Tokenizer(gpt2._content, name="gpt2")
        assert tokenizer.choose_engine(fast=False) == "Encoded by tiktoken."

    def test_it_is_not_installed(self, gpt2: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "gigatoken.gigatoken_rs", None)
        note = Tokenizer(gpt2._content, name="gpt2").choose_engine()
        assert "pip install 'fromscratch[fast]'" in note
        assert note.startswith("Encoded by tiktoken")

    def test_it_reads_the_file_as_another_tokenizer(self, gpt2: Tokenizer) -> None:
        """The self-test, on a real difference: the merge of " the", which one side lacks."""
        spec = json.loads(gpt2._content)
        exact = TiktokenEngine(tiktoken.get_encoding("gpt2"), LibraryEngine(gpt2._fast))
        merges = spec["model"]["merges"]
        spec["model"]["merges"] = [m for m in merges if "".join(m) != "\u0120the"]
        assert len(spec["model"]["merges"]) == len(merges) - 1
        answer = gigatoken_engine(spec, exact)
        assert isinstance(answer, str)
        assert "has other ids for" in answer

    def test_a_difference_that_the_self_test_missed_ends_the_work(self, gpt2: Tokenizer) -> None:
        spec = json.loads(gpt2._content) | {"added_tokens": []}
        exact = TiktokenEngine(tiktoken.get_encoding("gpt2"), LibraryEngine(gpt2._fast))
        engine = GigatokenEngine(json.dumps(spec), exact)  # nothing is held back from it
        fine = ["plain text"] * 200_000
        engine.encode_ragged(fine)
        with pytest.raises(UserError, match="cannot be vouched for") as caught:
            engine.encode_ragged([f"{NEW_LETTERS[0]}'s"] * 1000)  # one in a thousand is compared
        assert "--no-fast" in str(caught.value.fix)


def test_the_characters_that_differ_are_found(gpt2: Tokenizer) -> None:
    spec = json.loads(gpt2._content) | {"added_tokens": []}
    exact = TiktokenEngine(tiktoken.get_encoding("gpt2"), LibraryEngine(gpt2._fast))
    engine = GigatokenEngine(json.dumps(spec), exact)

    class Plain:
        name = "gigatoken"
        encode_ragged = staticmethod(engine.encode_unchecked)

    found = code_points_that_differ(Plain(), exact)
    # Found one by one, where Unicode 17 added letters and where it did not.
    points = [*range(0x1000), *range(0xA000, 0xB000), *range(0x32000, 0x34000)]
    texts = [f"{chr(c)}'s" for c in points]
    alone, beside = parted(Plain.encode_ragged(texts)), parted(exact.encode_ragged(texts))
    pairs = zip(texts, alone, beside, strict=True)
    expected = [text[0] for text, a, b in pairs if not np.array_equal(a, b)]
    assert [c for c in found if ord(c) in set(points)] == expected
    assert first_difference(Plain(), exact, ["x", f"{found[0]}'s"]) == f"{found[0]}'s"
