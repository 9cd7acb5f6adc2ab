"""Text inside documents that looks like somebody's special tokens.

In: the pieces of documents. Out: how often each such text occurs, in how many documents, and where
first. Here it is text and encoded as text (R09), so nothing breaks; but `<|im_start|>` in documents
usually means that a chat or a tokenised corpus was exported with its markers spelled out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from fromscratch.data.prepared_text import Piece, Place

# The markers of GPT-2, ChatML, Llama 2 and 3, Gemma, Phi, BERT, T5, and of code models.
SPECIAL_TEXTS = (
    "<|endoftext|>", "<|endofprompt|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>",
    "<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|eot_id|>", "<|begin_of_text|>",
    "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|pad|>", "<|padding|>",
    "<|bos|>", "<|eos|>", "<|sep|>", "<|prompter|>", "<|fim_prefix|>", "<|fim_middle|>",
    "<|fim_suffix|>", "<s>", "</s>", "<pad>", "<unk>", "<mask>", "<bos>", "<eos>",
    "<start_of_turn>", "<end_of_turn>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>",
    "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
    "### Instruction:", "### Response:",
)  # fmt: skip
_PATTERN = re.compile("|".join(re.escape(t) for t in SPECIAL_TEXTS))
_LONGEST = max(map(len, SPECIAL_TEXTS))


@dataclass
class SpecialText:
    """One such text.

    Attributes:
        text: As it stands in documents.
        count: Occurrences.
        documents: Documents with at least one.
        places: The first few of those documents.
    """

    text: str
    count: int = 0
    documents: int = 0
    places: list[Place] = field(default_factory=list)


class SpecialTextFinder:
    """Finds them in a stream of pieces.

    Args:
        n_places: How many places of each to keep.
    """

    def __init__(self, n_places: int = 3) -> None:
        self.found: dict[str, SpecialText] = {}
        self._n_places = n_places
        self._last: dict[str, Place] = {}
        self._tail = ""

    def add(self, pieces: Iterable[Piece]) -> None:
        """Looks through the next pieces; a document's pieces must come one after the other."""
        for piece in pieces:
            before = "" if piece.begins else self._tail
            text = before + piece.text
            for match in _PATTERN.finditer(text):
                if match.end() > len(before):  # else it was seen with the piece before
                    self._note(match.group(), piece.place)
            self._tail = "" if piece.ends else text[-(_LONGEST - 1) :]

    def _note(self, text: str, place: Place) -> None:
        entry = self.found.setdefault(text, SpecialText(text))
        entry.count += 1
        if self._last.get(text) != place:
            self._last[text] = place
            entry.documents += 1
            if len(entry.places) < self._n_places:
                entry.places.append(place)

    def result(self) -> list[SpecialText]:
        """What was found, the most frequent first."""
        return sorted(self.found.values(), key=lambda s: (-s.count, s.text))
