"""The `[data]` table of a recipe, with its sources and stages. Without torch."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fromscratch.data.shares import ShareSchedule, Stage
from fromscratch.foundation.errors import UserError, did_you_mean


class _Table(BaseModel):
    """Unknown keys are errors, values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class SourceConfig(_Table):
    """One source of a mixture. `weight` is its share of the training windows, in any unit.

    More than `max_epochs` passes over its text are refused before the run. `field` is the text of
    JSON and Parquet records; with `render`, they are conversations for that chat template.
    """

    name: str
    path: str
    field: str = "text"
    render: str | None = None
    weight: Weight = 1.0
    max_epochs: float | None = Field(default=None, gt=0.0)


class StageConfig(_Table):
    """From `from_tokens` on, other weights, reached along a straight line over `blend_tokens`.

    Every source is named: 0 ends one. Tokens are counted as in train.tokens.
    """

    from_tokens: int = Field(default=0, ge=0)
    weights: dict[str, Weight]
    blend_tokens: int = Field(default=0, ge=0)

    @property
    def end(self) -> int:
        """Where its weights are in force, in tokens."""
        return self.from_tokens + self.blend_tokens


class DataConfig(_Table):
    """What is trained on: `path` (prepared data or a source) or several `[[data.source]]`.

    `documents` says what a document is in plain text files: each `file`, a `passage` of one, a
    `paragraph` (what stands between blank lines), or `auto`: files, unless there are too few to
    hold some out. `field` and `render` are those of `[[data.source]]`, for `path`. `dedup` leaves
    out documents that came before: `exact` copies, or `near` ones too.
    """

    path: str | None = None
    tokenizer: str = "gpt2"
    val_fraction: float = Field(default=0.01, ge=0.0, lt=1.0)
    documents: Literal["auto", "file", "passage", "paragraph"] = "auto"
    field: str = "text"
    render: str | None = None
    dedup: Literal["none", "exact", "near"] = "none"
    document_mask: bool = False
    seed: int = Field(default=0, ge=0)
    source: list[SourceConfig] = []
    stage: list[StageConfig] = []

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
