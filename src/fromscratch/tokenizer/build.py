"""Making tokenizers: GPT-2's from tiktoken, a trained byte-level BPE, bytes, characters.

A recipe names one as `gpt2`, `bytes`, `chars`, `bpe:4096` (trained on the recipe's own text; the
number is the whole vocabulary, end-of-text included; `bpe:4096:line` says how text is cut before
merging) or as a path to a `tokenizer.json`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as FastTokenizer

from fromscratch.foundation.errors import UserError, did_you_mean
from fromscratch.tokenizer.names import PATTERNS, bpe_pattern, bpe_size, check_pattern
from fromscratch.tokenizer.texts import encodable
from fromscratch.tokenizer.tokenizer import END_OF_TEXT, Tokenizer, byte_alphabet, load_tokenizer

_GPT2_MERGES = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe"
_GPT2_MERGES_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
_NAMED = ("gpt2", "bytes", "chars", "bpe:4096")


def make_tokenizer(spec: str, texts: Iterable[str] | None = None) -> Tokenizer:
    """The tokenizer that a recipe or a command line names.

    Args:
        spec: `gpt2`, `bytes`, `chars`, `bpe:N`, or a path.
        texts: What `bpe:N` and `chars` are made from.

    Raises:
        UserError: The name is unknown, or N is not a usable size.
    """
    if spec == "gpt2":
        return gpt2_tokenizer()
    if spec == "bytes":
        return bytes_tokenizer()
    if spec == "chars":
        assert texts is not None
        return chars_tokenizer(texts)
    if spec.startswith("bpe:"):
        assert texts is not None
        return train_bpe(texts, vocab_size=bpe_size(spec), pattern=bpe_pattern(spec))
    path = Path(spec).expanduser()
    if path.exists():
        return load_tokenizer(path)
    hint = did_you_mean(spec, _NAMED)
    raise UserError(
        f'"{spec}" is neither a tokenizer nor a file.{hint}',
        fix="Choose gpt2, bytes, chars, bpe:N (N = vocabulary size) or a path to a tokenizer.json.",
    )


def train_bpe(
    texts: Iterable[str],
    *,
    vocab_size: int,
    pattern: str = "modern",
    special: Sequence[str] = (),
) -> Tokenizer:
    """Trains a byte-level BPE (Sennrich et al. 2016, on bytes as in GPT-2).

    Args:
        texts: Documents; read once, as a stream.
        vocab_size: Ids in all: 256 bytes, the merges, end-of-text and the special tokens. Fewer
            come out where the text has no more pairs to merge.
        pattern: A name from `PATTERNS`.
        special: Names of further special tokens; their ids are the last ones. They are ids of
            their own: text that spells one is still encoded as text.

    Returns:
        A tokenizer that is the same for the same texts in the same order.

    Raises:
        UserError: The special tokens are not distinct, or leave no room in the vocabulary.
    """
    check_pattern(pattern)
    specials = _special_tokens(special, vocab_size)
    fast = FastTokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERNS[pattern]), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(specials),
        initial_alphabet=byte_alphabet(),
        show_progress=False,
        special_tokens=[],
    )
    # A special token must not be learned as an ordinary one: text would then become its id.
    spelled = re.compile("|".join(map(re.escape, specials)))
    pieces = (piece for text in texts for piece in spelled.split(encodable(text)))
    fast.train_from_iterator(pieces, trainer)
    return _finish(fast, name="bpe", specials=specials)


def _special_tokens(further: Sequence[str], vocab_size: int) -> list[str]:
    """End-of-text and what the user names besides, in the order of their ids."""
    specials = [END_OF_TEXT, *further]
    for name in specials:
        if specials.count(name) > 1:
            raise UserError(f'The special token "{name}" is there twice.')
        if not name.strip() or encodable(name) != name:
            raise UserError(f"A special token cannot be called {name!r}.")
    if vocab_size < 256 + len(specials):
        raise UserError(
            f"{vocab_size} ids are too few for 256 bytes and {len(specials)} special tokens.",
            fix=f"At least {256 + len(specials)}.",
        )
    return specials


def bytes_tokenizer() -> Tokenizer:
    """Every byte is its own id; end-of-text is 256. A byte-level BPE without merges."""
    vocab = {character: byte for byte, character in enumerate(byte_alphabet())}
    fast = FastTokenizer(models.BPE(vocab=vocab, merges=[]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return _finish(fast, name="bytes")


def chars_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """One id per distinct character, in code-point order; end-of-text is the last.

    Raises:
        UserError: There is no character at all.
    """
    characters: set[str] = set()
    for text in map(encodable, texts):
        characters.update(text)
    if not characters:
        raise UserError("The text is empty: a character vocabulary cannot be made from it.")
    fast = FastTokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(sorted(characters))}, merges=[])
    )
    fast.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    return _finish(fast, name="chars", decoder=decoders.Fuse())


def gpt2_tokenizer() -> Tokenizer:
    """GPT-2's 50,257 ids, from OpenAI's list of merges as tiktoken downloads and keeps it."""
    from tiktoken.load import read_file_cached

    try:
        content = read_file_cached(_GPT2_MERGES, _GPT2_MERGES_SHA256).decode("utf-8")
    except Exception as error:
        raise UserError(
            f"GPT-2's vocabulary could not be had: {type(error).__name__}.",
            fix="tiktoken downloads it once (1.5 MB); connect, or point TIKTOKEN_CACHE_DIR at a "
            "folder that has it.",
        ) from None
    # A line for each merge, after one with the version; ids are bytes first, then merges in order.
    pairs = (line.split(" ") for line in content.rstrip("\n").split("\n")[1:])
    merges = [(left, right) for left, right in pairs]
    alphabet = byte_alphabet()
    bytes_first = sorted(alphabet)  # those that are spelled as themselves, then the others
    tokens = [*bytes_first, *(left + right for left, right in merges)]
    vocab = {token: i for i, token in enumerate(tokens)}
    fast = FastTokenizer(models.BPE(vocab=vocab, merges=merges))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return _finish(fast, name="gpt2")


def _finish(
    fast: FastTokenizer,
    *,
    name: str,
    decoder: decoders.Decoder | None = None,
    specials: Sequence[str] = (END_OF_TEXT,),
) -> Tokenizer:
    """Adds the special tokens as the last ids and turns the library's object into ours."""
    fast.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    fast.decoder = decoder or decoders.ByteLevel()
    return Tokenizer(fast.to_str(), name=name)
