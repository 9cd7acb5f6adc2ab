"""Evaluation items in training text: against a search that is as plain as it is slow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.data.contamination import ContaminationFinder, Finding, find_contamination
from fromscratch.data.evaluation_items import Item, load_items
from fromscratch.data.prepare import PrepareOptions, prepare
from fromscratch.data.prepared_text import Piece, Place
from fromscratch.data.sources import Source
from fromscratch.data.words import WordHasher, find_words


def plain_words(text: str) -> list[str]:
    """Lower case, letters and digits; each character by itself."""
    return re.findall(r"[^\W_]+", "".join((c.lower() or c)[0] for c in text))


def plain_grams(text: str, n: int) -> set[tuple[str, ...]]:
    words = plain_words(text)
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def worth_looking_for(gram: tuple[str, ...]) -> bool:
    no_numbers = [w for w in gram if not w.isnumeric()]
    return 2 * len(no_numbers) >= len(gram) and len(set(gram)) >= min(4, len(gram))


def plain_found(items: Sequence[str], documents: Sequence[str], n: int) -> list[tuple[int, int]]:
    """(n-grams, n-grams that occur) of each item."""
    answers = []
    there: dict[int, set[tuple[str, ...]]] = {}
    for item in items:
        length = min(n, len(plain_words(item)))
        if length < min(n, 8):
            answers.append((0, 0))
            continue
        grams = {g for g in plain_grams(item, length) if worth_looking_for(g)}
        if length not in there:
            there[length] = {g for document in documents for g in plain_grams(document, length)}
        answers.append((len(grams), len(grams & there[length])))
    return answers


def place(number: int) -> Place:
    return Place("train", "made", "train-00000.npy", number)


def pieces_of(number: int, text: str, cuts: Sequence[int]) -> list[Piece]:
    """The document, cut at some positions (modulo its length)."""
    bounds = [0, *sorted(c % (len(text) + 1) for c in cuts), len(text)]
    parts = [text[a:b] for a, b in pairwise(bounds)]
    return [Piece(place(number), part, i == 0, i == len(parts) - 1) for i, part in enumerate(parts)]


def look(items: Sequence[str], pieces: Sequence[Piece], n: int = 13, **more: int) -> list[Finding]:
    finder = ContaminationFinder(
        [Item(t, f"item {i}") for i, t in enumerate(items)], ngram=n, **more
    )
    for piece in pieces:
        finder.add([piece])
    return finder.finish()


# A small vocabulary, so that the texts have much in common; with all that separates words.
WORDS = st.sampled_from(
    [
        "a",
        "The",
        "cat",
        "\u00c9t\u00e9",
        "42",
        "7",
        "\u0394\u03a3",
        "dog",
        "\u0130x",
        "\u4f60\u597d",
        "sat",
    ]
)
GAPS = st.sampled_from([" ", "  ", "\n", ", ", "-", "_", ".\n\n", "\u2019", "\U0001f600", "\x00"])
TEXTS = st.lists(st.tuples(WORDS, GAPS), max_size=40).map(
    lambda parts: "".join(w + g for w, g in parts)
)


class TestAgainstAPlainSearch:
    @given(
        documents=st.lists(
            st.tuples(TEXTS, st.lists(st.integers(0, 10_000), max_size=4)), max_size=5
        ),
        own=st.lists(TEXTS, max_size=3),
        taken=st.lists(
            st.tuples(st.integers(0, 4), st.integers(0, 200), st.integers(5, 90)), max_size=3
        ),
        n=st.sampled_from([2, 3, 5, 9, 13]),
        batch=st.sampled_from([200, 350, 1 << 20]),
    )
    def test_any_cut_gives_what_a_plain_search_gives(self, documents, own, taken, n, batch) -> None:
        texts = [text for text, _ in documents]
        # Items of their own, and items taken out of the documents.
        items = own + [texts[i % len(texts)][a : a + b] for i, a, b in taken if texts]
        pieces = [p for i, (text, cuts) in enumerate(documents) for p in pieces_of(i, text, cuts)]
        found = look(items, pieces, n, batch_characters=batch)
        assert [(f.grams, f.found) for f in found] == plain_found(items, texts, n)

    @given(text=st.text())
    def test_the_words_are_the_plain_words(self, text: str) -> None:
        words = find_words(text)
        spelled = words.spelled(0, len(words.starts)).split() if len(words.starts) else []
        assert spelled == plain_words(text)
        for a, b, word in zip(words.starts, words.ends, spelled, strict=True):
            assert plain_words(text[a:b]) == [word]

    @given(parts=st.lists(st.sampled_from(["ab", "ba", "abab", "q", "zz", "9"]), min_size=1))
    def test_equal_words_have_equal_hashes_wherever_they_stand(self, parts: list[str]) -> None:
        words = find_words(" ".join(parts))
        hashes = WordHasher().words(words)
        assert len(set(zip(parts, hashes.tolist(), strict=True))) == len(set(parts))
        assert len(set(hashes.tolist())) == len(set(parts))

    def test_a_million_real_n_grams_have_a_million_hashes(self, shakespeare: str) -> None:
        words = find_words(shakespeare)
        hasher = WordHasher()
        grams = hasher.grams(hasher.words(words), [8, 13])
        for n in (8, 13):
            assert len(np.unique(grams[n])) == len(plain_grams(shakespeare, n))


SENTENCE = "The quick brown fox jumps over the lazy dog while seven wizards quietly box in the rain"


class TestWhatCounts:
    def test_no_n_gram_spans_two_documents(self) -> None:
        first, second = SENTENCE[:40], SENTENCE[40:]
        assert look([SENTENCE], [*pieces_of(0, SENTENCE, [])])[0].found == 5
        assert look([SENTENCE], [*pieces_of(0, first, []), *pieces_of(1, second, [])])[0].found == 0
        assert look([SENTENCE], pieces_of(0, SENTENCE, [40]))[0].found == 5

    def test_case_and_punctuation_do_not_hide_an_item(self) -> None:
        hidden = SENTENCE.upper().replace(" ", "\n -- ") + "!"
        [finding] = look([SENTENCE], pieces_of(7, f"Before. {hidden} After.", []))
        [passage] = finding.passages
        assert (finding.found, finding.grams, passage.words) == (5, 5, 17)
        assert str(passage.place) == "train-00000.npy document 7"
        assert passage.training == hidden[:-1]
        assert passage.item == SENTENCE

    def test_a_short_item_is_one_n_gram_and_a_shorter_one_is_not_looked_for(self) -> None:
        eight, seven = " ".join(SENTENCE.split()[:8]), " ".join(SENTENCE.split()[:7])
        findings = look([eight, seven], pieces_of(0, SENTENCE, []))
        assert [(f.grams, f.found) for f in findings] == [(1, 1), (0, 0)]

    def test_counting_and_zeros_are_no_contamination(self) -> None:
        counting = " ".join(map(str, range(40)))
        zeros, words = "0 " * 40, "so " * 40
        text = f"{counting} {zeros} {words}"
        findings = look([counting, zeros, words], pieces_of(0, text, []))
        assert [(f.grams, f.found) for f in findings] == [(0, 0)] * 3

    def test_a_text_that_is_everywhere_is_named_in_three_documents(self) -> None:
        pieces = [p for i in range(50) for p in pieces_of(i, f"{SENTENCE} and {i}", [])]
        finding, other = look([SENTENCE, SENTENCE], pieces, batch_characters=300)
        assert [p.place.number for p in finding.passages] == [0, 1, 2]
        assert finding.found == other.found == 5

    def test_the_longest_run_of_a_document_is_shown(self) -> None:
        words = SENTENCE.split()
        text = f"{' '.join(words[:13])} stop {' '.join(words[1:17])} stop {' '.join(words[:13])}"
        [finding] = look([SENTENCE], pieces_of(0, text, []))
        assert [p.words for p in finding.passages] == [16]

    @pytest.mark.parametrize("cut", [0, 7])
    def test_a_word_of_ten_million_letters_is_passed_through(self, cut: int) -> None:
        text = f"{SENTENCE} {'x' * 10_000_000}the quick {SENTENCE}"
        [finding] = look([SENTENCE], pieces_of(0, text, [i * 999_983 + cut for i in range(10)]))
        assert finding.found == 5
        assert len(finding.passages) == 1


@pytest.fixture(scope="module")
def peps(shared_data: Path) -> list[str]:
    parquet = pytest.importorskip("pyarrow.parquet")
    files = sorted((shared_data / "pep").glob("*.parquet"))
    return [t for f in files for t in parquet.read_table(f)["text"].to_pylist()]


class TestRealText:
    def test_planted_items_of_hellaswag_are_found_and_no_others(
        self, tmp_path: Path, peps: list[str], shared_data: Path, gpt2_vocabulary: Path
    ) -> None:
        items = load_items(shared_data / "hellaswag" / "hellaswag_val_600.jsonl")
        assert len(items) == 600
        planted = [3, 77, 400, 599]
        (tmp_path / "text").mkdir()
        for i, text in enumerate(peps[:200]):
            middle = len(text) // 2
            extra = f" {items[planted[i]].text.upper()} " if i < len(planted) else ""
            (tmp_path / f"text/{i:03}.txt").write_text(text[:middle] + extra + text[middle:])
        source = Source("pep", str(tmp_path / "text"))
        made = prepare(
            [source], tmp_path / "data", PrepareOptions(val_fraction=0.0, allow_no_validation=True)
        )
        result = find_contamination(made.folder, items)
        found = {f.item.where: f for f in result.contaminated}
        assert set(found) == {f"line {i + 1}" for i in planted}
        for number, i in enumerate(planted):
            finding = found[f"line {i + 1}"]
            assert finding.found == finding.grams
            assert [p.place.number for p in finding.passages] == [number]
            assert plain_words(finding.passages[0].item) == plain_words(items[i].text)
        assert (result.looked_at, result.tokens) == (1.0, made.manifest.total("tokens", "train"))

    def test_the_peps_are_clean_of_hellaswag_and_of_the_instructions(
        self, peps: list[str], shared_data: Path
    ) -> None:
        items = load_items(shared_data / "hellaswag" / "hellaswag_val_600.jsonl")
        items += load_items(
            shared_data / "instructions" / "instruction_data_1100.json", part="test"
        )
        assert len(items) == 710
        texts = [item.text for item in items]
        chosen = peps[::12]
        found = look(texts, [p for i, t in enumerate(chosen) for p in pieces_of(i, t, [])])
        assert [(f.grams, f.found) for f in found] == plain_found(texts, chosen, 13)
        assert not any(f.found for f in found)
