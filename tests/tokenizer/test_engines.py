"""Every engine gives the ids that Hugging Face tokenizers, which defines them, gives."""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Iterator

import numpy as np
import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer

from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.build import bytes_tokenizer, train_bpe
from fromscratch.tokenizer.engines import parted
from fromscratch.tokenizer.self_test import nasty_texts
from fromscratch.tokenizer.texts import encodable
from fromscratch.tokenizer.tiktoken_form import _SPELLING, TiktokenForm, tiktoken_form
from fromscratch.tokenizer.tokenizer import END_OF_TEXT, Tokenizer

PROSE = [
    f"It's {i} o'clock; the {i * 37 % 1000}th number isn't {i / 7:.3f}!\n\n\tWe'll see: "
    f"\u00e9\u00e8 caf\u00e9 \u4f60\u597d na\u00efve   spaces  {'ab' * (i % 5)}\r\n"
    for i in range(400)
]
EVERY_CHARACTER = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF)
ANY_TEXT = st.text(
    alphabet=st.one_of(
        st.sampled_from([*" \n\t\r'sStlLdmrev019aZ!.<|>", "\u00a0", "\u2028", "\u4f60", "\u0301"]),
        st.characters(),
    ),
    max_size=80,
)


def ids_by_definition(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer._fast.encode(encodable(text), add_special_tokens=False).ids


def ids_of_all_by_definition(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    encoded = tokenizer._fast.encode_batch_fast(texts, add_special_tokens=False)
    return [e.ids for e in encoded]


def with_engine(content: str, *, fast: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(content, name="bpe")
    tokenizer.choose_engine(fast=fast)
    return tokenizer


def changed(tokenizer: Tokenizer, **model: object) -> str:
    spec = json.loads(tokenizer._content)
    spec["model"] |= model
    return json.dumps(spec)


@pytest.fixture(scope="module", params=["gpt2", "modern", "line"])
def trained(request: pytest.FixtureRequest) -> Tokenizer:
    return with_engine(train_bpe(PROSE, vocab_size=900, pattern=request.param)._content)


class TestTiktokenForAnyByteLevelBpe:
    def test_it_is_what_encodes(self, trained: Tokenizer) -> None:
        assert trained.engine_note == "Encoded by tiktoken."

    @pytest.mark.parametrize("text", nasty_texts()[:60] + PROSE[:5])
    def test_what_is_nasty(self, trained: Tokenizer, text: str) -> None:
        assert trained.encode(text) == ids_by_definition(trained, text)

    @given(text=ANY_TEXT)
    def test_any_text(self, trained: Tokenizer, text: str) -> None:
        ids = trained.encode(text)
        assert ids == ids_by_definition(trained, text)
        assert trained.decode(ids) == encodable(text)
        assert trained.eot_id not in ids

    def test_gpt2s_own(self, gpt2: Tokenizer) -> None:
        tokenizer = with_engine(gpt2._content)
        peer = tiktoken.get_encoding("gpt2")
        texts = [*nasty_texts(), *PROSE]
        ids = [part.tolist() for part in parted(tokenizer.encode_ragged(texts))]
        assert ids == [peer.encode_ordinary(text) for text in texts]
        assert tokenizer.engine_note == "Encoded by tiktoken."

    def test_from_much_text_on_without_being_asked(self) -> None:
        tokenizer = Tokenizer(train_bpe(PROSE, vocab_size=400)._content, name="bpe")
        first = tokenizer.encode(PROSE[0])
        assert tokenizer.engine_note == ""
        assert tokenizer.encode(PROSE[0] * 10_000)[: len(first) - 2] == first[:-2]
        assert tokenizer.engine_note == "Encoded by tiktoken."


@pytest.mark.parametrize(
    ("kind", "each"),
    [
        (r"\p{L}", "{}"),
        (r"\p{N}", "{}"),
        (r"\s", "{}"),
        (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'{}\n"),
        (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'l{}\n"),
    ],
)
def test_both_matchers_take_every_character_for_the_same(kind: str, each: str) -> None:
    """What the patterns are made of, against all code points: both find the same ones.

    tiktoken drops what stands between matches, so a pattern for one kind gives that kind back.
    """
    text = "".join(map(each.format, EVERY_CHARACTER))
    encoding = tiktoken.Encoding(
        "one",
        pat_str=kind,
        mergeable_ranks={bytes([b]): b for b in range(256)},
        special_tokens={END_OF_TEXT: 256},
    )
    theirs = bytes(encoding._core_bpe.encode_ordinary(text)).decode()
    split = pre_tokenizers.Split(Regex(kind), behavior="removed", invert=True)
    assert theirs == "".join(piece for piece, _ in split.pre_tokenize_str(text))


def test_the_patterns_are_made_of_nothing_else() -> None:
    for pattern in _SPELLING:
        rest = re.sub(r"\\p\{[LN]\}|\\[sSrnt]", "", pattern)
        assert "\\" not in rest


@pytest.fixture(scope="module")
def made() -> Tokenizer:
    return train_bpe(PROSE, vocab_size=700, pattern="gpt2")


class TestForeignFiles:
    """What other tools write differently, and that ids stay those of the library."""

    def check(self, content: str, engine: str) -> None:
        tokenizer = with_engine(content)
        assert engine in tokenizer.engine_note
        texts = [*nasty_texts(), *PROSE[:50]]
        ids = [part.tolist() for part in parted(tokenizer.encode_ragged(texts))]
        assert ids == ids_of_all_by_definition(tokenizer, texts)

    def test_whole_words_before_merges_as_llama(self, made: Tokenizer) -> None:
        self.check(changed(made, ignore_merges=True), "tiktoken")

    def test_every_way_to_make_a_token_listed_as_llama(self, made: Tokenizer) -> None:
        vocab = json.loads(made._content)["model"]["vocab"]
        by_id = sorted(vocab.items(), key=lambda item: item[1])
        merges = [
            [token[:cut], token[cut:]]
            for token, _ in by_id
            for cut in range(1, len(token))
            if token != END_OF_TEXT and token[:cut] in vocab and token[cut:] in vocab
        ]
        assert len(merges) > len(json.loads(made._content)["model"]["merges"])
        self.check(changed(made, merges=merges), "tiktoken")

    def test_merges_written_as_lines(self, made: Tokenizer) -> None:
        merges = json.loads(made._content)["model"]["merges"]
        lines = [" ".join(m) if isinstance(m, list) else m for m in merges]
        self.check(changed(made, merges=lines), "tiktoken")

    def test_merges_in_another_order_than_ids(self, made: Tokenizer) -> None:
        merges = json.loads(made._content)["model"]["merges"]
        self.check(changed(made, merges=merges[5:] + merges[:5]), "Hugging Face")

    def test_a_token_that_no_merge_reaches(self, made: Tokenizer) -> None:
        spec = json.loads(made._content)
        model = spec["model"]
        # The merges of two letters that later tokens are made from are gone; their ids are not.
        model["merges"] = [m for i, m in enumerate(model["merges"]) if i % 7]
        form = tiktoken_form(spec, made._bytes_of_id)
        assert not isinstance(form, str)
        assert 256 < len(form.ranks) < 600
        self.check(json.dumps(spec), "tiktoken")
        self.check(json.dumps(spec | {"model": model | {"ignore_merges": True}}), "Hugging Face")

    def test_a_normaliser(self, made: Tokenizer) -> None:
        spec = json.loads(made._content) | {"normalizer": {"type": "NFC"}}
        self.check(json.dumps(spec), "tiktoken")
        decomposed = "cafe\u0301 \u212b"
        assert (
            with_engine(json.dumps(spec)).decode(with_engine(json.dumps(spec)).encode(decomposed))
            == "caf\u00e9 \u00c5"
        )
        spec["normalizer"] = {"type": "Lowercase"}
        self.check(json.dumps(spec), "Hugging Face")

    def test_tokens_that_are_matched_in_text(self, made: Tokenizer) -> None:
        spec = json.loads(made._content)
        spec["added_tokens"].append(
            spec["added_tokens"][0] | {"id": 700, "content": "<think>", "special": False}
        )
        tokenizer = with_engine(json.dumps(spec))
        assert 700 in tokenizer.encode("a<think>b")
        self.check(json.dumps(spec), "tiktoken")

    @pytest.mark.parametrize("digits", [r"\p{N}{1,3}", r"\p{N}"])
    def test_the_patterns_of_llama_and_qwen(self, digits: str) -> None:
        content = train_bpe(PROSE, vocab_size=700)._content
        pattern = r"\\p{N}{1,2}"
        assert pattern in content
        self.check(content.replace(pattern, digits.replace("\\", "\\\\")), "tiktoken")

    def test_an_unknown_pattern(self) -> None:
        content = train_bpe(PROSE, vocab_size=700)._content
        self.check(content.replace(r"\\p{N}{1,2}", r"\\p{N}{1,4}"), "Hugging Face")


class TestSpecialTokens:
    def test_they_are_the_last_ids_and_never_text(self) -> None:
        texts = [f"<|user|>hi<|assistant|>{END_OF_TEXT} there\n" * 20] * 20
        for pattern in ("modern", "line"):
            made = train_bpe(
                texts, vocab_size=300, pattern=pattern, special=["<|user|>", "<|assistant|>"]
            )
            last = made.vocab_size
            assert made.special_ids == {
                END_OF_TEXT: last - 3, "<|user|>": last - 2, "<|assistant|>": last - 1
            }  # fmt: skip
            assert made.eot_id == last - 3
            for tokenizer in (made, with_engine(made._content)):
                ids = tokenizer.encode(texts[0])
                assert max(ids) < last - 3
                assert tokenizer.decode(ids) == texts[0]

    def test_a_file_whose_merges_make_one_is_refused(self) -> None:
        made = train_bpe(
            [f"{END_OF_TEX}>\n" * 9 for END_OF_TEX in ["<|endoftext|"]], vocab_size=300
        )
        spec = json.loads(made._content)
        vocab, merges = spec["model"]["vocab"], spec["model"]["merges"]
        left = END_OF_TEXT[0]
        for character in END_OF_TEXT[1:]:
            if left + character not in vocab:
                vocab[left + character] = max(vocab.values()) + 1
            if [left, character] not in merges:
                merges.append([left, character])
            left += character
        spec["pre_tokenizer"]["pretokenizers"].pop(0)
        spec["added_tokens"][0]["id"] = vocab[END_OF_TEXT]
        with pytest.raises(UserError, match="a document could end itself"):
            Tokenizer(json.dumps(spec), name="bpe")

    @pytest.mark.parametrize(
        ("special", "said"),
        [(["<|a|>", "<|a|>"], "twice"), ([END_OF_TEXT], "twice"), ([" "], "cannot be called")],
    )
    def test_names_that_cannot_be(self, special: list[str], said: str) -> None:
        with pytest.raises(UserError, match=said):
            train_bpe(PROSE, vocab_size=300, special=special)

    def test_no_room_for_them(self) -> None:
        with pytest.raises(UserError, match="too few"):
            train_bpe(PROSE, vocab_size=258, special=["<|a|>", "<|b|>"])


def pathological() -> Iterator[tuple[str, str]]:
    """Inputs of very many characters that naive matchers and mergers choke on."""
    generator = random.Random(0)
    yield "one letter", "a" * 1_000_000
    yield "blanks in the middle", "x" + " " * 2_000_000 + "y"
    yield "line ends", "\n" * 300_000 + "x"
    yield "base64", base64.b64encode(generator.randbytes(300_000)).decode()
    yield "letters", "".join(generator.choices("abcdefghij", k=300_000))
    yield "apostrophes", "'" * 300_000
    yield "special tokens", END_OF_TEXT * 20_000


@pytest.mark.slow
def test_a_million_characters_without_a_word(gpt2: Tokenizer) -> None:
    """None of them hangs (quadratic time would be hours), overflows or gets other ids."""
    tokenizers = [with_engine(gpt2._content, fast=fast) for fast in (False, True)]
    for name, text in pathological():
        (expected,) = ids_of_all_by_definition(gpt2, [text])
        for tokenizer in tokenizers:
            ids, lengths = tokenizer.encode_ragged([text, "after it"])
            assert np.array_equal(ids[: lengths[0]], expected), (name, tokenizer.engine_note)


class TestTablesForSimpleKinds:
    @given(texts=st.lists(st.text(max_size=20), max_size=5))
    def test_bytes_are_their_own_ids(self, texts: list[str]) -> None:
        tokenizer = bytes_tokenizer()
        assert tokenizer.choose_engine() == "Encoded by a table of bytes."
        ids, lengths = tokenizer.encode_ragged(texts)
        assert ids.tolist() == list("".join(texts).encode())
        assert lengths.tolist() == [len(text.encode()) for text in texts]


def test_all_tokens_of_gpt2_are_reached_by_their_own_bytes(gpt2: Tokenizer) -> None:
    """What is taken as known of GPT-2's merges, so that it need not be found at each start."""
    spec = gpt2._spec["model"]
    bare = json.dumps({"version": "1.0", "added_tokens": [], "model": spec})
    library = FastTokenizer.from_str(bare)
    names = {i: name for name, i in spec["vocab"].items()}
    encoded = library.encode_batch([names[i] for i in range(gpt2.eot_id)], add_special_tokens=False)
    assert [e.ids for e in encoded] == [[i] for i in range(gpt2.eot_id)]
    form = tiktoken_form(gpt2._spec, gpt2._bytes_of_id)
    assert isinstance(form, TiktokenForm)
    assert len(form.ranks) == gpt2.eot_id
