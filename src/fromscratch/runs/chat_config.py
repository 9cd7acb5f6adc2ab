"""The `[chat]` and `[base]` tables of a recipe. Without torch, so that `plan` can read them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.settings import Share, Table, Tokens, Unit


class ChatConfig(Table):
    """How conversations become training examples; in force where the objective is not pretraining.

    An example has a prompt side (what the model is given: other roles' turns and what stands around
    them) and an answer side (the assistant's turns with their stop tokens). Each may be bounded,
    and both together fit into the context.
    """

    template: str = ""
    """What renders them; left out: that of the model that is started from, or `default`."""
    loss_on: Literal["assistant", "all"] = "assistant"
    """What is learned: the assistant's turns with their stop tokens, or all tokens."""
    max_prompt_tokens: Tokens = Field(default=0, ge=0)
    """Bound of the prompt side; 0: none of its own."""
    max_answer_tokens: Tokens = Field(default=0, ge=0)
    """Bound of the answer side; 0: none of its own."""
    too_long: Literal["drop", "refuse"] = "drop"
    """What becomes of an example beyond a bound: left out and counted, or an error."""
    packing: bool = True
    """Whether a row holds as many whole examples as fit, none of which sees another."""
    examples_per_step: Annotated[int, Unit("examples")] | None = Field(default=None, ge=1)
    """Without `packing`: fixes the step in place of train.tokens_per_step."""
    split: Literal["hash", "order"] = "hash"
    """By content; or the file's first examples train, then come test and validation."""
    test_fraction: Share = Field(default=0.0, ge=0.0, lt=1.0)
    """Of the examples, what is answered when the run is over."""
    on_bad: Literal["stop", "skip"] = "stop"
    """Whether a record that is no conversation is an error, or left out and counted."""
    answer: bool = True
    """Whether test examples are answered when the run is over."""
    max_new_tokens: Tokens = Field(default=256, ge=1)
    """Bound of each of those answers."""

    @model_validator(mode="after")
    def _check(self) -> ChatConfig:
        if self.packing and self.examples_per_step is not None:
            raise UserError(
                "chat.examples_per_step counts rows of one example each, and chat.packing puts "
                "many into a row.",
                fix="Say chat.packing=false, or leave it out: train.tokens_per_step fixes the "
                "step of packed rows.",
            )
        return self


class BaseConfig(Table):
    """The model that a run started from; written by `train --from`, and empty without.

    Where the run has a checkpoint of its own, that model is not needed again.
    """

    model: str = ""
    """A folder, or a hub's name."""
    sha256: str = ""
    """Of its weights."""
    template: str = ""
    """Its own chat template."""

    @model_validator(mode="after")
    def _check(self) -> BaseConfig:
        if bool(self.model) != bool(self.sha256):
            raise UserError(
                "[base] is written by a run, to say which model it started from.",
                fix="Start from a model with `fromscratch train RECIPE --from MODEL`.",
            )
        return self
