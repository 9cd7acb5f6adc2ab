"""How text is drawn, as people set it: the options of `generate` and `chat`, and `/set` in a chat.

One table has each setting's name, kind and words; a value means the same wherever it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from fromscratch.foundation.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from fromscratch.generate.sampling import SamplingOptions


@dataclass(frozen=True)
class Setting:
    """A setting.

    Attributes:
        read: Its value from what was typed; raises ValueError.
        kind: What a value is, for people.
        help: What it does.
    """

    read: Callable[[str], Any]
    kind: str
    help: str


def _stops(text: str) -> tuple[str, ...]:
    r"""Texts divided by blanks; `\n` is a line feed, quotes hold blanks together."""
    import shlex

    words = shlex.split(text.replace("\\n", "\n").replace("\\t", "\t"))
    return tuple(word for word in words if word)


_WHOLE, _NUMBER = "a whole number", "a number"
SETTINGS: Mapping[str, Setting] = {
    "temperature": Setting(float, _NUMBER, "0 always takes the likeliest token."),
    "top_k": Setting(int, _WHOLE, "Draw from the k likeliest tokens; 0 from all."),
    "top_p": Setting(float, _NUMBER, "Draw from the likeliest tokens with this probability."),
    "min_p": Setting(
        float, _NUMBER, "Draw from tokens at least so likely, times the likeliest; 0 from all."
    ),
    "repetition_penalty": Setting(
        float, _NUMBER, "Above 1, tokens that were there already get less likely."
    ),
    "presence_penalty": Setting(
        float, _NUMBER, "Above 0, tokens that it wrote already get less likely, once."
    ),
    "frequency_penalty": Setting(float, _NUMBER, "The same for each time that it wrote them."),
    "seed": Setting(int, _WHOLE, "Of the draws: the same text for the same seed."),
    "max_new_tokens": Setting(int, _WHOLE, "Tokens to write at most."),
    "stop": Setting(
        _stops,
        "texts, in quotes where they have blanks",
        "End where one of these texts would come.",
    ),
}


def option(name: str, **more: Any) -> Any:
    """The setting as an option of a verb, with its words."""
    return typer.Option(help=SETTINGS[name].help, **more)


Device: TypeAlias = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
DType: TypeAlias = Annotated[
    str,
    typer.Option(help="Of the weights: float32, bfloat16, float16; auto knows the device."),
]
Quantize: TypeAlias = Annotated[
    str | None,
    typer.Option(help="int8: a byte a weight, on a CPU; faster, and slightly less exact."),
]


@dataclass(frozen=True)
class TextSettings:
    """All that is set about the text that a model writes.

    Attributes:
        sampling: How a token is drawn.
        max_new_tokens: At most so many, at least 1.
        stop: Texts at which it ends; they are not part of it.
    """

    sampling: SamplingOptions
    max_new_tokens: int
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens {self.max_new_tokens} is less than 1.")
        if "" in self.stop:
            raise UserError("An empty text to stop at would stop every text.")

    def values(self) -> dict[str, Any]:
        """Every setting by name."""
        named: dict[str, Any] = {
            f.name: getattr(self.sampling, f.name) for f in fields(self.sampling)
        }
        named |= {"max_new_tokens": self.max_new_tokens, "stop": self.stop}
        return {name: named[name] for name in SETTINGS}

    def changed(self, name: str, typed: str) -> TextSettings:
        """The same with another value for one setting.

        Args:
            name: As in the table; a hyphen is as good as an underscore.
            typed: The value as it was typed.

        Raises:
            UserError: There is no such setting, or it cannot have that value.
        """
        key = name.strip("-").replace("-", "_")
        if key not in SETTINGS:
            raise UserError(
                f'There is no setting "{name}".{did_you_mean(key, SETTINGS)}',
                fix=f"Known: {', '.join(SETTINGS)}.",
            )
        setting = SETTINGS[key]
        try:
            value = setting.read(typed)
        except ValueError:
            raise UserError(f'{key} is {setting.kind}, not "{typed}".') from None
        if key == "max_new_tokens":
            return replace(self, max_new_tokens=value)
        if key == "stop":
            return replace(self, stop=value)
        return replace(self, sampling=replace(self.sampling, **{key: value}))


def said(value: Any) -> str:
    """A setting's value as it is typed."""
    if isinstance(value, tuple):
        return " ".join(f'"{text}"'.replace("\n", "\\n") for text in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
