"""The recipe: every setting of a run, in TOML, checked before anything is spent.

A recipe file holds the differences from the defaults below; recipe_files.py reads it. No torch
here: `plan` reads recipes too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import Field, field_validator, model_validator

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.settings import Epochs, Minutes, Steps, Table, Tokens, Windows
from fromscratch.model.config import ModelConfig
from fromscratch.optim.config import OptimConfig
from fromscratch.optim.run_settings import RunSettings, run_settings
from fromscratch.optim.schedule_config import PhaseConfig, ScheduleConfig, check_order
from fromscratch.runs.chat_config import BaseConfig, ChatConfig
from fromscratch.runs.data_config import DataConfig
from fromscratch.runs.preference_config import PreferenceConfig
from fromscratch.track.config import TrackConfig
from fromscratch.train.guard_config import GuardConfig
from fromscratch.train.loss_scale import LossScaleConfig


class TrainConfig(Table):
    """What is learnt, how long, in what portions. Exactly one of `steps`, `tokens` and `epochs`."""

    objective: Literal["pretrain", "sft", "dpo", "orpo"] = "pretrain"
    """`pretrain` learns every token of text, `sft` the answers in conversations, `dpo` and `orpo`
    to prefer one answer to another."""
    steps: Steps | None = Field(default=None, ge=1)
    """How long to train, in updates."""
    tokens: Tokens | None = Field(default=None, ge=1)
    """How long to train, in tokens; the last step is a whole one."""
    epochs: Epochs | None = Field(default=None, gt=0.0)
    """How long to train, in passes over the training split."""
    tokens_per_step: Tokens = Field(ge=1)
    """Of one update, over all GPUs: fixes the mathematics."""
    micro_batch: Windows | Literal["auto"] = 8
    """Computed at a time on each GPU: changes speed and memory only. `auto`: the best that fits is
    found before the first step, and stands as a number in the run's recipe."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """What forward and backward compute in, the weights being fp32; `auto`: the device's best."""
    compile: bool | Literal["auto"] = "auto"
    """Whether blocks are compiled for training; `auto`: on CUDA, where it pays. Where it does not
    work, the run says so once and goes on without."""
    loss_scale: LossScaleConfig = LossScaleConfig()
    """A table of its own."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, `mps`; `auto`: the best there is."""
    seed: int = Field(default=0, ge=0)
    """All randomness of the run is derived from it."""
    activation_checkpointing: bool = False
    """Whether blocks are computed twice, which takes time and saves memory."""
    health_every: Steps = Field(default=50, ge=0)
    """How often each layer's norms, activations and attention are measured; 0: never."""
    phase: list[PhaseConfig] = []
    """Other settings from a step on."""

    @field_validator("micro_batch", mode="before")
    @classmethod
    def _check_micro_batch(cls, value: object) -> object:
        if value == "auto" or (type(value) is int and value >= 1):
            return value
        raise UserError(
            f'train.micro_batch = {value!r} is neither a whole number from 1 on nor "auto".'
        )

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        given = [n for n in ("steps", "tokens", "epochs") if getattr(self, n) is not None]
        if len(given) != 1:
            said = " and ".join(f"train.{n}" for n in given) or "none of them"
            raise UserError(
                f"A recipe says how long to train in one way: train.steps, train.tokens or "
                f"train.epochs. This one has {said}."
            )
        check_order(self.phase)
        return self


class EvalConfig(Table):
    """Validation during the run; also at its start and its end."""

    every: Steps = Field(default=250, ge=0)
    """How often; 0: at the start and the end only."""
    tokens: Tokens = Field(default=1_048_576, ge=0)
    """Held-out targets, the same every time; 0: the whole validation split."""
    patience: int = Field(default=0, ge=0)
    """Validations in a row, none better than the best, that end the run; 0: never."""
    hellaswag_every: Steps = Field(default=0, ge=0)
    """How often HellaSwag is answered, and at both ends; 0: never."""
    hellaswag: str = "hf:Rowan/hellaswag"
    """Its file, or its name on the hub."""
    hellaswag_items: int = Field(default=1000, ge=0)
    """Items of it, the same every time; 0: all."""
    hellaswag_style: Literal["completion", "harness"] = "completion"
    """How items become text: as in its first GPT-2 port, or as in lm-evaluation-harness."""


class SampleConfig(Table):
    """Continuations of fixed prompts with a fixed seed, so that they compare over time (R47)."""

    every: Steps = Field(default=500, ge=0)
    """How often; 0: never."""
    prompts: list[str] = [""]
    """What is continued; an empty one stands for the beginning of a document."""
    max_new_tokens: Tokens = Field(default=64, ge=1)
    """The longest continuation."""
    temperature: float = Field(default=0.8, ge=0.0)
    """What logits are divided by; 0: always the likeliest token."""
    top_k: Tokens = Field(default=50, ge=0)
    """Only so many of the likeliest are drawn from; 0: all."""
    seed: int = Field(default=0, ge=0)
    """Of the drawing."""


class CheckpointConfig(Table):
    """When a checkpoint is made, and which are kept."""

    every: Steps = Field(default=500, ge=1)
    """How often."""
    keep_last: int = Field(default=3, ge=1)
    """So many of the last are kept."""
    keep_best: bool = True
    """Whether the one with the lowest validation loss is kept."""
    keep_every: Steps = Field(default=0, ge=0)
    """Those of every so many steps are kept for ever; 0: none."""
    every_minutes: Minutes = Field(default=30.0, ge=0.0, allow_inf_nan=False)
    """Where there was none for so long, one is made that goes when there is a newer; 0: never."""
    background: bool = True
    """Whether it is written from a copy in memory, while training goes on."""


class ParallelConfig(Table):
    """How the processes that torchrun starts share the model."""

    mode: Literal["ddp", "fsdp"] = "ddp"
    """`ddp`: a copy on each GPU; `fsdp`: a part on each."""


class Recipe(Table):
    """All settings of a run. One key has one name: in TOML, in overrides and in the docs."""

    name: str
    """What the run is called; left out: the file's name."""
    description: str = ""
    """A line on what it is for."""
    model: ModelConfig
    """The architecture."""
    data: DataConfig
    """What is trained on."""
    optim: OptimConfig = OptimConfig()
    """The optimiser."""
    schedule: ScheduleConfig = ScheduleConfig()
    """The learning rate over the run."""
    train: TrainConfig
    """What is learnt, and how long."""
    eval: EvalConfig = EvalConfig()
    """Validation."""
    sample: SampleConfig = SampleConfig()
    """Samples."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Checkpoints."""
    track: TrackConfig = TrackConfig()
    """Trackers."""
    parallel: ParallelConfig = ParallelConfig()
    """Several processes."""
    guard: GuardConfig = GuardConfig()
    """What watches over the run."""
    chat: ChatConfig = ChatConfig()
    """Conversations."""
    base: BaseConfig = BaseConfig()
    """The model that was started from."""
    preference: PreferenceConfig = PreferenceConfig()
    """Preferences."""

    @model_validator(mode="before")
    @classmethod
    def _rows_of_one_example(cls, values: Any) -> Any:
        """A step of so many examples in rows of their own is a step of so many contexts."""
        chat, train, model = (values.get(name) for name in ("chat", "train", "model"))
        examples = chat.get("examples_per_step") if isinstance(chat, dict) else None
        context = model.get("context") if isinstance(model, dict) else None
        if isinstance(examples, int) and isinstance(context, int) and isinstance(train, dict):
            return values | {"train": train | {"tokens_per_step": examples * context}}
        return values

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        tokens, context = self.train.tokens_per_step, self.model.context
        if tokens % context:
            lower = max(1, tokens // context) * context
            raise UserError(
                f"train.tokens_per_step = {tokens:,} is not a multiple of model.context = "
                f"{context:,}.",
                fix=f"Nearest: {lower:,} or {lower + context:,}.",
                regret="R29",
            )
        if self.train.micro_batch != "auto":
            self._check_divides(self.train.micro_batch)
        self._check_objective()
        if self.has_pairs:
            self._check_pairs()
        if self.eval.patience and not (self.eval.every and self.checkpoint.keep_best):
            missing = "eval.every = 0" if self.checkpoint.keep_best else "no best is kept"
            raise UserError(
                f"eval.patience ends a run at its best validation, and there is none: {missing}.",
                fix="Say eval.every, in steps, and checkpoint.keep_best=true; or eval.patience=0.",
            )
        if self.schedule.min_lr > self.optim.lr:
            raise UserError(
                f"schedule.min_lr = {self.schedule.min_lr:g} is above optim.lr = "
                f"{self.optim.lr:g}: the rate would rise at the end."
            )
        if self.optim.name != "muon" and any(
            phase.muon_weight_decay is not None for phase in self.train.phase
        ):
            raise UserError(
                "A [[train.phase]] has muon_weight_decay, and this recipe has no Muon.",
                fix="Write weight_decay, or optim.name=muon.",
            )
        return self

    def _check_objective(self) -> None:
        """Refuses what has no effect on what is learnt."""
        if not self.has_pairs and self.preference != PreferenceConfig():
            raise UserError(
                f'[preference] has no effect with train.objective = "{self.train.objective}".',
                fix="Leave it out, or say train.objective=dpo or orpo.",
            )
        unused, why = ["chat"] if self.chat != ChatConfig() else [], "of conversations only"
        if self.train.objective != "pretrain":
            defaults, why = DataConfig(), "of pretraining only: [chat] says how examples are made"
            keys = ("documents", "field", "render", "dedup", "document_mask")
            unused = [f"data.{k}" for k in keys if getattr(self.data, k) != getattr(defaults, k)]
        if unused:
            raise UserError(
                f'{unused[0]} has no effect with train.objective = "{self.train.objective}": it is '
                f"{why}.",
                fix=f"Leave it out, or say train.objective="
                f"{'sft' if unused == ['chat'] else 'pretrain'}.",
            )

    def _check_pairs(self) -> None:
        """Refuses what pairs of answers cannot have."""
        chat, objective = self.chat, self.train.objective
        if objective == "dpo" and not self.base.model:
            raise UserError(
                "DPO compares a model with the one that it starts from, and this recipe starts "
                "from none.",
                fix="Say which: fromscratch train RECIPE --from MODEL.",
            )
        refused = {
            "chat.packing = true": chat.packing,
            'chat.loss_on = "all"': chat.loss_on == "all",
            f"chat.test_fraction = {chat.test_fraction:g}": chat.test_fraction > 0,
            f"preference.label_smoothing = {self.preference.label_smoothing:g}": (
                objective == "orpo" and self.preference.label_smoothing > 0
            ),
        }
        for said in [said for said, is_refused in refused.items() if is_refused]:
            key = said.split(" = ")[0]
            fix = "Say chat.packing=false." if key == "chat.packing" else f"Leave {key} out."
            raise UserError(
                f'{said} does not go with train.objective = "{objective}": a row is one answer, '
                "of which only the answer is learned."
                if key.startswith("chat")
                else f'{said} has no effect with train.objective = "{objective}".',
                fix=fix,
            )

    def _check_divides(self, micro_batch: int) -> None:
        samples = self.samples_per_step
        if micro_batch < 1 or samples % micro_batch:
            valid = [n for n in range(1, min(samples, 10_000) + 1) if samples % n == 0]
            raise UserError(
                f"train.micro_batch = {micro_batch} does not divide the "
                f"{samples:,} windows of a step (train.tokens_per_step / model.context).",
                fix=f"Valid: {', '.join(map(str, valid[:24]))}.",
                regret="R29",
            )

    @property
    def has_pairs(self) -> bool:
        """Whether it compares answers: then a sample is a pair of them, which is two rows."""
        return self.train.objective in ("dpo", "orpo")

    @property
    def rows_per_sample(self) -> int:
        """Rows of the context's length that the model is given for each sample."""
        return 2 if self.has_pairs else 1

    @property
    def micro_batch(self) -> int:
        """Windows at a time, of a recipe in which that is settled."""
        assert self.train.micro_batch != "auto", "settled before anything is built"
        return self.train.micro_batch

    def with_micro_batch(self, micro_batch: int) -> Recipe:
        """The same recipe with so many windows at a time.

        Raises:
            UserError: They do not divide a step.
        """
        self._check_divides(micro_batch)
        train = self.train.model_copy(update={"micro_batch": micro_batch})
        return self.model_copy(update={"train": train})

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

    def settings(self, steps: int) -> RunSettings:
        """What is in force in each update of a run of `steps` updates.

        Raises:
            UserError: The warmup is longer than the run, or a phase raises the learning rate.
        """
        return run_settings(self.optim, self.schedule, self.train.phase, steps)

    def on_data(self, folders: Mapping[str, Path]) -> Recipe:
        """The same recipe with its data named by the prepared folders, wherever it is resumed."""
        where = {name: str(folder.resolve()) for name, folder in folders.items()}
        if self.data.source:
            moved = [s.model_copy(update={"path": where[s.name]}) for s in self.data.source]
            data = self.data.model_copy(update={"source": moved})
        else:
            data = self.data.model_copy(update={"path": next(iter(where.values()))})
        if self.train.objective != "pretrain":  # the model that it was started from may go
            data = data.model_copy(update={"tokenizer": next(iter(where.values()))})
        return self.model_copy(update={"data": data})

    def by_key(self) -> dict[str, object]:
        """Every setting by its dotted key, defaults included; a list of tables as it stands."""
        found: dict[str, object] = {}

        def add(key: str, value: object) -> None:
            if isinstance(value, dict):
                for name, inner in value.items():
                    add(f"{key}.{name}", inner)
            else:
                found[key] = value

        for table, values in self.model_dump().items():
            add(table, values)
        return found

    def to_toml(self) -> str:
        """The whole recipe as TOML, defaults included; what is None is left out."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))

    @property
    def hash(self) -> str:
        """sha256 of the resolved recipe."""
        return hashlib.sha256(self.to_toml().encode()).hexdigest()
