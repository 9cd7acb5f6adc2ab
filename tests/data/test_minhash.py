"""Band keys: what a word is, no influence of batches and blocks, and which real texts meet."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.data.duplicates import near_duplicates_across
from fromscratch.data.minhash import near_bands, signatures

# What the module's docstring says a word is, said once more in characters instead of bytes.
_IDEOGRAPH = "\u3000-\u9fff"
_WORD = re.compile(f"[{_IDEOGRAPH}]|[0-9A-Za-z\u00c0-\u1fff\ua000-\U0010ffff]+")
_TEXT = st.text(
    st.one_of(
        st.sampled_from("aAbB1 \n.,\u00e9\u00a0\u2019\u2014\u4e2d\u6587\u3042\uac00\U0001f600"),
        st.characters(codec="utf-8"),
    ),
    max_size=80,
)


_LOWER = {ord(c): ord(c.lower()) for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def words_of(text: str) -> list[str]:
    return _WORD.findall(text.translate(_LOWER))


def shingles_of(text: str) -> frozenset[tuple[str, ...]]:
    words = words_of(text)
    return frozenset(tuple(words[i : i + 5]) for i in range(len(words) - 4))


def jaccard(a: str, b: str) -> float:
    first, second = shingles_of(a), shingles_of(b)
    return len(first & second) / len(first | second)


def edited(text: str, share: float, seed: int) -> str:
    """The text with a share of its words replaced, each by a word of its own."""
    pieces = re.split(r"(\s+)", text)
    places = [i for i, piece in enumerate(pieces) if piece.strip()]
    rng = np.random.default_rng(seed)
    for n, i in enumerate(rng.choice(places, int(share * len(places)), replace=False)):
        pieces[i] = f"other{seed}x{n}"
    return "".join(pieces)


@pytest.fixture(scope="module")
def peps(shared_data: Path) -> list[str]:
    texts: list[str] = []
    for path in sorted((shared_data / "pep").glob("*.parquet")):
        texts += pq.read_table(path, columns=["text"])["text"].to_pylist()
    assert len(texts) == 736
    return texts


def test_the_keys_of_a_text_are_what_they_always_were() -> None:
    """Fails when numpy, rensa or our hash changes: then kept logs no longer fit, so say so."""
    keys = near_bands(
        ["The quick brown fox jumps over the lazy dog, d\u00e9j\u00e0 vu \u2014 \u4e2d\u6587."]
    )
    assert keys.shape == (1, 14)
    assert [hex(key) for key in keys[0, [0, 1, 13]].tolist()] == [
        "0xb034c9e24b32b717",
        "0xc90313b8a737eb0d",
        "0xa7e32c6c6a399264",
    ]


@given(st.lists(_TEXT, max_size=6))
def test_only_the_words_count_and_each_text_alone(texts: list[str]) -> None:
    keys = near_bands(texts)
    assert keys.shape == (len(texts), 14)
    minima, comparable = signatures(texts)
    for i, text in enumerate(texts):
        plain = near_bands([" ".join(words_of(text))])
        assert (keys[i] == plain[0]).all()
        assert comparable[i] == (len(words_of(text)) >= 5)
        assert (keys[i] != 0).all() if comparable[i] else (keys[i] == 0).all()
        for j in range(i):
            same = shingles_of(text) == shingles_of(texts[j])
            assert same == bool((minima[i] == minima[j]).all())


def test_a_long_text_is_the_same_however_its_blocks_fall(peps: list[str]) -> None:
    long = "\n".join(peps[:60])
    assert len(long) > 500_000
    keys = near_bands(["short", long, "a few words that stand alone", long + " "])
    assert (keys[1] == near_bands(["   ".join(words_of(long))])[0]).all()
    assert (keys[1] == keys[3]).all()
    assert (keys[2] == near_bands(["A few words, that stand alone!"])[0]).all()
    # One word of a megabyte: blocks have to cut it, and always in the same places.
    assert (near_bands(["x" * 1_000_000 + long])[0] != 0).all()


def test_equal_minima_estimate_the_true_similarity(peps: list[str]) -> None:
    texts = [pep for pep in peps if len(pep) > 4000][:60]
    for share in (0.01, 0.05, 0.1):
        others = [edited(text, share, seed) for seed, text in enumerate(texts)]
        true = np.array([jaccard(a, b) for a, b in zip(texts, others, strict=True)])
        found = (signatures(texts)[0] == signatures(others)[0]).mean(axis=1)
        deviation = (found - true) / np.sqrt(true * (1 - true) / 112)
        assert abs(deviation.mean()) < 0.6  # of 60 deviations of 1: about 0.13
        assert abs(deviation).max() < 5


def test_light_edits_are_found(peps: list[str]) -> None:
    texts = [pep for pep in peps if len(pep) > 2000][:300]
    keys = near_bands(texts)
    for share, recall in ((0.01, 0.98), (0.02, 0.9)):
        other = near_bands([edited(text, share, seed) for seed, text in enumerate(texts)])
        assert (keys == other).any(axis=1).mean() >= recall


def all_similarities(texts: list[str]) -> np.ndarray:
    """The true Jaccard similarity of every two texts, (n, n)."""
    vocabulary: dict[str, int] = {}
    words = [[vocabulary.setdefault(w, len(vocabulary)) for w in words_of(t)] for t in texts]
    flat = np.concatenate([np.array(one, dtype=np.int64) for one in words])
    text_of = np.repeat(np.arange(len(texts)), [len(one) for one in words])
    runs = flat[:-4]
    for step in range(1, 5):  # numbers of runs of two words, three, four, five
        pairs = runs * len(vocabulary) + flat[step : len(flat) - 4 + step]
        runs = np.unique(pairs, return_inverse=True)[1]
    inside = text_of[:-4] == text_of[4:]
    n_runs = int(runs.max()) + 1
    owner, runs = np.divmod(np.unique(text_of[:-4][inside] * n_runs + runs[inside]), n_runs)
    sizes = np.bincount(owner, minlength=len(texts))
    several = np.bincount(runs)[runs] > 1
    owner, column = owner[several], np.unique(runs[several], return_inverse=True)[1]
    shared = np.zeros((len(texts), len(texts)))
    for start in range(0, int(column.max()) + 1, 8192):
        here = (column >= start) & (column < start + 8192)
        part = np.zeros((len(texts), 8192), dtype=np.float32)
        part[owner[here], column[here] - start] = 1
        shared += part @ part.T
    return shared / np.maximum(sizes[:, None] + sizes[None, :] - shared, 1)


@pytest.mark.slow
def test_different_documents_never_meet(peps: list[str]) -> None:
    """All 270,480 pairs of PEPs by their true similarity, from an exact count of shared runs."""
    true = all_similarities(peps)
    keys = near_bands(peps)
    met = ((keys[:, None, :] == keys[None, :, :]) & (keys[:, None, :] != 0)).any(axis=2)
    np.fill_diagonal(met, False)
    assert true.shape == met.shape == (736, 736)
    assert not met[true < 0.3].any()
    np.fill_diagonal(true, 0.0)
    for i, j in np.argwhere(true > 0.1)[::40]:
        assert true[i, j] == pytest.approx(jaccard(peps[i], peps[j]))
    assert met[true >= 0.95].all()


def test_copies_across_the_split_are_counted_and_shown(peps: list[str]) -> None:
    held_out = [(f"held {i}", pep) for i, pep in enumerate(peps[:40])]
    copies = {i: edited(peps[i], 0.01, i) for i in (3, 7, 11, 19, 23)}
    copies[7] = peps[7]
    training = [(f"train {i}", pep) for i, pep in enumerate(peps[40:300], 40)]
    training += [(f"copy {i}", copy) for i, copy in copies.items()]
    alone = near_duplicates_across(held_out, training[:260])
    across = near_duplicates_across([("tiny", "one two"), *held_out], training, n_pairs=3)
    assert (across.compared, across.passed_over) == (40, 1)
    assert across.near == len(set(copies) | {int(pair.held_out.split()[1]) for pair in alone.pairs})
    assert len(across.pairs) == 3
    best = across.pairs[0]
    assert (best.held_out, best.training, best.similarity) == ("held 7", "copy 7", 1.0)
    assert best.held_out_text == best.training_text == peps[7][: len(best.held_out_text)]
    for pair in across.pairs[1:]:
        number = int(pair.held_out.split()[1])
        assert abs(pair.similarity - jaccard(peps[number], copies[number])) < 0.15
    limited = near_duplicates_across(held_out, training, limit=5)
    assert (limited.compared, limited.passed_over, limited.near) == (5, 35, 1)
    assert near_duplicates_across([], training).near == 0


def test_without_the_package_the_error_names_what_to_install() -> None:
    code = """
import sys
sys.modules["rensa"] = None
from fromscratch.data.duplicates import near_bands
from fromscratch.foundation.errors import UserError
try:
    near_bands(["one two three four five"])
except UserError as error:
    print(error.fix)
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["pip install 'fromscratch[dedup]'", "False"]
