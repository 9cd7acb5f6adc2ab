"""Training keeps its promises; files keep their identity; names are checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from tokenizers import Tokenizer as LibraryTokenizer
from tokenizers import decoders, models, pre_tokenizers

from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.build import (
    PATTERNS,
    bytes_tokenizer,
    chars_tokenizer,
    make_tokenizer,
    train_bpe,
)
from fromscratch.tokenizer.names import bpe_size, needs_training, vocab_size_of
from fromscratch.tokenizer.tokenizer import END_OF_TEXT, Tokenizer, byte_alphabet, load_tokenizer

TEXTS = [
    f"The number {i} and the number {i * 7}: {chr(97 + i % 26) * 3}{i}x.\n" for i in range(300)
]


def reference_merges(texts: list[str], n_merges: int) -> list[tuple[bytes, bytes]]:
    """Sennrich et al. (2016) on bytes, the slow way; each text is one word."""
    words: dict[tuple[bytes, ...], int] = {}
    for text in texts:
        key = tuple(bytes([b]) for b in text.encode())
        words[key] = words.get(key, 0) + 1
    merges = []
    for _ in range(n_merges):
        pairs: dict[tuple[bytes, bytes], int] = {}
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] = pairs.get(pair, 0) + count
        if not pairs:
            break
        best = max(pairs.values())
        winners = [p for p, c in pairs.items() if c == best]
        assert len(winners) == 1, "the example text must have no ties"
        merges.append(winners[0])
        merged = {}
        for word, count in words.items():
            parts, i = [], 0
            while i < len(word):
                if word[i : i + 2] == winners[0]:
                    parts.append(word[i] + word[i + 1])
                    i += 2
                else:
                    parts.append(word[i])
                    i += 1
            merged[tuple(parts)] = merged.get(tuple(parts), 0) + count
        words = merged
    return merges


class TestTraining:
    def test_the_first_merges_are_those_of_the_algorithm(self) -> None:
        texts = ["bcd"] * 50 + ["bce"] * 30 + ["aaaa"] * 11 + ["dd"] * 20 + ["xyz"]
        merges = reference_merges(texts, 6)
        spelled = byte_alphabet()
        tokenizer = train_bpe(texts, vocab_size=257 + 6)
        learned = json.loads(tokenizer._content)["model"]["merges"]
        expected = [["".join(spelled[b] for b in part) for part in merge] for merge in merges]
        assert [m if isinstance(m, list) else m.split(" ") for m in learned] == expected

    @pytest.mark.parametrize("size", [257, 258, 300, 400])
    def test_the_vocabulary_has_the_size_that_was_asked_for(self, size: int) -> None:
        tokenizer = train_bpe(TEXTS, vocab_size=size)
        assert tokenizer.vocab_size == size
        assert tokenizer.eot_id == size - 1
        # All bytes are there, so nothing is ever unknown.
        assert all(len(tokenizer.encode(chr(b))) >= 1 for b in range(256))

    def test_a_small_text_fills_no_large_vocabulary(self) -> None:
        tokenizer = train_bpe(["ab ab"], vocab_size=1000)
        assert 257 < tokenizer.vocab_size < 270
        assert tokenizer.decode(tokenizer.encode("ab \u00e9")) == "ab \u00e9"

    def test_the_same_text_gives_the_same_tokenizer(self) -> None:
        first, second = (train_bpe(iter(TEXTS), vocab_size=400) for _ in range(2))
        assert first.fingerprint == second.fingerprint
        assert first._content == second._content

    def test_also_in_other_processes_and_with_other_numbers_of_threads(self) -> None:
        program = (
            "from fromscratch.tokenizer.build import train_bpe\n"
            "import json, sys\n"
            "print(train_bpe(json.load(sys.stdin), vocab_size=400).fingerprint)"
        )
        prints = {train_bpe(TEXTS, vocab_size=400).fingerprint}
        for threads in ("1", "4"):
            environment = os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
            done = subprocess.run(
                [sys.executable, "-c", program],
                env=environment,
                input=json.dumps(TEXTS),
                check=True,
                capture_output=True,
                text=True,
            )
            prints.add(done.stdout.strip())
        assert len(prints) == 1

    def test_text_with_lone_surrogates_can_be_learned_from(self) -> None:
        assert train_bpe(["ab\ud800 ab"], vocab_size=300).vocab_size > 257

    def test_patterns(self) -> None:
        text = "price 12345, it's\n\n  x = y\n"
        assert set(PATTERNS) >= {"gpt2", "modern"}
        many = ["12345 12345 12345 it's it's\n\n  x = y\n"] * 50
        modern, old = (train_bpe(many, vocab_size=400, pattern=p) for p in ("modern", "gpt2"))
        assert modern.fingerprint != old.fingerprint
        # Modern cuts digits in groups of at most two, GPT-2's pattern takes them all.
        longest = {
            t: max(
                len(t.decode([i])) for i in t.encode(" 12345") if t.decode([i]).strip().isdigit()
            )
            for t in (modern, old)
        }
        assert longest[modern] == 2
        assert longest[old] == 6
        assert modern.decode(modern.encode(text)) == old.decode(old.encode(text)) == text

    def test_an_unknown_pattern(self) -> None:
        with pytest.raises(UserError, match='Did you mean "modern"'):
            train_bpe(TEXTS, vocab_size=300, pattern="moderm")


class TestIdentity:
    @pytest.fixture
    def each(self, gpt2: Tokenizer) -> list[Tokenizer]:
        return [
            gpt2,
            bytes_tokenizer(),
            chars_tokenizer(TEXTS),
            chars_tokenizer(["abc"]),
            train_bpe(TEXTS, vocab_size=300),
            train_bpe(TEXTS, vocab_size=301),
            train_bpe(TEXTS, vocab_size=300, pattern="gpt2"),
            train_bpe(TEXTS[:2], vocab_size=300),
        ]

    def test_fingerprints_tell_them_apart_and_survive_the_file(
        self, each: list[Tokenizer], tmp_path: Path
    ) -> None:
        prints = [t.fingerprint for t in each]
        assert len(set(prints)) == len(prints)
        for number, tokenizer in enumerate(each):
            folder = tmp_path / str(number)
            folder.mkdir()
            tokenizer.save(folder)
            loaded = load_tokenizer(folder)
            assert loaded.fingerprint == tokenizer.fingerprint
            assert loaded.name == tokenizer.name
            assert loaded.vocab_size == tokenizer.vocab_size
            assert load_tokenizer(folder / "tokenizer.json").fingerprint == tokenizer.fingerprint
            text = tokenizer.decode([0, 1, 2, 1, 0])
            assert loaded.encode(text) == tokenizer.encode(text)
            again = tmp_path / f"{number}-again"
            again.mkdir()
            loaded.save(again)
            for name in ("tokenizer.json", "tokenizer_config.json"):
                assert (again / name).read_bytes() == (folder / name).read_bytes()

    def test_indentation_of_the_file_does_not_matter(self, tmp_path: Path) -> None:
        tokenizer = bytes_tokenizer()
        spaced = json.dumps(json.loads(tokenizer._content), indent=8)
        assert Tokenizer(spaced, name="bytes").fingerprint == tokenizer.fingerprint

    def test_gpt2_from_a_checkpoint_needs_no_download(
        self, gpt2: Tokenizer, tmp_path: Path
    ) -> None:
        gpt2.save(tmp_path)
        program = (
            "import sys; from pathlib import Path\n"
            "from fromscratch.tokenizer.tokenizer import load_tokenizer\n"
            'print(load_tokenizer(Path(sys.argv[1])).encode("Hello, I\'m a language model,"))'
        )
        environment = os.environ | {
            "TIKTOKEN_CACHE_DIR": str(tmp_path / "no-cache"),
            "HTTPS_PROXY": "http://127.0.0.1:9",
        }
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        assert json.loads(done.stdout) == [15496, 11, 314, 1101, 257, 3303, 2746, 11]


def foreign(**changes: object) -> str:
    """A byte-level tokenizer.json as other tools write them, with changes."""
    vocab = {c: i for i, c in enumerate(byte_alphabet())} | {END_OF_TEXT: 256}
    library = LibraryTokenizer(models.BPE(vocab=vocab, merges=[]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([END_OF_TEXT])
    return json.dumps(json.loads(library.to_str()) | changes)


class TestForeignFiles:
    def test_one_that_has_end_of_text_in_its_vocabulary(self) -> None:
        tokenizer = Tokenizer(foreign(), name="bpe")
        assert (tokenizer.vocab_size, tokenizer.eot_id) == (257, 256)
        assert tokenizer.bytes_per_id[256] == 0
        ids = tokenizer.encode(f"a{END_OF_TEXT}")
        assert 256 not in ids
        assert tokenizer.decode(ids) == f"a{END_OF_TEXT}"

    def test_a_limit_in_the_file_cuts_no_text(self) -> None:
        limit = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
        padding = {
            "strategy": {"Fixed": 16},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "!",
        }
        tokenizer = Tokenizer(foreign(truncation=limit, padding=padding), name="bpe")
        assert tokenizer.decode(tokenizer.encode("longer than four")) == "longer than four"
        assert len(tokenizer.encode("abcd efg")) == 8

    def test_added_tokens_that_are_text(self) -> None:
        added = json.loads(foreign())["added_tokens"]
        for i, content in ((257, "<think>"), (258, "two words \u00e9")):
            added.append(added[0] | {"id": i, "content": content, "special": False})
        tokenizer = Tokenizer(foreign(added_tokens=added), name="bpe")
        text = "a<think>b two words \u00e9"
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert int(tokenizer.bytes_per_id[tokenizer.encode(text)].sum()) == len(text.encode())

    @pytest.mark.parametrize(
        "changes",
        [
            {"decoder": None},
            {"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}},
            {
                "model": {
                    "type": "WordLevel",
                    "vocab": {"a": 0, END_OF_TEXT: 256},
                    "unk_token": "a",
                }
            },
        ],
    )
    def test_kinds_that_do_not_give_text_back_are_refused(self, changes: dict) -> None:
        with pytest.raises(UserError, match="cannot be read"):
            Tokenizer(foreign(**changes), name="bpe")

    def test_without_an_end_of_text(self) -> None:
        content = json.loads(foreign(added_tokens=[]))
        del content["model"]["vocab"][END_OF_TEXT]
        with pytest.raises(UserError, match="end documents"):
            Tokenizer(json.dumps(content), name="bpe")

    @pytest.mark.parametrize("content", [b"", b"{}", b"no json", b"\xff\xfe\x00"])
    def test_no_tokenizer_at_all(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "tokenizer.json").write_bytes(content)
        with pytest.raises(UserError):
            load_tokenizer(tmp_path)

    def test_a_folder_without_one(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="tokenizer train"):
            load_tokenizer(tmp_path)

    def test_a_broken_companion_file(self, tmp_path: Path) -> None:
        bytes_tokenizer().save(tmp_path)
        (tmp_path / "tokenizer_config.json").write_text("{")
        with pytest.raises(UserError, match="JSON"):
            load_tokenizer(tmp_path)


class TestNames:
    @pytest.mark.parametrize(
        ("spec", "trained", "size"),
        [
            ("gpt2", False, 50257),
            ("bytes", False, 257),
            ("chars", True, None),
            ("bpe:4096", True, 4096),
            ("bpe:4096:gpt2", True, 4096),
            ("some/path", False, None),
        ],
    )
    def test_what_a_name_implies(self, spec: str, trained: bool, size: int | None) -> None:
        assert needs_training(spec) == trained
        assert vocab_size_of(spec) == size

    @pytest.mark.parametrize("spec", ["bpe:", "bpe:256", "bpe:-1", "bpe:many", "bpe:2000000"])
    def test_sizes_that_cannot_be(self, spec: str) -> None:
        with pytest.raises(UserError, match="at least 257"):
            bpe_size(spec)

    def test_each_name_makes_its_kind(self, gpt2: Tokenizer, tmp_path: Path) -> None:
        assert make_tokenizer("gpt2").fingerprint == gpt2.fingerprint
        assert make_tokenizer("bytes").name == "bytes"
        assert make_tokenizer("chars", ["ab"]).vocab_size == 3
        trained = make_tokenizer("bpe:300", TEXTS)
        assert trained.vocab_size == 300
        trained.save(tmp_path)
        assert make_tokenizer(str(tmp_path)).fingerprint == trained.fingerprint

    def test_a_misspelled_name(self) -> None:
        with pytest.raises(UserError, match='Did you mean "gpt2"'):
            make_tokenizer("gtp2")
