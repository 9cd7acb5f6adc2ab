"""What flows out of a run, and who may listen."""

from __future__ import annotations

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
        loss_scale: In fp16: what the loss was multiplied by.
        overflowed: In fp16: whether that was too much, so that no update was made.
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
    loss_scale: float | None = None
    overflowed: bool | None = None

    def row(self) -> dict[str, Any]:
        """The line in metrics.jsonl; without what says nothing of this run."""
        return {k: value for k, value in asdict(self).items() if value not in ({}, None)}


@dataclass(frozen=True)
class ValidationResult:
    """One evaluation during training, on `val_tokens` held-out targets of one set."""

    step: int
    tokens: int
    set: str
    val_loss: float
    val_ppl: float
    val_bpb: float
    seconds: float
    eval_seconds: float
    val_tokens: int

    def row(self) -> dict[str, Any]:
        """The line in metrics.jsonl."""
        return asdict(self)


@dataclass(frozen=True)
class SampleResult:
    """One continuation written by the model during training."""

    step: int
    prompt: str
    text: str
    seed: int

    def row(self) -> dict[str, Any]:
        """The line in samples.jsonl."""
        return asdict(self)


class Tracker(Protocol):
    """Listens to a run. Calls come in the order of the run, from rank 0 only."""

    def step(self, result: StepResult) -> None:
        """After every update."""

    def validation(self, result: ValidationResult) -> None:
        """After every evaluation of one validation set."""

    def sample(self, result: SampleResult) -> None:
        """After every sample."""

    def event(self, name: str, step: int, message: str, details: dict[str, Any]) -> None:
        """When something happens that is neither: started, resumed, checkpoint, skipped_step."""

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

    def sample(self, result: SampleResult) -> None:
        for tracker in self._all:
            tracker.sample(result)

    def event(self, name: str, step: int, message: str, details: dict[str, Any]) -> None:
        for tracker in self._all:
            tracker.event(name, step, message, details)

    def flush(self) -> None:
        for tracker in self._all:
            tracker.flush()

    def close(self) -> None:
        for tracker in self._all:
            tracker.close()
