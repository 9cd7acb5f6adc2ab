"""Evaluation items that stand in the training text (R16): n-gram overlap as GPT-3 measured it.

In: the items of an evaluation set, and the pieces of the training documents. Out: for each item how
many of its n-grams occur in training, and the passages where. The items' n-grams are few: they are
held as hashes. The training text streams past, words and n-grams hashed a million characters at a
time, and every match of hashes is confirmed by the words themselves.

After Brown et al. (2020), appendix C: n = 13; an item that has fewer words is one n-gram as a
whole, here from 8 words on, since fewer are found anywhere. Unlike there, n-grams that are mostly
numbers are passed over. No n-gram spans two documents.

Shapes: w words of a batch of training text, k distinct n-grams of the items.

Always true: the answer does not depend on where the stream was cut into pieces.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fromscratch.data.evaluation_items import Item
from fromscratch.data.prepared_text import Piece, Place, read_blocks
from fromscratch.data.shards import load_manifest
from fromscratch.data.words import UInt64Array, WordHasher, Words, find_words
from fromscratch.tokenizer.tokenizer import load_tokenizer

SHORTEST = 8
LONGEST = 50
_BATCH_CHARACTERS = 1 << 20
# An n-gram that was found in so many documents is not looked for any more, so that a corpus that is
# full of one passage takes no longer than any other.
_ENOUGH_DOCUMENTS = 3
_DISTINCT_WORDS = 4


@dataclass
class Passage:
    """A run of words that an item and a training document have in common.

    Attributes:
        place: The document.
        training: The run as the document has it.
        item: The run as the item has it.
        words: How many words it has.
    """

    place: Place
    training: str
    item: str
    words: int


@dataclass
class Finding:
    """One evaluation item.

    Attributes:
        item: The item.
        grams: Its distinct n-grams, without those that are mostly numbers or one word repeated; 0
            where it has none, most often because it is too short.
        found: How many of them occur in training.
        passages: The longest common run with each of the first few documents that have one.
    """

    item: Item
    grams: int
    found: int = 0
    passages: list[Passage] = field(default_factory=list)


@dataclass(frozen=True)
class Contamination:
    """What of an evaluation set stands in training data.

    Attributes:
        findings: One for each item, in their order.
        ngram: Words of an n-gram.
        tokens: Training tokens that were looked through.
        looked_at: Which share of the training split that is.
    """

    findings: list[Finding]
    ngram: int
    tokens: int
    looked_at: float

    @property
    def contaminated(self) -> list[Finding]:
        """Items of which at least one n-gram was found, the largest share of n-grams first."""
        found = [f for f in self.findings if f.found]
        return sorted(found, key=lambda f: -f.found / f.grams)

    def of(self, findings: list[Finding]) -> Contamination:
        """The same look, for some of its findings."""
        return replace(self, findings=findings)

    @property
    def too_short(self) -> int:
        """Items that have no n-gram to look for."""
        return sum(not f.grams for f in self.findings)


def find_contamination(
    folder: Path,
    items: Sequence[Item],
    *,
    ngram: int = 13,
    most_tokens: int | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Contamination:
    """Looks for the items of an evaluation set in the training split of prepared data.

    Args:
        folder: Prepared data.
        items: The evaluation set.
        ngram: Words of an n-gram, 1 to `LONGEST`.
        most_tokens: Of a larger split, look at so many tokens, evenly spread; None for all.
        progress: Called with what is under way, tokens done and tokens to do.

    Raises:
        UserError: The folder is not prepared data, or a file is not as its manifest says.
    """
    manifest, tokenizer = load_manifest(folder), load_tokenizer(folder)
    total = manifest.total("tokens", "train")
    share = 1.0 if most_tokens is None else min(1.0, most_tokens / max(1, total))
    finder = ContaminationFinder(items, ngram=ngram)
    done = 0
    for block in read_blocks(folder, tokenizer, manifest.select("train"), share=share):
        finder.add(block.pieces)
        done += len(block.ids)
        progress("looking for the items", done, max(done, int(total * share)))
    return Contamination(finder.finish(), ngram, done, done / total if total else 1.0)


@dataclass
class _Run:
    """Consecutive n-grams of an item that follow one another in a training text too.

    Words are counted from 0 in the batch and in the item; `last` is included.
    """

    item: int
    text: int
    first: int
    last: int
    item_first: int
    item_last: int

    def goes_on(self, text: int, last: int, item_last: int) -> bool:
        """Whether an n-gram with these last words is the next one of the run."""
        return (self.text, self.last + 1, self.item_last + 1) == (text, last, item_last)


class ContaminationFinder:
    """Looks for items in a stream of training text.

    Args:
        items: The evaluation set. Its words are shorter than `batch_characters` / 4 / `ngram`
            characters, which is 5,000 where nothing is said: longer ones are missed at a cut.
        ngram: Words of an n-gram, at most `LONGEST`.
        batch_characters: Training text to look through at a time.
    """

    def __init__(
        self,
        items: Sequence[Item],
        *,
        ngram: int = 13,
        batch_characters: int = _BATCH_CHARACTERS,
    ) -> None:
        assert 1 <= ngram <= LONGEST, "checked where it is read"
        self.ngram = ngram
        self._batch_characters = batch_characters
        # More than the words of an n-gram have: so much is looked at again at a cut, at most.
        self._longest_tail = batch_characters // 4
        self.findings: list[Finding] = []
        self._hasher = WordHasher()
        self._item_words: list[Words] = []
        owners: dict[int, dict[int, list[_Owner]]] = defaultdict(lambda: defaultdict(list))
        for number, item in enumerate(items):
            words = find_words(item.text)
            self._item_words.append(words)
            n = min(ngram, len(words.starts))
            if n < min(ngram, SHORTEST):
                self.findings.append(Finding(item, 0))
                continue
            grams = self._hasher.grams(self._hasher.words(words), [n])[n].tolist()
            first = {gram: i for i, gram in reversed(list(enumerate(grams)))}
            telling = _telling(words.spelled(0, len(words.starts)).split(), n)
            first = {gram: i for gram, i in first.items() if telling[i]}
            for gram, i in first.items():
                owners[n][gram].append((number, i))
            self.findings.append(Finding(item, len(first)))
        self._tables = {n: _Table(of_n) for n, of_n in sorted(owners.items())}
        self._found: list[set[int]] = [set() for _ in items]
        self._tail = ""
        self._waiting: list[tuple[Place, str]] = []
        self._n_waiting = 0

    def add(self, pieces: Iterable[Piece]) -> None:
        """Looks through the next pieces; each document's must follow one another."""
        if not self._tables:
            return
        for piece in pieces:
            text = piece.text if piece.begins else self._tail + piece.text
            while len(text) > self._batch_characters:
                ready, tail = self._cut(text[: self._batch_characters])
                self._wait(piece.place, ready)
                text = tail + text[self._batch_characters :]
            self._tail = ""
            if not piece.ends:
                text, self._tail = self._cut(text)
            self._wait(piece.place, text)

    def finish(self) -> list[Finding]:
        """What was found, once all pieces have come; items in their order."""
        self._look()
        for finding, found in zip(self.findings, self._found, strict=True):
            finding.found = len(found)
        return self.findings

    def _cut(self, text: str) -> tuple[str, str]:
        """(what can be looked through, what must be seen again with the text that follows).

        A word that touches the end may go on, so it is left to the next; and so are the n - 1 words
        before it, of which some n-grams have not ended yet.
        """
        near_end = text[-self._longest_tail :]
        words = find_words(near_end)
        complete = int(np.searchsorted(words.ends, len(near_end)))
        end = int(words.starts[complete]) if complete < len(words.ends) else len(near_end)
        # The first word may have begun before: where it matters there are words enough after it.
        keep = max(complete - (self.ngram - 1), 0 if len(near_end) == len(text) else 1)
        begin = int(words.starts[keep]) if keep < complete else end
        if end == 0 and len(near_end) < len(text):  # one word, longer than any that is looked for
            return text, near_end
        return text[: len(text) - len(near_end) + end], near_end[begin:]

    def _wait(self, place: Place, text: str) -> None:
        """Collects texts until there is enough to be worth a call of numpy."""
        self._waiting.append((place, text))
        self._n_waiting += len(text) + 1
        if self._n_waiting >= self._batch_characters:
            self._look()

    def _look(self) -> None:
        """Looks through the texts that wait."""
        texts = [text for _, text in self._waiting]
        joined = "\n".join(texts)
        words = find_words(joined)
        starts = np.cumsum([0, *(len(text) + 1 for text in texts)])
        text_of = np.searchsorted(starts, words.starts, side="right") - 1
        grams = self._hasher.grams(self._hasher.words(words), list(self._tables) or [1])
        hits: list[tuple[int, int, int]] = []  # word, n, key
        for n, table in self._tables.items():
            at, keys = table.look_up(grams[n])
            inside = text_of[at] == text_of[at + n - 1]
            at, keys = at[inside], keys[inside]
            # One hit of each n-gram in each text is enough, and a corpus may have millions.
            _, first = np.unique(keys * len(starts) + text_of[at], return_index=True)
            hits += [(int(at[i]), n, int(keys[i])) for i in first]
        runs: dict[int, _Run] = {}
        for word, n, key in sorted(hits):
            table, text = self._tables[n], int(text_of[word])
            spelled = words.spelled(word, n)
            for item, gram in table.owners[key]:
                if self._item_words[item].spelled(gram, n) != spelled:
                    continue
                self._found[item].add(gram)
                table.note(key, self._waiting[text][0])
                run = runs.get(item)
                if run is not None and run.goes_on(text, word + n - 1, gram + n - 1):
                    run.last, run.item_last = word + n - 1, gram + n - 1
                    continue
                if run is not None:
                    self._keep(run, words, joined)
                runs[item] = _Run(item, text, word, word + n - 1, gram, gram + n - 1)
        for run in runs.values():
            self._keep(run, words, joined)
        self._waiting, self._n_waiting = [], 0

    def _keep(self, run: _Run, words: Words, joined: str) -> None:
        """Notes a run as a passage: the longest of each of the first few documents."""
        finding, item = self.findings[run.item], self._item_words[run.item]
        passage = Passage(
            self._waiting[run.text][0],
            joined[words.starts[run.first] : words.ends[run.last]],
            finding.item.text[item.starts[run.item_first] : item.ends[run.item_last]],
            run.last - run.first + 1,
        )
        for i, other in enumerate(finding.passages):
            if other.place == passage.place:
                if other.words < passage.words:
                    finding.passages[i] = passage
                return
        if len(finding.passages) < _ENOUGH_DOCUMENTS:
            finding.passages.append(passage)


_Owner = tuple[int, int]  # an item's number, and the number of an n-gram's first word in it


def _telling(words: list[str], n: int) -> list[bool]:
    """Whether each n-gram says where it is from; counting to fifteen or a row of zeros does not.

    At least half of its words are no numbers, and they are not all the same few.
    """
    others = [0, *accumulate(not word.isnumeric() for word in words)]
    return [
        2 * (others[i + n] - others[i]) >= n
        and len(set(words[i : i + n])) >= min(_DISTINCT_WORDS, n)
        for i in range(len(words) - n + 1)
    ]


class _Table:
    """The items' n-grams of one length, by hash.

    Nearly all of a training text's n-grams are turned away by one look into an array that is mostly
    zeros; the others are searched among the sorted hashes.
    """

    def __init__(self, owners: dict[int, list[_Owner]]) -> None:
        self._keys: UInt64Array = np.array(sorted(owners), dtype=np.uint64)
        self.owners = [owners[key] for key in sorted(owners)]
        bits = min(26, max(16, (64 * len(owners)).bit_length()))
        self._shift = np.uint64(64 - bits)
        self._slots = np.zeros(1 << bits, dtype=np.uint16)
        np.add.at(self._slots, self._keys >> self._shift, 1)
        self._documents: list[tuple[int, Place | None]] = [(0, None)] * len(owners)

    def look_up(self, grams: UInt64Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Where (w,) hashes of n-grams are an item's: positions, and the number of the key."""
        at = np.flatnonzero(self._slots[grams >> self._shift])
        key = np.minimum(np.searchsorted(self._keys, grams[at]), len(self._keys) - 1)
        same = self._keys[key] == grams[at]
        return at[same], key[same]

    def note(self, key: int, place: Place) -> None:
        """Remembers that a document has the n-gram; after a few, it is not looked for any more."""
        n, last = self._documents[key]
        if last != place:
            self._documents[key] = (n + 1, place)
            if n + 1 == _ENOUGH_DOCUMENTS:
                self._slots[int(self._keys[key] >> self._shift)] -= 1
