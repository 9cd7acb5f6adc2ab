"""The recipe: every setting of a run, in TOML, checked before anything is spent.

A recipe file holds the differences from the defaults below. `load_recipe` finds one by name or
path, applies overrides of the form `model.n_layer=6`, and refuses unknown keys with the closest
known one. No torch here: `plan` reads recipes too.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fromscratch.foundation.errors import UserError, did_you_mean
from fromscratch.foundation.schedules import Schedule, ScheduleName
from fromscratch.model.config import ModelConfig
from fromscratch.optim.config import OptimConfig
from fromscratch.tokenizer.names import vocab_size_of


class _Table(BaseModel):
    """A table of a recipe: unknown keys are errors, values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceConfig(_Table):
    """One source of a mixture. `weight` is its share of the training windows, in any unit."""

    name: str
    path: str
    weight: float = Field(default=1.0, ge=0.0)
    max_epochs: float | None = Field(default=None, gt=0.0)


class StageConfig(_Table):
    """From `from_tokens` on, other weights, reached along a straight line over `blend_tokens`."""

    from_tokens: int = Field(ge=0)
    weights: dict[str, float]
    blend_tokens: int = Field(default=0, ge=0)


class DataConfig(_Table):
    """What is trained on: `path` (prepared data or a source) or several `[[data.source]]`.

    `documents` says what a document is in plain text files: each `file`, a `passage` of one, or
    `auto`: files, unless there are too few to hold some out.
    """

    path: str | None = None
    tokenizer: str = "gpt2"
    val_fraction: float = Field(default=0.01, ge=0.0, lt=1.0)
    documents: Literal["auto", "file", "passage"] = "auto"
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
            for name in stage.weights:
                if name not in names:
                    raise UserError(
                        f'[[data.stage]] gives a weight to "{name}", which is not a source.'
                        f"{did_you_mean(name, names)}"
                    )
        return self


class ScheduleConfig(_Table):
    """The learning rate over the run; `min_lr` is the end of the decay, in the unit of optim.lr."""

    name: ScheduleName = "cosine"
    warmup_steps: int = Field(default=0, ge=0)
    decay_fraction: float = Field(default=0.2, gt=0.0, le=1.0)
    min_lr: float = Field(default=0.0, ge=0.0)


class PhaseConfig(_Table):
    """From step `from_step` on, another schedule and clip, within the same run."""

    from_step: int = Field(ge=1)
    schedule: ScheduleName | None = None
    min_lr: float | None = Field(default=None, ge=0.0)
    clip: float | None = Field(default=None, ge=0.0)


class TrainConfig(_Table):
    """How long, in what portions, on what. Exactly one of `steps`, `tokens` and `epochs`.

    `tokens_per_step` fixes the mathematics (R29); `micro_batch` windows at a time only the speed.
    """

    steps: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0.0)
    tokens_per_step: int = Field(ge=1)
    micro_batch: int = Field(default=8, ge=1)
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    compile: bool = False
    device: str = "auto"
    seed: int = Field(default=0, ge=0)
    activation_checkpointing: bool = False
    phase: list[PhaseConfig] = []

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        given = [n for n in ("steps", "tokens", "epochs") if getattr(self, n) is not None]
        if len(given) != 1:
            said = " and ".join(f"train.{n}" for n in given) or "none of them"
            raise UserError(
                f"A recipe says how long to train in one way: train.steps, train.tokens or "
                f"train.epochs. This one has {said}."
            )
        return self


class EvalConfig(_Table):
    """Validation every `every` steps (0: at the start and the end) on at most `tokens` targets."""

    every: int = Field(default=250, ge=0)
    tokens: int = Field(default=1_048_576, ge=0, description="0: the whole validation split")


class SampleConfig(_Table):
    """Continuations of fixed prompts with a fixed seed, so that they compare over time (R47)."""

    every: int = Field(default=500, ge=0)
    prompts: list[str] = [""]
    max_new_tokens: int = Field(default=64, ge=1)
    temperature: float = Field(default=0.8, ge=0.0)
    top_k: int = Field(default=50, ge=0)
    seed: int = Field(default=0, ge=0)


class CheckpointConfig(_Table):
    """A checkpoint every `every` steps; the last `keep_last` and the best are kept."""

    every: int = Field(default=500, ge=1)
    keep_last: int = Field(default=3, ge=1)
    keep_best: bool = True


class TrackConfig(_Table):
    """Trackers besides the run's own files."""

    tensorboard: bool = False
    wandb: bool = False


class ParallelConfig(_Table):
    """How several devices share the work."""

    mode: Literal["ddp", "fsdp"] = "ddp"


class Recipe(_Table):
    """All settings of a run. One key has one name: in TOML, in overrides and in the docs."""

    name: str
    description: str = ""
    model: ModelConfig
    data: DataConfig
    optim: OptimConfig = OptimConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig
    eval: EvalConfig = EvalConfig()
    sample: SampleConfig = SampleConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    track: TrackConfig = TrackConfig()
    parallel: ParallelConfig = ParallelConfig()

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        tokens, context = self.train.tokens_per_step, self.model.context
        if tokens % context:
            lower = max(1, tokens // context) * context
            raise UserError(
                f"train.tokens_per_step = {tokens:,} is not a multiple of model.context = "
                f"{context:,}.",
                fix=f"Nearest: {lower:,} or {lower + context:,}.",
            )
        samples = tokens // context
        if samples % self.train.micro_batch:
            valid = [n for n in range(1, samples + 1) if samples % n == 0]
            raise UserError(
                f"train.micro_batch = {self.train.micro_batch} does not divide the "
                f"{samples:,} windows of a step (train.tokens_per_step / model.context).",
                fix=f"Valid: {', '.join(map(str, valid[:24]))}.",
            )
        if self.schedule.min_lr > self.optim.lr:
            raise UserError(
                f"schedule.min_lr = {self.schedule.min_lr:g} is above optim.lr = "
                f"{self.optim.lr:g}: the rate would rise at the end."
            )
        return self

    @property
    def samples_per_step(self) -> int:
        """Windows in the global batch."""
        return self.train.tokens_per_step // self.model.context

    def steps(self, *, windows_per_epoch: int | None = None) -> int | None:
        """Number of updates; None when it depends on an epoch's length and that is not given."""
        train = self.train
        if train.steps is not None:
            return train.steps
        if train.tokens is not None:
            return max(1, -(-train.tokens // train.tokens_per_step))
        if windows_per_epoch is None:
            return None
        assert train.epochs is not None
        return max(1, round(train.epochs * windows_per_epoch / self.samples_per_step))

    def lr_schedule(self, steps: int) -> Schedule:
        """The schedule of a run of `steps` updates.

        Raises:
            UserError: The warmup is longer than the run.
        """
        if self.schedule.warmup_steps >= steps and steps > 1:
            raise UserError(
                f"schedule.warmup_steps = {self.schedule.warmup_steps:,} leaves nothing of a run of "
                f"{steps:,} steps.",
                fix="Shorten the warmup or train longer.",
            )
        return Schedule(
            name=self.schedule.name,
            steps=steps,
            warmup_steps=self.schedule.warmup_steps if steps > 1 else 0,
            decay_fraction=self.schedule.decay_fraction,
            floor=self.schedule.min_lr / self.optim.lr,
        )

    def to_toml(self) -> str:
        """The whole recipe as TOML, defaults included; what is None is left out."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))

    @property
    def hash(self) -> str:
        """sha256 of the resolved recipe."""
        return hashlib.sha256(self.to_toml().encode()).hexdigest()


# --- loading --------------------------------------------------------------------------------------


def shipped_recipes() -> list[str]:
    """The names of the recipes in this package."""
    folder = resources.files("fromscratch.runs") / "recipes"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe and applies overrides.

    Args:
        name_or_path: The name of a shipped recipe, or a TOML file.
        overrides: `dotted.key=value`, values as in TOML; a bare word is a string.

    Raises:
        UserError: No such recipe, an unknown key, a value that cannot be.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix == ".toml" or path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"The recipe {path} cannot be read: {error.strerror}.") from None
        name = path.stem
    else:
        name = name_or_path
        if name not in shipped_recipes():
            raise UserError(
                f'There is no recipe "{name}".{did_you_mean(name, shipped_recipes())}',
                fix=f"Shipped: {', '.join(shipped_recipes())}; or give a path to a .toml file.",
            )
        text = (resources.files("fromscratch.runs") / "recipes" / f"{name}.toml").read_text("utf-8")
    return parse_recipe(text, name=name, overrides=overrides)


def parse_recipe(text: str, *, name: str, overrides: Sequence[str] = ()) -> Recipe:
    """`load_recipe` for TOML text; `name` stands in where the text has none.

    Raises:
        UserError: As `load_recipe`.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"The recipe {name} is not valid TOML: {error}.") from None
    values.setdefault("name", name)
    for override in overrides:
        _apply(values, override)
    return recipe_from(values)


def recipe_from(values: dict[str, Any]) -> Recipe:
    """Checks a recipe given as nested tables.

    Raises:
        UserError: An unknown key, a value that cannot be.
    """
    _refuse_unknown_keys(values, Recipe, prefix="")
    model = values.get("model")
    if isinstance(model, dict) and not model.get("vocab_size"):
        tokenizer = values.get("data", {}).get("tokenizer", "gpt2")
        implied = vocab_size_of(tokenizer) if isinstance(tokenizer, str) else None
        if implied is not None:
            values = values | {"model": model | {"vocab_size": implied}}
    try:
        return Recipe(**values)
    except ValidationError as error:
        raise UserError(_first_problem(error)) from None


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(
            f'"{override}" is not an override.', fix="Write key=value, e.g. optim.lr=6e-4."
        )
    table = values
    *parents, last = key.strip().split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise UserError(f'"{key}": {parent} is not a table with keys.')
    if key.startswith("train.") and last in ("steps", "tokens", "epochs"):
        for other in ("steps", "tokens", "epochs"):
            table.pop(other, None)  # saying one replaces what the recipe says
    table[last] = _value(text)


def _value(text: str) -> Any:
    """A TOML value; a number may have underscores or be 1e6; anything else is a string."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def _refuse_unknown_keys(values: dict[str, Any], model: type[BaseModel], *, prefix: str) -> None:
    known = model.model_fields
    for key, value in values.items():
        if key not in known:
            hint = did_you_mean(key, known, prefix=prefix)
            if not hint:  # the right key of the wrong table is the likeliest other mistake
                elsewhere = [p for p in _all_keys(Recipe, "") if p.rpartition(".")[2] == key]
                hint = f' Did you mean "{elsewhere[0]}"?' if elsewhere else ""
            raise UserError(f'There is no setting "{prefix}{key}".{hint}')
        table, many = _table_of(known[key].annotation)
        if table is not None and many and isinstance(value, list):
            for item in value:
                if isinstance(item, dict):
                    _refuse_unknown_keys(item, table, prefix=f"{prefix}{key}.")
        elif table is not None and isinstance(value, dict):
            _refuse_unknown_keys(value, table, prefix=f"{prefix}{key}.")


def _table_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The table that a field holds, if any, and whether it holds a list of them."""
    if get_origin(annotation) is list:
        return _table_of(get_args(annotation)[0])[0], True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    return None, False


def _all_keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for key, info in model.model_fields.items():
        table, _ = _table_of(info.annotation)
        if table is None:
            yield f"{prefix}{key}"
        else:
            yield from _all_keys(table, f"{prefix}{key}.")


def _first_problem(error: ValidationError) -> str:
    """The first of pydantic's findings as a sentence."""
    first = error.errors()[0]
    if isinstance(inner := first.get("ctx", {}).get("error"), UserError):
        return str(inner)
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f'The recipe lacks "{key}".'
    message = first["msg"][0].lower() + first["msg"][1:]
    return f"{key} = {first['input']!r}: {message}."
