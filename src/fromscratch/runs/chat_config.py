"""The `[chat]` and `[base]` tables of a recipe. Without torch, so that `plan` can read them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fromscratch.foundation.errors import UserError


class ChatConfig(BaseModel):
    """How conversations become training examples; in force where the objective is not pretraining.

    `template` renders them; left out, it is that of the model that is started from, or `default`.
    `loss_on`: the assistant's turns with their stop tokens, or all tokens.

    An example has a prompt side (what the model is given: other roles' turns and what stands around
    them) and an answer side (the assistant's turns with their stop tokens). Each may have so many
    tokens (0: no limit of its own), and both together fit into the context; what does not is
    dropped and counted, or refused (`too_long`).

    With `packing`, a row holds as many whole examples as fit, none of which sees another; without,
    one each, and `examples_per_step` fixes the step in place of train.tokens_per_step.

    `split`: by `hash` of the content, or in `order`: the file's first examples train, then come
    `test_fraction` of it, then data.val_fraction. Test examples are answered when the run is over
    (`answer`), with at most `max_new_tokens` each. `on_bad`: whether a record that is no
    conversation ends in an error or is left out and counted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: str = ""
    loss_on: Literal["assistant", "all"] = "assistant"
    max_prompt_tokens: int = Field(default=0, ge=0)
    max_answer_tokens: int = Field(default=0, ge=0)
    too_long: Literal["drop", "refuse"] = "drop"
    packing: bool = True
    examples_per_step: int | None = Field(default=None, ge=1)
    split: Literal["hash", "order"] = "hash"
    test_fraction: float = Field(default=0.0, ge=0.0, lt=1.0)
    on_bad: Literal["stop", "skip"] = "stop"
    answer: bool = True
    max_new_tokens: int = Field(default=256, ge=1)

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


class BaseConfig(BaseModel):
    """The model that a run started from; written by `train --from`, and empty without.

    `model` is a folder or a hub's name, `sha256` that of its weights, `template` its own chat
    template: where the run has a checkpoint of its own, the model is not needed again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = ""
    sha256: str = ""
    template: str = ""

    @model_validator(mode="after")
    def _check(self) -> BaseConfig:
        if bool(self.model) != bool(self.sha256):
            raise UserError(
                "[base] is written by a run, to say which model it started from.",
                fix="Start from a model with `fromscratch train RECIPE --from MODEL`.",
            )
        return self
