"""What is looked for in prepared data: text that `prepare` wrote, or conversations of a recipe.

Counts come from the manifest, whatever the size. Of the text itself so much is read that the answer
takes seconds: `LOOKED_AT` tokens of each split, spread evenly; `data show` reads more.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fromscratch.chat.rendering import stop_ids
from fromscratch.chat.template import template_named
from fromscratch.data.advice import advice
from fromscratch.data.audit import AuditOptions, audit
from fromscratch.data.embedded import is_embedded
from fromscratch.data.examples import Examples
from fromscratch.data.hub import HUB_PREFIX
from fromscratch.data.listing import matching_files
from fromscratch.data.shards import Manifest, load_manifest
from fromscratch.doctor.finding import Check
from fromscratch.foundation.advice import Advice
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.names import DATA_MANIFEST, EXAMPLES_MANIFEST
from fromscratch.report.numerals import percent
from fromscratch.tokenizer.tokenizer import load_tokenizer

LOOKED_AT = 500_000
"""Tokens of each split whose text is read: two seconds on a laptop."""

_EVERYTHING = 1_000
_LEARNED_SHARE = 0.02
_LOOKED_AT_EXAMPLES = 100
_DROPPED_SHARE = 0.1


@dataclass(frozen=True)
class DataSubject:
    """Prepared data.

    Attributes:
        folder: Where it lies.
        context: Tokens in a window of who trains on it.
    """

    folder: Path
    context: int = 1024

    @cached_property
    def manifest(self) -> Manifest:
        """What `prepare` wrote down."""
        return load_manifest(self.folder)

    @cached_property
    def advice(self) -> list[Advice]:
        """What a short look at the text says."""
        look = AuditOptions(context=self.context, samples=0, most_tokens=LOOKED_AT)
        return advice(audit(self.folder, look), most=_EVERYTHING)


@dataclass(frozen=True)
class ExamplesSubject:
    """Conversations, or preferences, made into examples."""

    examples: Examples


def _whole(subject: DataSubject) -> Iterator[Advice]:
    """Preparing it has ended, and each shard is as large as the manifest says."""
    assert subject.manifest.shards is not None, "reading it refuses what is not"
    yield from ()


def _text_of(regret: str) -> Callable[[DataSubject], list[Advice]]:
    """What the short look at the text says of one regret; all of them share the look."""

    def look(subject: DataSubject) -> list[Advice]:
        return [said for said in subject.advice if said.regret == regret]

    return look


def _changed_sources(subject: DataSubject) -> Iterator[Advice]:
    """Files of a source that were written after the data was prepared from them."""
    sources = [(source.name, source.spec) for source in subject.manifest.sources]
    yield from _newer(sources, (subject.folder / DATA_MANIFEST).stat().st_mtime)


def _changed_conversations(subject: ExamplesSubject) -> Iterator[Advice]:
    examples = subject.examples
    made = (examples.folder / EXAMPLES_MANIFEST).stat().st_mtime
    yield from _newer([(examples.manifest.source, examples.manifest.spec)], made)


def _newer(sources: list[tuple[str, str]], made: float) -> Iterator[Advice]:
    for name, spec in sources:
        if is_embedded(spec) or spec.startswith((HUB_PREFIX, "-")):
            continue
        try:
            files, _ = matching_files(spec)
        except UserError:  # it was given once, and need not be kept
            continue
        later = [path for path in files if path.is_file() and path.stat().st_mtime > made]
        if later:
            more = f" and {len(later) - 1:,} more" if len(later) > 1 else ""
            yield Advice(
                "R13",
                f'of "{name}", {later[0]}{more} was written after this data was prepared from it',
                "where the text is another one, prepare it again: fromscratch prepare "
                f"{shlex.quote(spec)} --out DATA",
            )


def _examples_held_out(subject: ExamplesSubject) -> Iterator[Advice]:
    if not subject.examples.manifest.sides["val"].examples:
        yield Advice(
            "R04",
            "no example is held out, so nothing tells when the model begins to learn by heart",
            "write data.val_fraction=0.05",
        )


def _copies_across(subject: ExamplesSubject) -> Iterator[Advice]:
    copies = subject.examples.manifest.copies_across
    if copies:
        yield Advice(
            "R06",
            f"{copies:,} held-out examples are trained on too",
            "write chat.split=hash, which keeps copies on one side",
        )


def _little_learned(subject: ExamplesSubject) -> Iterator[Advice]:
    train = subject.examples.manifest.sides["train"]
    if train.tokens and train.learned < _LEARNED_SHARE * train.tokens:
        yield Advice(
            "R51",
            f"only {percent(train.learned / train.tokens)} of {train.tokens:,} tokens are learned: "
            "the prompts are long and the answers short",
            "write chat.max_prompt_tokens, or take other data",
        )


def _stop_not_learned(subject: ExamplesSubject) -> Iterator[Advice]:
    """A model that never learns its stop token never stops; a look at the first examples."""
    examples = subject.examples
    template = template_named(str(examples.manifest.settings["template"]))
    tokenizer = load_tokenizer(examples.folder)
    stops = set(stop_ids(template, tokenizer))
    for number in examples.of("train")[:_LOOKED_AT_EXAMPLES].tolist():
        ids, learned = examples.read(number)
        answers = np.flatnonzero(learned[:-1] & ~learned[1:]).tolist()
        ends = [*answers, len(ids) - 1] if learned[-1] else answers
        if any(int(ids[end]) not in stops for end in ends):
            yield Advice(
                "R50",
                f"in example {number + 1:,} an answer's last learned token is no end of turn "
                f"({template.end_of_turn}): the model would never stop",
                "give the conversations themselves once more: data.path=SOURCE",
            )
            return


def _many_dropped(subject: ExamplesSubject) -> Iterator[Advice]:
    manifest = subject.examples.manifest
    if not manifest.records or manifest.dropped <= _DROPPED_SHARE * manifest.records:
        return
    reasons = [
        (manifest.prompt_too_long, "by their prompt", "a larger chat.max_prompt_tokens"),
        (manifest.answer_too_long, "by their answer", "a larger chat.max_answer_tokens"),
        (manifest.both_too_long, "by the context", "shorter examples, or a model of more context"),
    ]
    yield Advice(
        "R54",
        f"{manifest.dropped:,} of {manifest.records:,} examples "
        f"({percent(manifest.dropped / manifest.records)}) are too long and left out: "
        + ", ".join(f"{count:,} {why}" for count, why, _ in reasons if count),
        f"give {', or '.join(mend for count, _, mend in reasons if count)}",
    )


DATA_CHECKS: tuple[Check[DataSubject], ...] = (
    Check("R11", "it is finished, and every shard whole", _whole, "refused"),
    Check("R13", "the sources are as they were", _changed_sources),
    *(
        Check(regret, name, _text_of(regret))
        for regret, name in (
            ("R04", "enough text is held out"),
            ("R06", "no copies across the split"),
            ("R49", "no chat markers as text"),
            ("R52", "a window does not mix many documents"),
            ("R15", "the vocabulary fits the text"),
        )
    ),
)
"""Of text."""

EXAMPLES_CHECKS: tuple[Check[ExamplesSubject], ...] = (
    Check("R04", "examples are held out", _examples_held_out),
    Check("R06", "no copies across the split", _copies_across),
    Check("R13", "the source is as it was", _changed_conversations),
    Check("R50", "answers end with a token that is learned", _stop_not_learned),
    Check("R51", "enough is learned", _little_learned),
    Check("R54", "few are too long", _many_dropped),
)
"""Of conversations."""
