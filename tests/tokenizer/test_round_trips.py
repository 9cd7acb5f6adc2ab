"""Any text comes back exactly; ids are those of the peers that read the same file."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import re
import string
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tiktoken
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer as LibraryTokenizer

from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.build import bytes_tokenizer, chars_tokenizer, train_bpe
from fromscratch.tokenizer.texts import encodable
from fromscratch.tokenizer.tokenizer import END_OF_TEXT, Tokenizer

NASTY = [
    "",
    " ",
    "\n\n\n",
    "   leading and trailing   ",
    "tabs\t\tand\r\nwindows\rline ends",
    "\u00a0\u3000\u2028 odd spaces \u200b\ufeff",
    END_OF_TEXT,
    f"a{END_OF_TEXT}{END_OF_TEXT} b<|endoftext",
    "\x00\x01\x7f\x80\xad\xff",
    "don't DON'T we'll I've 'tis 's",
    "na\u00efve cafe\u0301 \ufb01ne \u0130stanbul \u1e9e",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \U0001f600",
    "\u4f60\u597d\u4e16\u754c \u0645\u0631\u062d\u0628\u0627 \u0928\u092e\u0938\u094d\u0924\u0947",
    "0123456789 3.14159 \u0664\u0665 \u2167 \u00bd",
    "def f(x):\n    return x  # ok\n\n\n\tpass\n",
    "a" * 2000 + " " * 300 + "\n" * 50 + "!?" * 100,
    "\ufffd\ufffd",
]
KINDS = ["gpt2", "bytes", "bpe", "bpe-gpt2-pattern", "bpe-line"]
ANY_TEXT = st.text(alphabet=st.characters(), max_size=60)  # lone surrogates included
LONE = re.compile("[\ud800-\udfff]")


class Kinds(dict[str, Tokenizer]):
    """Tokenizers by kind; asking for GPT-2's skips where its files are not at hand."""

    def __missing__(self, kind: str) -> Tokenizer:
        pytest.skip(f"The files of {kind} are not here; see FROMSCRATCH_TEST_DATA.")


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    """Real text that every machine has."""
    text = inspect.getsource(argparse) + " ".join(string.printable)
    return [text[i : i + 2000] for i in range(0, len(text), 2000)]


@pytest.fixture(scope="module")
def every(request: pytest.FixtureRequest, corpus: list[str]) -> dict[str, Tokenizer]:
    kinds = Kinds(
        {
            "bytes": bytes_tokenizer(),
            "bpe": train_bpe(corpus, vocab_size=600),
            "bpe-gpt2-pattern": train_bpe(corpus, vocab_size=600, pattern="gpt2"),
            "bpe-line": train_bpe(corpus, vocab_size=600, pattern="line"),
            "chars": chars_tokenizer(NASTY + corpus),
        }
    )
    with contextlib.suppress(pytest.skip.Exception):
        kinds["gpt2"] = request.getfixturevalue("gpt2")
    return kinds


@pytest.fixture(scope="module")
def saved(every: dict[str, Tokenizer], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for kind, tokenizer in every.items():
        folders[kind] = tmp_path_factory.mktemp(kind)
        tokenizer.save(folders[kind], context=1024)
    return folders


@pytest.mark.parametrize("kind", KINDS)
@given(text=ANY_TEXT)
@example(text=f"x{END_OF_TEXT}y")
@example(text="\ud83d")
@example(text="half \udc00\ud800 pairs")
def test_any_string_comes_back(every: dict[str, Tokenizer], kind: str, text: str) -> None:
    tokenizer = every[kind]
    expected = encodable(text)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == expected
    assert tokenizer.decode_bytes(ids) == expected.encode("utf-8")
    assert int(tokenizer.bytes_per_id[np.array(ids, dtype=np.int64)].sum()) == len(
        expected.encode("utf-8")
    )
    assert tokenizer.eot_id not in ids
    assert all(0 <= i < tokenizer.vocab_size for i in ids)


@given(text=ANY_TEXT)
def test_only_lone_surrogates_are_replaced(text: str) -> None:
    # A high and a low one side by side are one character, as in UTF-16.
    paired = re.sub(
        "[\ud800-\udbff][\udc00-\udfff]",
        lambda m: m.group().encode("utf-16-le", "surrogatepass").decode("utf-16-le"),
        text,
    )
    assert encodable(text) == LONE.sub("\ufffd", paired)


@pytest.mark.parametrize("kind", [*KINDS, "chars"])
@pytest.mark.parametrize("text", NASTY)
def test_nasty_strings_have_the_ids_that_the_libraries_give(
    every: dict[str, Tokenizer], saved: dict[str, Path], kind: str, text: str
) -> None:
    tokenizer = every[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    library = LibraryTokenizer.from_file(str(saved[kind] / "tokenizer.json"))
    library.encode_special_tokens = True  # text as text, as ours always is
    assert library.encode(text, add_special_tokens=False).ids == ids
    assert library.decode(ids) == text
    if kind == "gpt2":
        assert ids == tiktoken.get_encoding("gpt2").encode_ordinary(text)


@given(text=ANY_TEXT)
def test_gpt2_ids_are_tiktokens(every: dict[str, Tokenizer], text: str) -> None:
    cleaned = encodable(text)
    assert every["gpt2"].encode(text) == tiktoken.get_encoding("gpt2").encode_ordinary(cleaned)


@pytest.mark.parametrize("kind", [*KINDS, "chars"])
def test_many_texts_at_once_from_many_threads(every: dict[str, Tokenizer], kind: str) -> None:
    tokenizer = every[kind]
    texts = NASTY * 3
    expected = [tokenizer.encode(text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        for ids, lengths in pool.map(tokenizer.encode_ragged, [texts] * 8):
            assert (ids.dtype, lengths.dtype) == (np.uint32, np.int64)
            assert [part.tolist() for part in np.split(ids, lengths.cumsum()[:-1])] == expected
    ids, lengths = tokenizer.encode_ragged([])
    assert (ids.shape, lengths.shape) == ((0,), (0,))


@pytest.fixture(scope="module")
def without_tiktoken(gpt2: Tokenizer, saved: dict[str, Path]) -> Tokenizer:
    """GPT-2 as Hugging Face tokenizers runs it."""
    content = (saved["gpt2"] / "tokenizer.json").read_text(encoding="utf-8")
    return Tokenizer(content, name="bpe")


@given(text=ANY_TEXT)
def test_gpt2s_file_gives_the_same_ids_without_tiktoken(
    every: dict[str, Tokenizer], without_tiktoken: Tokenizer, text: str
) -> None:
    assert without_tiktoken.encode(text) == every["gpt2"].encode(text)


@pytest.mark.parametrize("kind", [*KINDS, "chars"])
def test_transformers_reads_the_folder(
    every: dict[str, Tokenizer], saved: dict[str, Path], kind: str
) -> None:
    transformers = pytest.importorskip("transformers")
    ours = every[kind]
    theirs = transformers.AutoTokenizer.from_pretrained(saved[kind])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(saved[kind] / "tokenizer.json"))
    assert theirs.eos_token_id == theirs.bos_token_id == ours.eot_id
    assert len(theirs) == ours.vocab_size
    assert theirs.model_max_length == 1024
    for text in NASTY:
        if END_OF_TEXT in text:
            continue  # they read it as the special token, which is what ours never does
        ids = ours.encode(text)
        assert theirs.encode(text, add_special_tokens=False) == ids
        assert fast.encode(text, add_special_tokens=False) == ids
        assert theirs.decode(ids, clean_up_tokenization_spaces=False) == text
    special = theirs.encode(f"a{END_OF_TEXT}", add_special_tokens=False)
    assert special == [*ours.encode("a"), ours.eot_id]


def test_gpt2_has_its_published_ids(gpt2: Tokenizer) -> None:
    # From OpenAI's own encoder: "Hello, I'm a language model," as in build-nanogpt.
    assert gpt2.encode("Hello, I'm a language model,") == [
        15496,
        11,
        314,
        1101,
        257,
        3303,
        2746,
        11,
    ]
    assert gpt2.vocab_size == 50257
    assert gpt2.eot_id == 50256
    assert gpt2.name == "gpt2"


def test_real_text_in_all_kinds(
    every: dict[str, Tokenizer], gpt2: Tokenizer, shakespeare: str
) -> None:
    pieces = [shakespeare[i : i + 5000] for i in range(0, 300_000, 5000)]
    sizes = {}
    for kind, tokenizer in every.items():
        encoded = tokenizer.encode_batch(pieces)
        assert [tokenizer.decode(ids) for ids in encoded] == pieces
        sizes[kind] = sum(map(len, encoded))
    assert sizes["bytes"] == sizes["chars"] == 300_000
    assert sizes["gpt2"] < sizes["bpe"] < 250_000


@pytest.mark.parametrize("kind", ["gpt2", "bpe", "bpe-line"])
@pytest.mark.parametrize("character", [" ", "\n", "^", "a", "7", "\U0001f600"])
def test_a_very_long_run_of_one_character(
    every: dict[str, Tokenizer], kind: str, character: str
) -> None:
    text = "x" + character * 200_000 + "y"
    assert every[kind].decode(every[kind].encode(text)) == text


class TestDecoding:
    @pytest.mark.parametrize("kind", [*KINDS, "chars"])
    @given(data=st.data())
    def test_any_ids_decode_and_stream_to_the_same_text(
        self, every: dict[str, Tokenizer], kind: str, data: st.DataObject
    ) -> None:
        tokenizer = every[kind]
        ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=40))
        text = tokenizer.decode(ids)
        assert "".join(tokenizer.decode_stream(iter(ids))) == text
        assert "".join(tokenizer.decode_stream(ids)) == text

    @given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
    def test_streamed_text_never_has_half_a_character(
        self, every: dict[str, Tokenizer], text: str
    ) -> None:
        pieces = list(every["bytes"].decode_stream(iter(text.encode("utf-8"))))
        assert pieces == list(text)  # each byte is an id, each piece one whole character

    def test_a_character_waits_for_its_last_byte(self, every: dict[str, Tokenizer]) -> None:
        arrived: list[str] = []
        seen = []

        def ids():
            for byte in "a\u00e9\U0001f600".encode():
                seen.append(len(arrived))
                yield byte

        for piece in every["bytes"].decode_stream(ids()):
            arrived.append(piece)
        assert arrived == ["a", "\u00e9", "\U0001f600"]
        assert seen == [0, 1, 1, 2, 2, 2, 2]

    def test_half_a_character_at_the_end_becomes_a_mark(self, every: dict[str, Tokenizer]) -> None:
        ids = list("\U0001f600".encode())[:3]
        assert every["bytes"].decode(ids) == "\ufffd"
        assert list(every["bytes"].decode_stream(ids)) == ["\ufffd"]

    @pytest.mark.parametrize("kind", [*KINDS, "chars"])
    def test_end_of_text_stands_for_no_bytes(self, every: dict[str, Tokenizer], kind: str) -> None:
        tokenizer = every[kind]
        assert tokenizer.decode([tokenizer.eot_id]) == ""
        assert tokenizer.bytes_per_id[tokenizer.eot_id] == 0
        assert (np.delete(tokenizer.bytes_per_id, tokenizer.eot_id) > 0).all()
        assert tokenizer.eot_id == tokenizer.vocab_size - 1


class TestCharacters:
    def test_one_id_a_character_in_order(self) -> None:
        tokenizer = chars_tokenizer(["hello", "w\u00f6rld\n"])
        assert tokenizer.vocab_size == len(set("hellow\u00f6rld\n")) + 1
        assert tokenizer.encode("\nd") == [0, 1]
        assert tokenizer.decode(tokenizer.encode("hello\nw\u00f6rld")) == "hello\nw\u00f6rld"

    def test_shakespeare_has_65(self, shakespeare: str) -> None:
        tokenizer = chars_tokenizer([shakespeare])
        assert tokenizer.vocab_size == 66
        # The ids of nanoGPT's shakespeare_char: characters sorted.
        assert tokenizer.encode("First") == [18, 47, 56, 57, 58]

    def test_a_character_it_does_not_have_is_the_users_business(self) -> None:
        with pytest.raises(UserError, match="'z'"):
            chars_tokenizer(["abc"]).encode("az")

    def test_also_when_only_the_file_was_kept(self, tmp_path: Path) -> None:
        from fromscratch.tokenizer.tokenizer import load_tokenizer

        chars_tokenizer(["abc"]).save(tmp_path)
        (tmp_path / "tokenizer_config.json").unlink()
        tokenizer = load_tokenizer(tmp_path)
        assert tokenizer.decode(tokenizer.encode("cab")) == "cab"
        with pytest.raises(UserError, match="'z'"):
            tokenizer.encode("az")

    @given(text=st.text(min_size=1, max_size=50))
    def test_any_text_makes_its_own_vocabulary(self, text: str) -> None:
        tokenizer = chars_tokenizer([text])
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert len(tokenizer.encode(text)) == len(text)

    def test_no_text_no_vocabulary(self) -> None:
        with pytest.raises(UserError, match="empty"):
            chars_tokenizer([""])
