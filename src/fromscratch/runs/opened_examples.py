"""A finetuning recipe's conversations: made into examples on first use, and opened as rows.

As with text, a source is prepared once into `prepared/NAME-HASH/`, where the hash covers the
source, its files' sizes and times, the template, the tokenizer and all settings; a run keeps that
folder in its recipe, and goes on with it wherever it is resumed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from fromscratch.chat.conversations import Message, messages_of
from fromscratch.chat.preferences import preference_of
from fromscratch.chat.template import template_named
from fromscratch.data.batches import TrainingData, TrainingSource, ValidationSet
from fromscratch.data.example_rows import ExampleRows
from fromscratch.data.examples import SIDES, Examples, Side, is_examples
from fromscratch.data.make_examples import ExampleSettings, make_examples
from fromscratch.data.preference_rows import PairRows
from fromscratch.data.sources import Reading, Source, name_for
from fromscratch.data.watching import Watch
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import read_json_lines
from fromscratch.foundation.names import EXAMPLES_TEST
from fromscratch.runs.data_config import SourceConfig
from fromscratch.runs.opened_data import POOLED, OpenedData, folder_for
from fromscratch.runs.recipe import Recipe
from fromscratch.tokenizer.special import with_special_tokens
from fromscratch.tokenizer.tokenizer import Tokenizer, load_tokenizer

# What is rendered to tell one version of a template from another.
_PROBE = (
    Message("system", "s"),
    Message("user", "u", "c"),
    Message("assistant", "a"),
    Message("user", "v"),
    Message("assistant", "b"),
)


@dataclass(frozen=True)
class OpenedExamples(OpenedData):
    """Conversations as rows to train on.

    Attributes:
        sources: The examples, by source.
        rows: The training rows, by source.
    """

    sources: dict[str, Examples] = field(default_factory=dict)
    rows: dict[str, ExampleRows | PairRows] = field(default_factory=dict)

    @property
    def folders(self) -> dict[str, Path]:
        """The folder of examples of each source; each with the tokenizer in it."""
        return {name: examples.folder for name, examples in self.sources.items()}

    def total(self, quantity: str, side: Side) -> int:
        """Sum of `examples`, `tokens` or `learned` of a side over the sources."""
        return sum(
            int(getattr(examples.manifest.sides[side], quantity))
            for examples in self.sources.values()
        )

    def describe(self) -> dict[str, object]:
        """What the report says about the data."""
        manifests = [examples.manifest for examples in self.sources.values()]
        return {
            "sources": list(self.sources),
            "train_tokens": self.total("tokens", "train"),
            "val_tokens": self.total("learned", "val"),
            "val_bytes": self._held_out_bytes(),
            "documents": sum(self.total("examples", side) for side in SIDES),
            "tokenizer": self.tokenizer.name,
            "fingerprint": self.training.fingerprint,
            "template": manifests[0].settings["template"],
            "examples": {side: self.total("examples", side) for side in SIDES},
            "learned_tokens": self.total("learned", "train"),
            "dropped": sum(manifest.dropped for manifest in manifests),
            "rows": sum(len(rows) for rows in self.rows.values()),
            "filled": self.filled,
        }

    @property
    def filled(self) -> float:
        """Share of the training rows' positions in which there is an example."""
        positions = sum(rows.n_tokens for rows in self.rows.values())
        return sum(rows.filled * rows.n_tokens for rows in self.rows.values()) / positions

    def _held_out_bytes(self) -> int:
        """Bytes of text that are learned in the held-out examples."""
        per_id, n_bytes = self.tokenizer.bytes_per_id, 0
        for examples in self.sources.values():
            for number in examples.of("val").tolist():
                ids, learned = examples.read(number)
                n_bytes += int(per_id[ids[1:][learned[1:]]].sum())
        return n_bytes

    def shown(self) -> list[tuple[str, list[tuple[str, bool]]]]:
        """What is trained on first, to be looked at (R50): what it is, and `stretches` of it."""
        examples = next(iter(self.sources.values()))
        first, *_ = numbers = examples.of("train").tolist()
        if not examples.manifest.settings["pairs"]:
            return [("the first example", self.stretches(examples, first))]
        words = ("the first pair: chosen", "the first pair: rejected")
        return [
            (what, self.stretches(examples, number))
            for what, number in zip(words, numbers[:2], strict=True)
        ]

    def stretches(self, examples: Examples, number: int) -> list[tuple[str, bool]]:
        """An example as stretches of text, and whether each is learned."""
        ids, learned = examples.read(number)
        learned[0] = False  # it is given, and never predicted
        names = {i: name for name, i in self.tokenizer.special_ids.items()}
        tokens = zip(ids.tolist(), learned.tolist(), strict=True)
        stretches = []
        for (is_learned, is_special), group in groupby(
            tokens, key=lambda token: (token[1], token[0] in names)
        ):
            some = [i for i, _ in group]
            text = "".join(names[i] for i in some) if is_special else self.tokenizer.decode(some)
            stretches.append((text, is_learned))
        return stretches

    def test_conversations(self) -> Iterator[tuple[str, tuple[Message, ...]]]:
        """The source and the messages of each test example, in the sources' order."""
        for name, examples in self.sources.items():
            path = examples.folder / EXAMPLES_TEST
            for line in read_json_lines(path) if path.is_file() else ():
                yield name, tuple(Message(**turn) for turn in line["messages"])


def open_examples(recipe: Recipe, report: Watch) -> OpenedExamples:
    """Opens the conversations that a recipe trains on.

    Args:
        recipe: Its data.tokenizer is a folder: of the model that is started from, or of examples.
        report: Told how the preparation goes.

    Raises:
        UserError: They cannot be had, or were made into examples in another way.
    """
    chat, data, context = recipe.chat, recipe.data, recipe.model.context
    template = template_named(chat.template)
    if not Path(data.tokenizer).is_dir():
        raise UserError(
            f"{data.tokenizer} is gone, from which the examples or their tokenizer were taken.",
            fix="Restore it, or start a new run with --from.",
        )
    base = load_tokenizer(Path(data.tokenizer))
    tokenizer = with_special_tokens(base, template.special_tokens)
    configs = data.source or [_only_source(recipe)]
    settings = _settings(recipe)
    sources: dict[str, Examples] = {}
    for config in configs:
        folder = Path(config.path).expanduser()
        if is_examples(folder):
            _check_same(Examples(folder), settings, tokenizer)
        else:
            folder = _made(config, settings, tokenizer, report)
        sources[config.name] = Examples(folder)
    rows = {name: _rows(examples, "train", recipe, tokenizer) for name, examples in sources.items()}
    training = TrainingData(
        [
            TrainingSource(
                config.name,
                config.weight,
                rows[config.name],
                _fingerprint(sources[config.name], packing=chat.packing),
            )
            for config in configs
        ],
        seed=data.seed,
        eot_id=None,
        stages=data.shares(unit=context).stages,
    )
    held_out = {
        name: _rows(examples, "val", recipe, tokenizer) for name, examples in sources.items()
    }
    if len(held_out) == 1:
        held_out = {POOLED: next(iter(held_out.values()))}
    return OpenedExamples(
        training=training,
        validation=[
            ValidationSet(name, some, tokenizer.bytes_per_id, None, recipe.eval.tokens)
            for name, some in held_out.items()
            if len(some)
        ],
        tokenizer=tokenizer,
        parts=[],
        windows_per_epoch=len(training.sources[0].windows) if len(configs) == 1 else None,
        warnings=[
            *(("examples", _counts(some, rows[name])) for name, some in sources.items()),
            *(note for some in sources.values() for note in _notes(some)),
        ],
        template=template,
        sources=sources,
        rows=rows,
    )


def _settings(recipe: Recipe) -> ExampleSettings:
    chat, data = recipe.chat, recipe.data
    return ExampleSettings(
        template=chat.template,
        loss_on=chat.loss_on,
        context=recipe.model.context,
        max_prompt_tokens=chat.max_prompt_tokens,
        max_answer_tokens=chat.max_answer_tokens,
        too_long=chat.too_long,
        on_bad=chat.on_bad,
        split=chat.split,
        val_fraction=data.val_fraction,
        test_fraction=chat.test_fraction,
        seed=data.seed,
        pairs=recipe.has_pairs,
    )


def _only_source(recipe: Recipe) -> SourceConfig:
    """`data.path` as a source, called what its conversations were called when they were read."""
    path = recipe.data.path
    assert path is not None
    folder = Path(path).expanduser()
    name = Examples(folder).manifest.source if is_examples(folder) else name_for(path)
    return SourceConfig(name=name, path=path)


def _made(
    config: SourceConfig, settings: ExampleSettings, tokenizer: Tokenizer, report: Watch
) -> Path:
    """The folder of a source's examples, made now where it is not there yet."""
    record = preference_of if settings.pairs else messages_of
    reading = Reading(record=record, on_bad=settings.on_bad)
    source = Source(config.name, config.path, reading).listed()
    template = template_named(settings.template)
    key: list[object] = [
        source.spec,
        source.stamp(),
        tokenizer.fingerprint,
        asdict(settings),
        [asdict(piece) for piece in template.pieces(_PROBE)],
    ]
    folder = folder_for(config.name, key)
    make_examples(source, folder, tokenizer, settings, watch=report)
    return folder


def _rows(
    examples: Examples, side: Side, recipe: Recipe, tokenizer: Tokenizer
) -> ExampleRows | PairRows:
    if recipe.has_pairs:
        return PairRows(examples, side, recipe.model.context, padding_id=tokenizer.eot_id)
    return ExampleRows(
        examples,
        side,
        recipe.model.context,
        packing=recipe.chat.packing,
        padding_id=tokenizer.eot_id,
    )


def _fingerprint(examples: Examples, *, packing: bool) -> str:
    content = json.dumps([examples.manifest.fingerprint, "packed" if packing else "padded"])
    return hashlib.sha256(content.encode()).hexdigest()


def _check_same(examples: Examples, settings: ExampleSettings, tokenizer: Tokenizer) -> None:
    """Refuses examples that were made otherwise than the recipe says."""
    was: dict[str, Any] = examples.manifest.settings
    words = {"context": "model.context", "val_fraction": "data.val_fraction", "seed": "data.seed"}
    for key, now in asdict(settings).items():
        if was[key] != now:
            if key == "pairs":
                raise UserError(
                    f"{examples.folder} holds {'preferences' if was[key] else 'conversations'}, "
                    f"and the recipe trains on {'preferences' if now else 'conversations'}.",
                    fix="Give data.path=SOURCE of the right kind.",
                )
            raise UserError(
                f"The examples in {examples.folder} were made with "
                f"{words.get(key, f'chat.{key}')} = {was[key]!r}, and the recipe says {now!r}.",
                fix="Give the conversations themselves once more: data.path=SOURCE.",
            )
    if examples.manifest.tokenizer_fingerprint != tokenizer.fingerprint:
        raise UserError(
            f"The examples in {examples.folder} were made with another tokenizer than that of the "
            "model that is started from.",
            fix="Give the conversations themselves: data.path=SOURCE.",
        )


def _counts(examples: Examples, rows: ExampleRows | PairRows) -> str:
    """What a source's examples are: how many, how long, how much of them is learned (R51)."""
    manifest = examples.manifest
    train, sides = manifest.sides["train"], manifest.sides
    held_out = f"{sides['val'].examples:,} held out"
    if sides["test"].examples:
        held_out += f", {sides['test'].examples:,} for the test"
    if isinstance(rows, PairRows):
        return (
            f'{len(rows):,} pairs of "{manifest.source}" to train on, '
            f"{sides['val'].examples // 2:,} held out; {train.tokens:,} tokens, of which "
            f"{train.learned / train.tokens:.1%} are answers; "
            f"{train.tokens / train.examples:,.0f} tokens a row on average"
        )
    if rows.padded:
        kind = f"rows of one each, {train.tokens / train.examples:,.0f} tokens on average"
    else:
        kind = f"{len(rows):,} rows of {rows.context:,}, {rows.filled:.1%} filled"
    return (
        f'{train.examples:,} of "{manifest.source}" to train on, {held_out}; {train.tokens:,} '
        f"tokens, of which {train.learned / train.tokens:.1%} are learned; {kind}"
    )


def _notes(examples: Examples) -> list[tuple[str, str]]:
    """What a person should know of a source's examples before the run."""
    manifest = examples.manifest
    notes = []
    if not manifest.sides["val"].examples:
        said = f'of "{manifest.source}" nothing is held out, so nothing tells how it is learnt'
        notes.append(("no_held_out_text", said))
    if manifest.copies_across:
        said = (
            f'{manifest.copies_across:,} held-out examples of "{manifest.source}" are trained on '
            'too: exact copies, which chat.split = "hash" keeps on one side (R06)'
        )
        notes.append(("copies_across_the_split", said))
    if manifest.ties:
        said = (
            f'{manifest.ties:,} of {manifest.records:,} preferences of "{manifest.source}" are for '
            "one of two equal answers, and left out"
        )
        notes.append(("ties_dropped", said))
    if manifest.dropped:
        said = (
            f'{manifest.dropped:,} of {manifest.records:,} examples of "{manifest.source}" are too '
            f"long and left out: {manifest.prompt_too_long:,} by their prompt, "
            f"{manifest.answer_too_long:,} by their answer, {manifest.both_too_long:,} by the "
            "context"
        )
        notes.append(("examples_dropped", said))
    if manifest.skipped:
        said = f'{manifest.skipped:,} records of "{manifest.source}" are bad and left out'
        notes.append(("records_skipped", said))
    return notes
