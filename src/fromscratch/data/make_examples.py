"""Conversations into examples on disk: rendered, measured, split, written.

In: a source of conversations or of preferences, a tokenizer with the template's special tokens,
settings. Out: a folder that examples.py reads. A preference is two examples, the chosen answer's
and then the rejected one's, always on the same side. Only one conversation is in memory at a time,
and 24 bytes for each that was. An interrupted preparation is made anew: its manifest comes last.

Always true: an example is whole (nothing is cut off), fits into the context with both its sides
within their limits, and has something to learn in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from fromscratch.chat.conversations import Message
from fromscratch.chat.preference_rendering import render_pair
from fromscratch.chat.preferences import Preference
from fromscratch.chat.rendering import LossOn, Rendered, render_ids
from fromscratch.chat.template import template_named
from fromscratch.data.documents import KEY_BYTES, Document, content_key, held_out
from fromscratch.data.example_writer import ExampleWriter, side_counts
from fromscratch.data.examples import (
    FORMAT_VERSION,
    ExamplesManifest,
    is_examples,
    load_examples_manifest,
)
from fromscratch.data.reading import SourceReport
from fromscratch.data.shards import stored_as
from fromscratch.data.sources import Source
from fromscratch.data.watching import Advance, Watch
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import dump_json, write_atomically
from fromscratch.foundation.names import DATA_LOCK, EXAMPLES_MANIFEST
from fromscratch.tokenizer.tokenizer import Tokenizer

_TOLD_EVERY = 64


@dataclass(frozen=True)
class ExampleSettings:
    """How examples are made of conversations; the words are those of a recipe's `[chat]` table.

    Attributes:
        template: Its name.
        loss_on: What is learned.
        context: Positions in a row: an example has at most one token more.
        max_prompt_tokens: Of the prompt side; 0 for no limit of its own.
        max_answer_tokens: Of the answer side, stop tokens included; likewise.
        too_long: Whether what exceeds a limit is dropped, or ends in an error.
        on_bad: Whether a record that is no conversation is left out, or ends in an error.
        split: By the content's hash, or in the source's order.
        val_fraction: Share that is held out.
        test_fraction: Share that is answered in the end.
        seed: Of the split by hash.
        pairs: Whether records are preferences.
    """

    template: str
    loss_on: LossOn = "assistant"
    context: int = 1024
    max_prompt_tokens: int = 0
    max_answer_tokens: int = 0
    too_long: Literal["drop", "refuse"] = "drop"
    on_bad: Literal["stop", "skip"] = "stop"
    split: Literal["hash", "order"] = "hash"
    val_fraction: float = 0.01
    test_fraction: float = 0.0
    seed: int = 0
    pairs: bool = False


def make_examples(
    source: Source, folder: Path, tokenizer: Tokenizer, settings: ExampleSettings, *, watch: Watch
) -> ExamplesManifest:
    """Makes the folder of a source's examples, if it is not there yet.

    Args:
        source: Its reading makes messages of records (`messages_of`), or preferences.
        folder: Where to.
        tokenizer: With the template's special tokens; written beside the examples.
        settings: How they are made.
        watch: Told how the work advances.

    Raises:
        UserError: Something cannot be read or is too long, and is not to be left out; an example
            has nothing to learn; nothing is left to train on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / DATA_LOCK):
        if is_examples(folder):
            return load_examples_manifest(folder)
        return _Making(source, folder, tokenizer, settings, watch).run()


class _Making:
    """One preparation."""

    def __init__(
        self,
        source: Source,
        folder: Path,
        tokenizer: Tokenizer,
        settings: ExampleSettings,
        watch: Watch,
    ) -> None:
        self.source, self.folder, self.tokenizer = source, folder, tokenizer
        self.settings, self.watch = settings, watch
        self.template = template_named(settings.template)
        self.report = SourceReport()
        self.records = 0
        self.ties = 0
        self.dropped = {"prompt": 0, "answer": 0, "both": 0}
        self.keys: list[bytes] = []
        self.numbers: list[int] = []  # of the records that the kept examples were

    def run(self) -> ExamplesManifest:
        spool = self.settings.test_fraction > 0
        writer = ExampleWriter(self.folder, stored_as(self.tokenizer.vocab_size), spool=spool)
        with writer:
            self._read(writer)
            sides = self._sides()
            sides_of_all = np.repeat(sides, 2 if self.settings.pairs else 1)
            learned = writer.finish(sides_of_all, self.tokenizer)
        counts = side_counts(sides_of_all, *learned)
        copies, across = _copies(self.keys, sides)
        manifest = ExamplesManifest(
            source=self.source.name,
            spec=self.source.whence,
            settings=asdict(self.settings),
            tokenizer=self.tokenizer.name,
            tokenizer_fingerprint=self.tokenizer.fingerprint,
            records=self.records,
            skipped=self.report.n_skipped,
            prompt_too_long=self.dropped["prompt"],
            answer_too_long=self.dropped["answer"],
            both_too_long=self.dropped["both"],
            ties=self.ties,
            copies=copies,
            copies_across=across,
            sides=counts,
            sha256=writer.sha256,
        )
        self._refuse_nothing_to_train_on(manifest)
        content = {"format_version": FORMAT_VERSION} | asdict(manifest)
        write_atomically(self.folder / EXAMPLES_MANIFEST, dump_json(content, indent=1) + "\n")
        return manifest

    def _read(self, writer: ExampleWriter) -> None:
        portions = self.source.portions()
        total = sum(portion.size for portion in portions) or 1
        done = 0
        for portion, then in zip(portions, [*portions[1:], None], strict=True):
            for document in self.source.read(portion, self.report, then=then):
                self.records += 1
                self._add(document, writer)
                if self.records % _TOLD_EVERY == 0:
                    share = (done + portion.size * self.report.share()) / total
                    self.watch(Advance("tokens", self.records, share=min(share, 1.0)))
            done += portion.size

    def _add(self, document: Document, writer: ExampleWriter) -> None:
        made: Sequence[Message] | Preference | None = document.made
        if made is None:
            raise self._no_records()
        examples = self._rendered(made)
        if not examples:
            return
        for rendered in examples:
            answer = sum(rendered.supervised)
            prompt = len(rendered.ids) - answer
            if not any(rendered.supervised[1:]):
                self._nothing_to_learn(document)
                return
            if too_long := self._too_long(prompt, answer, document):
                self.dropped[too_long] += 1
                return
        # All preferences on one question are on one side of the split: the question is what a
        # model could remember.
        messages = made.prompt if isinstance(made, Preference) else made
        turns = [[m.role, m.content, m.context] for m in messages]
        content = json.dumps(turns, ensure_ascii=False).encode("utf-8", "surrogatepass")
        self.keys.append(content_key(content, self.settings.seed))
        self.numbers.append(self.records - 1)
        for rendered in examples:
            learned = rendered.supervised
            if self.settings.loss_on == "all":
                learned = [True] * len(rendered.ids)
            writer.add(rendered.ids, learned, messages)

    def _rendered(self, made: Sequence[Message] | Preference) -> tuple[Rendered, ...]:
        """The examples that a record is; none of a preference for one of two equal answers."""
        if not isinstance(made, Preference):
            return (render_ids(self.template, self.tokenizer, made),)
        if made.is_tie:
            self.ties += 1
            return ()
        return render_pair(self.template, self.tokenizer, made)

    def _nothing_to_learn(self, document: Document) -> None:
        """R51: its loss would be the mean of nothing."""
        what = "has nothing to learn in it: no turn of it is the assistant's"
        if self.settings.on_bad == "skip":
            self.report.skip(document.place, what)
            return
        raise UserError(
            f"{document.place}: {what}.",
            fix="chat.on_bad=skip leaves out what is bad.",
            regret="R51",
        )

    def _too_long(self, prompt: int, answer: int, document: Document) -> str | None:
        """Which limit an example exceeds (R54: each side has its own)."""
        settings = self.settings
        both = settings.context + 1
        limits = (
            ("prompt", prompt, settings.max_prompt_tokens, "chat.max_prompt_tokens"),
            ("answer", answer, settings.max_answer_tokens, "chat.max_answer_tokens"),
            ("both", prompt + answer, both, "model.context and one"),
        )
        for name, tokens, most, key in limits:
            if not most or tokens <= most:
                continue
            if settings.too_long == "refuse":
                sides = "prompt and answer have" if name == "both" else f"the {name} has"
                raise UserError(
                    f"{document.place}: {sides} {tokens:,} tokens, more than {key} ({most:,}).",
                    fix="chat.too_long=drop leaves such examples out.",
                )
            return name
        return None

    def _sides(self) -> npt.NDArray[np.uint8]:
        """The side of each kept example, as its place in SIDES."""
        val, test = self.settings.val_fraction, self.settings.test_fraction
        sides = np.zeros(len(self.keys), dtype=np.uint8)
        if self.settings.split == "order":
            n_train, n_test = in_order(self.records, val_fraction=val, test_fraction=test)
            numbers = np.array(self.numbers, dtype=np.int64)
            sides[numbers >= n_train] = 1
            sides[numbers >= n_train + n_test] = 2
            return sides
        keys = np.frombuffer(b"".join(self.keys), dtype=np.uint8).reshape(-1, KEY_BYTES)
        sides[held_out(keys, val + test)] = 1
        sides[held_out(keys, val)] = 2
        return sides

    def _no_records(self) -> UserError:
        if self.settings.pairs:
            return UserError(
                f"{self.source.spec} holds text or nothing, and no preferences.",
                fix="Give JSON, JSON lines or Parquet, of records with a prompt, chosen and "
                "rejected.",
            )
        return UserError(
            f"{self.source.spec} holds text or nothing, and no conversations.",
            fix="Give JSON, JSON lines or Parquet: Alpaca's fields, messages, ShareGPT's "
            "conversations, or prompt and completion.",
        )

    def _refuse_nothing_to_train_on(self, manifest: ExamplesManifest) -> None:
        if manifest.sides["train"].examples:
            return
        if not manifest.records:
            raise self._no_records()
        why = f"of {manifest.records:,} records, {manifest.dropped:,} were too long"
        if manifest.skipped:
            why += f", {manifest.skipped:,} no conversations"
        raise UserError(
            f"{self.source.spec} leaves no example to train on: {why}.",
            fix="Give more conversations, hold out fewer (data.val_fraction, chat.test_fraction), "
            "or raise the limits on their length.",
        )


def in_order(records: int, *, val_fraction: float, test_fraction: float) -> tuple[int, int]:
    """How many of the first records train, and how many after them are for the test.

    Rounded down, each by itself, and what is left is for validation: of 1,100 records with 5% and
    10%, 935 train, 110 are for the test and 55 for validation (Raschka 2024, "Build a Large
    Language Model (From Scratch)", chapter 7).
    """
    # Of the numbers as they are written: 0.85 of 1,100 is 935 and not 934.99.
    val, test = Fraction(repr(val_fraction)), Fraction(repr(test_fraction))
    return int(records * (1 - val - test)), int(records * test)


def _copies(keys: Sequence[bytes], sides: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Examples whose like came before, and those held out whose like is trained on (R06)."""
    trained = {key for key, side in zip(keys, sides.tolist(), strict=True) if side == 0}
    held_out = [key for key, side in zip(keys, sides.tolist(), strict=True) if side != 0]
    return len(keys) - len(set(keys)), sum(key in trained for key in held_out)
