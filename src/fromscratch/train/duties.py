"""What a run does on schedule besides updates: validation, HellaSwag, samples.

The loop says when; a `Duties` does it. What comes out is plain numbers and text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Evaluation:
    """One validation set's result: nats per token, perplexity, bits per byte, targets.

    Of preferences the loss is the mean over pairs, perplexity and bits per byte are those of the
    chosen answers, whose tokens are the targets; `measures` are what else is known of the pairs.
    """

    set: str
    loss: float
    perplexity: float
    bits_per_byte: float
    n_targets: int
    measures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class HellaSwagScore:
    """Share of right answers by sum and by length, of `n` items made into text in a style."""

    acc: float
    acc_norm: float
    n: int
    style: str


@dataclass(frozen=True)
class Sample:
    """One continuation."""

    prompt: str
    text: str
    seed: int


class Duties(Protocol):
    """What a run does besides updates; all leave the model as it was."""

    def validate(self, should_stop: Callable[[], bool]) -> list[Evaluation]:
        """Evaluates on every validation set, the pooled one first.

        Raises:
            Interrupted: `should_stop` said so.
        """

    def hellaswag(self, should_stop: Callable[[], bool]) -> HellaSwagScore:
        """Answers the recipe's items of HellaSwag; raises as `validate` does."""

    def sample(self, should_stop: Callable[[], bool]) -> list[Sample]:
        """Continues the fixed prompts; raises as `validate` does.

        Args:
            should_stop: Of this rank alone.
        """
