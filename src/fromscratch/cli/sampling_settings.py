"""How text is drawn, as people set it: the options of `generate` and `chat`, and `/set` in a chat.

One table has each setting's name, kind and words; a value means the same wherever it is given.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from fromscratch.cli.vocabulary import OPTIONS, option
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


def _setting(name: str, read: Callable[[str], Any], kind: str) -> Setting:
    return Setting(read, kind, OPTIONS[name.replace("_", "-")].means)


_WHOLE, _NUMBER = "a whole number", "a number"
SETTINGS: Mapping[str, Setting] = {
    name: _setting(name, read, kind)
    for name, read, kind in (
        ("temperature", float, _NUMBER),
        ("top_k", int, _WHOLE),
        ("top_p", float, _NUMBER),
        ("min_p", float, _NUMBER),
        ("repetition_penalty", float, _NUMBER),
        ("presence_penalty", float, _NUMBER),
        ("frequency_penalty", float, _NUMBER),
        ("seed", int, _WHOLE),
        ("max_new_tokens", int, _WHOLE),
        ("stop", _stops, "texts, in quotes where they have blanks"),
    )
}
DEFAULTS: Mapping[str, Any] = {
    "max_new_tokens": 128,
    "temperature": 0.8,
    "top_k": 50,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "seed": 0,
    "stop": [],
}
"""What the verbs take where nothing is typed, in the order in which help shows them."""
_BOUNDS: Mapping[str, Mapping[str, Any]] = {"max_new_tokens": {"min": 1}}


@dataclass(frozen=True)
class TypedSettings:
    """The settings as they were typed for a verb.

    Attributes:
        values: By name; all of `SETTINGS`.
    """

    values: Mapping[str, Any]

    def checked(self) -> TextSettings:
        """What they say.

        Raises:
            UserError: A value cannot be.
        """
        from fromscratch.generate.sampling import SamplingOptions

        drawn = {k: v for k, v in self.values.items() if k not in ("max_new_tokens", "stop")}
        return TextSettings(
            SamplingOptions(**drawn), self.values["max_new_tokens"], tuple(self.values["stop"])
        )


def takes_settings(*, max_new_tokens: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a verb an option for every setting in the place of its parameter `settings`.

    Args:
        max_new_tokens: The verb's own default; all others are everywhere the same.
    """
    defaults = {**DEFAULTS, "max_new_tokens": max_new_tokens}

    def give(verb: Callable[..., None]) -> Callable[..., None]:
        before = inspect.signature(verb, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in before.parameters.values():
            if parameter.name != "settings":
                parameters.append(parameter)
                continue
            for name, default in defaults.items():
                of = "the text, which is the same for the same seed" if name == "seed" else ""
                shown = option(name.replace("_", "-"), default, of=of, **_BOUNDS.get(name, {}))
                kind = list[str] if isinstance(default, list) else type(default)
                parameters.append(
                    inspect.Parameter(name, parameter.kind, default=shown, annotation=kind)
                )

        @functools.wraps(verb)
        def run(**given: Any) -> None:
            typed = TypedSettings({name: given.pop(name) for name in defaults})
            verb(settings=typed, **given)

        # typer reads a verb's options off these.
        setattr(run, "__signature__", before.replace(parameters=parameters))  # noqa: B010
        run.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
        del run.__wrapped__
        return run

    return give


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
