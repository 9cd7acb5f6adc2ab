"""The `[data]` table of a recipe, with its sources and stages. Without torch."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fromscratch.data.shares import ShareSchedule, Stage
from fromscratch.foundation.errors import UserError, did_you_mean
from fromscratch.foundation.settings import Epochs, Share, Table, Tokens

Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class SourceConfig(Table):
    """`[[data.source]]`: one source of a mixture."""

    name: str
    """What stages, logs and reports call it."""
    path: str
    """Prepared data, or what `prepare` takes as a SOURCE."""
    field: str = "text"
    """The text of JSON and Parquet records."""
    render: str | None = None
    """A chat template: records are conversations, and become text by it."""
    weight: Weight = 1.0
    """Its share of the training windows, in any unit."""
    max_epochs: Epochs | None = Field(default=None, gt=0.0)
    """More passes over its text are refused before the run."""


class StageConfig(Table):
    """`[[data.stage]]`: other weights from a place on."""

    from_tokens: Tokens = Field(default=0, ge=0)
    """Where it begins, counted as in train.tokens."""
    weights: dict[str, Weight]
    """The weight of every source; 0 ends one."""
    blend_tokens: Tokens = Field(default=0, ge=0)
    """How long the way to them is, a straight line."""

    @property
    def end(self) -> int:
        """Where its weights are in force, in tokens."""
        return self.from_tokens + self.blend_tokens


class DataConfig(Table):
    """What is trained on: `path`, or several `[[data.source]]`."""

    path: str | None = None
    """Prepared data, or what `prepare` takes as a SOURCE: prepared once, on first use."""
    tokenizer: str = "gpt2"
    """What turns text into ids, where it is prepared here (docs/tokenizers.md)."""
    val_fraction: Share = Field(default=0.01, ge=0.0, lt=1.0)
    """Of the documents, chosen by their content, what is held out."""
    documents: Literal["auto", "file", "passage", "paragraph"] = "auto"
    """What a document is in plain text: each file, a passage of one, what stands between blank
    lines; `auto`: files, unless there are too few to hold some out."""
    field: str = "text"
    """The text of JSON and Parquet records."""
    render: str | None = None
    """A chat template: records are conversations, and become text by it."""
    dedup: Literal["none", "exact", "near"] = "none"
    """Leaves out documents that came before: copies, or near ones too."""
    document_mask: bool = False
    """Whether tokens attend within their own document only."""
    seed: int = Field(default=0, ge=0)
    """Of the split and of the order of windows."""
    source: list[SourceConfig] = []
    """The sources of a mixture."""
    stage: list[StageConfig] = []
    """How their weights change along the run."""

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.path is not None and self.source:
            raise UserError("A recipe has either data.path or [[data.source]], not both.")
        names = [source.name for source in self.source]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f'Two [[data.source]] are called "{name}".', fix="Rename one.")
        for stage in self.stage:
            _check_names(stage, names)
        _check_order(self.stage)
        if self.source:
            self.shares()
        return self

    def shares(self, *, unit: int = 1) -> ShareSchedule:
        """The mixture's shares over the run; positions in units of so many tokens.

        Raises:
            UserError: Weights that give no shares.
        """
        names = [source.name for source in self.source] or [""]
        weights = tuple(source.weight for source in self.source) or (1.0,)
        stages = (
            Stage(
                stage.from_tokens / unit,
                tuple(stage.weights[name] for name in names),
                stage.blend_tokens / unit,
            )
            for stage in self.stage
        )
        return ShareSchedule(weights, tuple(stages))


def _check_names(stage: StageConfig, names: list[str]) -> None:
    """A stage names every source, and nothing else: one that is forgotten would be unlearned."""
    for name in stage.weights:
        if name not in names:
            raise UserError(
                f'[[data.stage]] gives a weight to "{name}", which is not a source.'
                f"{did_you_mean(name, names)}"
            )
    for name in names:
        if name not in stage.weights:
            raise UserError(
                f"The [[data.stage]] from {stage.from_tokens:,} tokens on has no weight for "
                f'"{name}".',
                fix=f'Say what becomes of it: "{name} = 0" in its weights ends it.',
            )


def _check_order(stages: list[StageConfig]) -> None:
    """Stages come one after the other, and each changes something that was there."""
    if stages and stages[0].end == 0:
        raise UserError(
            "The first [[data.stage]] is in force from the start, so the weights of the sources "
            "never are.",
            fix="Give it from_tokens or blend_tokens, or write its weights at the sources.",
        )
    for stage, following in pairwise(stages):
        if following.from_tokens <= stage.from_tokens:
            raise UserError(
                f"A [[data.stage]] from {following.from_tokens:,} tokens on stands after one from "
                f"{stage.from_tokens:,} on.",
                fix="Write stages in the order in which they begin, each later than the last.",
            )
        if following.from_tokens < stage.end:
            room = following.from_tokens - stage.from_tokens
            raise UserError(
                f"The [[data.stage]] from {following.from_tokens:,} tokens on begins before the "
                f"blend of the one before it has ended (at {stage.end:,}).",
                fix=f"Begin it later, or blend the one before over at most {room:,} tokens.",
            )
