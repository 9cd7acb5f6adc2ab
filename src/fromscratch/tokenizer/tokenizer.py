"""The one tokenizer class, and the file it lives in.

Whatever its kind (GPT-2's, one trained here, plain bytes, characters), a tokenizer is a standard
`tokenizer.json` that transformers reads, plus a table of each id's bytes made from it. Decoding
joins those bytes, so it is exact and the same for every kind; `encoder.py` encodes.

Always true: text is encoded as text. `<|endoftext|>` inside a document becomes ordinary tokens,
never the end-of-text id (R09); only `eot_id`, put between documents by `prepare`, ends one.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as FastTokenizer

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import dump_json, read_json, write_atomically
from fromscratch.foundation.names import CHECKPOINT_TOKENIZER, CHECKPOINT_TOKENIZER_CONFIG
from fromscratch.tokenizer.encoder import Encoder
from fromscratch.tokenizer.engines import Ragged
from fromscratch.tokenizer.marks import MARK, taking_out_marks, without_taking_out_marks
from fromscratch.tokenizer.texts import Texts

END_OF_TEXT = "<|endoftext|>"


class Tokenizer:
    """Encodes and decodes; built from the text of a `tokenizer.json`.

    Args:
        content: The file's text. Its decoder is ByteLevel (byte-level BPE) or Fuse (characters).
        name: `gpt2`, `bpe`, `bytes` or `chars`: for people.

    Raises:
        UserError: The file is not a tokenizer of a kind that this package reads.
    """

    def __init__(self, content: str, *, name: str) -> None:
        self.name = name
        self._content = content
        try:
            self._fast = FastTokenizer.from_str(content)
        except Exception as error:  # the library raises plain Exception
            raise UserError(f"Not a tokenizer.json that can be read: {error}") from None
        # Without this the library would turn the text "<|endoftext|>" into the special id.
        self._fast.encode_special_tokens = True
        # A foreign file may say to cut every text after 512 tokens; nothing is cut in silence here.
        self._fast.no_truncation()
        self._fast.no_padding()
        self._spec: dict[str, Any] = json.loads(content)
        decoder = (self._spec["decoder"] or {}).get("type")
        if self._spec["model"]["type"] != "BPE" or decoder not in ("ByteLevel", "Fuse"):
            raise UserError(
                f"A {self._spec['model']['type']} tokenizer with the decoder {decoder} cannot be "
                "read: only byte-level BPE (as GPT-2's, Llama 3's, Qwen's) and character "
                "vocabularies give every text back exactly.",
                fix="Choose gpt2, bytes, chars or bpe:N.",
            )
        if decoder == "Fuse":
            self.name = "chars"  # whatever lay beside the file
        self.vocab_size: int = self._fast.get_vocab_size(with_added_tokens=True)
        eot_id = self._fast.token_to_id(END_OF_TEXT)
        if eot_id is None:
            raise UserError(f'The tokenizer has no "{END_OF_TEXT}" token to end documents with.')
        self.eot_id: int = eot_id
        # The ids of the special tokens, by their names.
        self.special_ids: dict[str, int] = {
            t["content"]: t["id"] for t in self._spec["added_tokens"] if t["special"]
        }
        for name in self.special_ids:
            ids = self._fast.encode(name, add_special_tokens=False).ids
            if not set(self.special_ids.values()).isdisjoint(ids):
                raise UserError(
                    f'The tokenizer turns the text "{name}" into a special token, so a document '
                    "could end itself: its merges make that token.",
                    fix="Train it on text without the names of special tokens.",
                )

    # --- text to ids ------------------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """Token ids of one text, without an end-of-text id.

        Lone surrogates, which no UTF-8 file can hold, are encoded as U+FFFD; a high and a low one
        side by side are the one character that they are in UTF-16. Any other text comes back from
        `decode` exactly as it was.

        Raises:
            UserError: A character that a `chars` vocabulary does not have.
        """
        ids: list[int] = self.encode_ragged([text])[0].tolist()
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts, on all cores."""
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return list(pool.map(self.encode, texts))

    def encode_ragged(self, texts: Sequence[str]) -> Ragged:
        """`encode` for many texts, without an object for each id.

        Made to be called from as many threads as there are cores: ids are made on the calling
        thread with the interpreter lock released. (Only Hugging Face tokenizers, which encodes
        where nothing faster is proven to give the same ids, uses threads of its own.)

        Returns:
            The ids of all texts, end to end, and (n,) the number of ids of each text.

        Raises:
            UserError: A character that a `chars` vocabulary does not have.
        """
        return self._encoder.encode_ragged(Texts.of(texts))

    def choose_engine(self, *, fast: bool = True) -> str:
        """Prepares for much text; to be called before the first of it is encoded.

        Args:
            fast: Whether gigatoken may be used, where it is installed and its ids are found the
                same. It takes about a second to make and compare, so from some ten million bytes
                on it pays.

        Returns:
            What will encode, as a sentence for people, and why nothing faster does. The ids are
            the same in any case.
        """
        self._encoder.choose(fast=fast)
        return self.engine_note

    @property
    def engine_note(self) -> str:
        """What encodes, as a sentence for people; empty while there was little to encode."""
        return self._encoder.note

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self._spec, self._fast, self._bytes_of_id)

    # --- ids to text ------------------------------------------------------------------------------

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids; bytes that are not UTF-8 (half a character) become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The exact bytes of the ids; special ids have none."""
        table = self._bytes_of_id
        return b"".join(table[i] for i in ids)

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yields text as ids arrive, only ever in whole characters (R17)."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for i in ids:
            text = decoder.decode(self._bytes_of_id[i])
            if text:
                yield text
        rest = decoder.decode(b"", final=True)
        if rest:
            yield rest

    def normalized(self, text: str) -> str:
        """The text that is encoded in its place, where `keeps_every_byte` does not hold."""
        normalizer = self._fast.normalizer
        return text if normalizer is None else str(normalizer.normalize_str(text))

    @property
    def keeps_every_byte(self) -> bool:
        """Whether a text's ids stand for exactly its bytes: no normaliser changes it first."""
        return self._spec.get("normalizer") is None

    @cached_property
    def bytes_per_id(self) -> npt.NDArray[np.int64]:
        """(vocab_size,) number of UTF-8 bytes that each id stands for; 0 for special ids.

        The sum over a text's ids is the text's exact size in bytes, which is what bits per byte
        divides by.
        """
        return np.array([len(b) for b in self._bytes_of_id], dtype=np.int64)

    @cached_property
    def _bytes_of_id(self) -> list[bytes]:
        byte_level = self._spec["decoder"]["type"] == "ByteLevel"
        table = [b""] * self.vocab_size
        added = {t["id"]: t for t in self._spec["added_tokens"]}
        for token, i in self._fast.get_vocab(with_added_tokens=True).items():
            if i in added:  # spelled as text, not in bytes
                table[i] = b"" if added[i]["special"] else token.encode("utf-8")
            else:
                table[i] = _byte_level_bytes(token) if byte_level else token.encode("utf-8")
        return table

    # --- identity and files -----------------------------------------------------------------------

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over vocabulary, merges, splitting and special tokens; equal ids, equal hash."""
        model = self._spec["model"]
        parts = {
            "vocab": sorted(model["vocab"].items(), key=lambda item: item[1]),
            "merges": [" ".join(m) if isinstance(m, list) else m for m in model.get("merges", [])],
            "normalizer": self._spec.get("normalizer"),
            "pre_tokenizer": self._spec.get("pre_tokenizer"),
            "added": [(t["id"], t["content"]) for t in self._spec["added_tokens"]],
        }
        text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def content(self) -> str:
        """The text of its `tokenizer.json`."""
        return self._content

    def save(
        self, folder: Path, *, context: int | None = None, chat: Mapping[str, str] | None = None
    ) -> None:
        """Writes `tokenizer.json` and `tokenizer_config.json` as transformers reads them.

        Args:
            folder: Exists.
            context: The longest sequence that the model takes.
            chat: Further entries of the configuration that describe a chat template.
        """
        content = self._content
        if chat:
            content = json.dumps(taking_out_marks(self._spec), ensure_ascii=False)
        write_atomically(folder / CHECKPOINT_TOKENIZER, content)
        write_atomically(
            folder / CHECKPOINT_TOKENIZER_CONFIG,
            dump_json(
                {
                    "tokenizer_class": "PreTrainedTokenizerFast",
                    "eos_token": END_OF_TEXT,
                    "bos_token": END_OF_TEXT,
                    "clean_up_tokenization_spaces": False,
                    "fromscratch_tokenizer": self.name,
                }
                | ({"model_max_length": context} if context else {})
                | dict(chat or {}),
                indent=2,
            ),
        )


def load_tokenizer(path: Path) -> Tokenizer:
    """Reads a tokenizer from a folder with `tokenizer.json` in it, or from such a file.

    Raises:
        UserError: There is none, or it is of a kind that this package does not read.
    """
    file = path / CHECKPOINT_TOKENIZER if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"No tokenizer: {file} does not exist.",
            fix="Make one with `fromscratch tokenizer train SOURCE --out FOLDER`.",
        )
    name = "bpe"
    config = file.with_name(CHECKPOINT_TOKENIZER_CONFIG)
    if config.is_file():
        name = read_json(config).get("fromscratch_tokenizer", name)
    try:
        content = file.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{file} is not a tokenizer.json that can be read ({error}).") from None
    return Tokenizer(_without_marks(content), name=name)


def _without_marks(content: str) -> str:
    """The text of a tokenizer.json as it was before a chat template was written beside it."""
    if MARK not in content and ascii(MARK).strip("'") not in content:
        return content
    try:
        return json.dumps(without_taking_out_marks(json.loads(content)), ensure_ascii=False)
    except json.JSONDecodeError:
        return content  # refused where it is read


def byte_alphabet() -> list[str]:
    """The printable character that stands for each byte value in a byte-level BPE's files.

    Printable Latin-1 bytes stand for themselves; the other 68 are shifted to U+0100 and up, in
    order (Radford et al. 2019; the table of their released encoder).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    shifted = iter(range(0x100, 0x200))
    return [chr(b) if b in printable else chr(next(shifted)) for b in range(256)]


_BYTE_OF_CHARACTER = {character: byte for byte, character in enumerate(byte_alphabet())}


def _byte_level_bytes(token: str) -> bytes:
    try:
        return bytes(_BYTE_OF_CHARACTER[c] for c in token)
    except KeyError:  # some files spell out-of-vocabulary markers as they are
        return token.encode("utf-8")
