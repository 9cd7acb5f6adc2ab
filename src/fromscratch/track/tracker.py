"""What flows out of a run, and who may listen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class StepResult:
    """One update.

    Attributes:
        step: Number of the update, from 1.
        tokens: Targets trained on so far.
        loss: Mean over all targets of the step, in nats per token.
        lr: AdamW's learning rate in force during the update.
        grad_norm: Global gradient norm before clipping.
        clipped: Whether it was above the clip threshold.
        tokens_per_s: Input tokens of the step over its duration.
        mfu: Share of the device's arithmetic peak.
        seconds: Training time so far, over all sessions.
        epochs: How often each source has been gone through.
        drawn: Of a mixture: windows taken from each source so far. The realised share between two
            rows is the difference of a source's windows over that of all.
        wanted: Of a mixture: how many its exact shares ask for; less than one window from `drawn`.
        lrs: The learning rate of every group of parameters (optim/groups.py) during the update;
            the group that Muon has is called `muon`.
        weight_decay: Likewise in force, by optimiser.
        momentum: Likewise, of Muon; where there is none, the first of AdamW's betas.
        applied: Whether the update was made; False where the guard refused it.
        loss_scale: In fp16: what the loss was multiplied by.
        overflowed: In fp16: whether that was too much, so that no update was made.
        memory_gb: The most memory that the run has taken so far (hardware.peak_memory_gb).
        measures: Of preferences, means over the step's pairs: `accuracy` (how often the chosen
            answer had the higher reward), `margin` (by how much), `reward_chosen` and
            `reward_rejected`. The loss is then the mean over pairs, too.
    """

    step: int
    tokens: int
    loss: float
    lr: float
    grad_norm: float
    clipped: bool
    tokens_per_s: float
    mfu: float
    seconds: float
    epochs: dict[str, float]
    drawn: dict[str, int] = field(default_factory=dict)
    wanted: dict[str, float] = field(default_factory=dict)
    lrs: dict[str, float] = field(default_factory=dict)
    weight_decay: dict[str, float] = field(default_factory=dict)
    momentum: float | None = None
    applied: bool = True
    loss_scale: float | None = None
    overflowed: bool | None = None
    memory_gb: float | None = None
    measures: dict[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """The line in metrics.jsonl; what is empty or goes without saying is left out."""
        row = {key: value for key, value in asdict(self).items() if value not in ({}, None)}
        if self.applied:
            del row["applied"]
        row.pop("measures", None)
        return row | self.measures


@dataclass(frozen=True)
class ValidationResult:
    """One evaluation during training, on held-out targets of one set.

    Of preferences `val_loss` is the mean over pairs; `val_ppl` and `val_bpb` are those of the
    chosen answers.

    Attributes:
        step: Updates before it.
        tokens: Targets trained on so far.
        set: The name of the validation set.
        val_loss: Mean over its targets, in nats per token.
        val_ppl: Perplexity, e to that power.
        val_bpb: Bits per byte of text, which compare across tokenizers.
        seconds: Training time so far, over all sessions.
        eval_seconds: Of this evaluation.
        val_tokens: Targets that it is over.
        measures: Of preferences, what `StepResult` has, of the held-out pairs.
    """

    step: int
    tokens: int
    set: str
    val_loss: float
    val_ppl: float
    val_bpb: float
    seconds: float
    eval_seconds: float
    val_tokens: int
    measures: dict[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """The line in metrics.jsonl; measures begin with `val_` there."""
        row = asdict(self)
        del row["measures"]
        return row | {f"val_{name}": value for name, value in self.measures.items()}


@dataclass(frozen=True)
class HellaSwagResult:
    """Questions of HellaSwag that the model answered rightly during training.

    Attributes:
        step: Updates before it.
        tokens: Targets trained on so far.
        hellaswag_acc: Share of `hellaswag_n` items, by the sum of log-probabilities.
        hellaswag_acc_norm: Likewise by the sum over the answer's length.
        hellaswag_n: Items, the same ones every time.
        hellaswag_style: How they become text; scores of two styles do not compare.
        seconds: Training time so far, over all sessions.
        eval_seconds: Of this evaluation.
    """

    step: int
    tokens: int
    hellaswag_acc: float
    hellaswag_acc_norm: float
    hellaswag_n: int
    hellaswag_style: str
    seconds: float
    eval_seconds: float

    def row(self) -> dict[str, Any]:
        """The line in metrics.jsonl."""
        return asdict(self)


def is_of_a_duty(row: Mapping[str, Any]) -> bool:
    """Whether a row of metrics.jsonl is of what is done after an update, not of the update."""
    return "val_loss" in row or "hellaswag_acc" in row


@dataclass(frozen=True)
class SampleResult:
    """One continuation written by the model during training.

    Attributes:
        step: Updates before it.
        prompt: What was continued.
        text: How.
        seed: Of the drawing.
    """

    step: int
    prompt: str
    text: str
    seed: int

    def row(self) -> dict[str, Any]:
        """The line in samples.jsonl."""
        return asdict(self)


@dataclass(frozen=True)
class HealthResult:
    """What the parts of the network did at one step.

    Attributes:
        step: Number of the update.
        parts: Of each part (`embed`, `blocks.0`, ..., `final_norm`, `head`) its numbers by name:
            grad_norm (before clipping), param_norm (before the update), update_norm, update_ratio
            (of the two); of a block also activation_std (of its output), attention_entropy (nats,
            mean over heads and queries), attention_entropy_min (of the lowest head), dead_units
            (share of the MLP's units that no token switched on).
        second_moment: Of Adam's, for the first, middle and last block: mean, max, min.
    """

    step: int
    parts: dict[str, dict[str, float]]
    second_moment: dict[str, dict[str, float]]

    def row(self) -> dict[str, Any]:
        """The line in health.jsonl."""
        return asdict(self)

    def values(self) -> dict[str, float]:
        """All numbers by one name each: `grad_norm/blocks.0`, `second_moment_mean/blocks.0`."""
        flat = {f"{key}/{part}": x for part, row in self.parts.items() for key, x in row.items()}
        for part, row in self.second_moment.items():
            flat |= {f"second_moment_{key}/{part}": x for key, x in row.items()}
        return flat


class Tracker(Protocol):
    """Listens to a run. Calls come in the order of the run, from rank 0 only."""

    def step(self, result: StepResult) -> None:
        """After every update."""

    def validation(self, result: ValidationResult) -> None:
        """After every evaluation of one validation set."""

    def hellaswag(self, result: HellaSwagResult) -> None:
        """After HellaSwag's questions were answered."""

    def sample(self, result: SampleResult) -> None:
        """After every sample."""

    def health(self, result: HealthResult) -> None:
        """After an update whose effect on each layer was measured."""

    def event(self, name: str, step: int, message: str, details: dict[str, Any]) -> None:
        """When something happens that is neither: started, resumed, checkpoint, skipped_step."""

    def rewind(self, step: int, *, duties_done: bool) -> None:
        """When the run goes back to a step: rows of later ones do not count any more.

        Nor do validation, HellaSwag and samples of the step itself, unless they are done.
        """

    def flush(self) -> None:
        """Before a checkpoint is committed: what was logged must be as durable as it."""

    def close(self) -> None:
        """At the end of a session."""


class Trackers:
    """Several trackers as one."""

    def __init__(self, trackers: list[Tracker]) -> None:
        self._all = trackers

    def step(self, result: StepResult) -> None:
        for tracker in self._all:
            tracker.step(result)

    def validation(self, result: ValidationResult) -> None:
        for tracker in self._all:
            tracker.validation(result)

    def hellaswag(self, result: HellaSwagResult) -> None:
        for tracker in self._all:
            tracker.hellaswag(result)

    def sample(self, result: SampleResult) -> None:
        for tracker in self._all:
            tracker.sample(result)

    def health(self, result: HealthResult) -> None:
        for tracker in self._all:
            tracker.health(result)

    def rewind(self, step: int, *, duties_done: bool) -> None:
        for tracker in self._all:
            tracker.rewind(step, duties_done=duties_done)

    def event(self, name: str, step: int, message: str, details: dict[str, Any]) -> None:
        for tracker in self._all:
            tracker.event(name, step, message, details)

    def flush(self) -> None:
        for tracker in self._all:
            tracker.flush()

    def close(self) -> None:
        for tracker in self._all:
            tracker.close()
