"""Records of preference data: one prompt, and two answers of which one was preferred.

In: a record (a JSON object, a row of a Parquet file) that has `chosen` and `rejected`. Out: what
both have in common, and how each goes on. Known are the forms in which such data is published:

- answers as text, with the prompt in `prompt`, `question`, or Alpaca's `instruction` and `input`
  (and, with any of them, `system`);
- answers as messages after a prompt (text or messages) that is given apart;
- two whole conversations that begin alike, as in HuggingFaceH4/ultrafeedback_binarized;
- two transcripts of "Human:" and "Assistant:" that begin alike, as in Anthropic/hh-rlhf.

Always true of what comes out: the prompt's last message is the user's; each answer begins and ends
with a turn of the assistant; every content is exactly as the record has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fromscratch.chat.conversations import Message, NotAConversation, Role, messages_of, turns_of

PREFERENCE_FIELDS = (
    "chosen",
    "rejected",
    "prompt",
    "question",
    "instruction",
    "input",
    "system",
)
"""Every field that `preference_of` looks at: of a wide table, no other column need be read."""

_PROMPTS = ("prompt", "question", "instruction")
_SPEAKER = re.compile(r"\n\n(Human|Assistant): ?")
_SPEAKERS: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


class NotAPreference(NotAConversation):
    """A record that is no preference of a known kind; the message says why, without the place."""


@dataclass(frozen=True)
class Preference:
    """Two ways in which a conversation goes on.

    Attributes:
        prompt: What both have in common; the last message is the user's.
        chosen: What was preferred: begins and ends with a turn of the assistant.
        rejected: What was not; likewise.
    """

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]

    @property
    def is_tie(self) -> bool:
        """Whether both answers are the same: nothing can be learnt from it."""
        return self.chosen == self.rejected


def looks_like_a_preference(fields: Mapping[str, Any]) -> bool:
    """Whether a record (or a table's schema) has the fields of preference data."""
    return "chosen" in fields and "rejected" in fields


def preference_of(record: Mapping[str, Any]) -> Preference:
    """The prompt and the two answers of one record.

    Raises:
        NotAPreference: It is of no known kind, or not one prompt with two answers.
        NotAConversation: Something in it is not as its kind demands; the message names the field.
    """
    if not looks_like_a_preference(record):
        named = ", ".join(map(str, list(record)[:12])) or "none"
        raise NotAPreference(
            f'is no preference: its fields are {named}; needed are "chosen" and "rejected", with '
            f"the prompt in {', '.join(_PROMPTS)}, or as the turns that both begin with"
        )
    prompt = _prompt(record)
    chosen, rejected = (_side(record, name, prompt) for name in ("chosen", "rejected"))
    return _parted(chosen, rejected)


def _prompt(record: Mapping[str, Any]) -> tuple[Message, ...]:
    """The prompt that is given apart from the answers; empty where there is none."""
    name = next((name for name in _PROMPTS if record.get(name) is not None), None)
    if name is None:
        return ()
    if name == "prompt" and isinstance(record[name], list):
        return turns_of(record[name], name)
    asked = {"instruction": record[name]}
    if not isinstance(record[name], str):
        raise NotAPreference(f'has no text but {type(record[name]).__name__} as "{name}"')
    if name == "instruction":
        asked["input"] = record.get("input")
    # An answer must be there for it to be a conversation; it is taken off again.
    return messages_of(asked | {"system": record.get("system"), "output": ""})[:-1]


def _side(record: Mapping[str, Any], name: str, prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    """One side's whole conversation."""
    value = record[name]
    if isinstance(value, list):
        turns = turns_of(value, name)
        # Messages that begin with the assistant's go on from the prompt; others hold it themselves.
        return (*prompt, *turns) if turns[0].role == "assistant" else turns
    if not isinstance(value, str):
        kind = "nothing" if value is None else f"neither text nor a list but {type(value).__name__}"
        raise NotAPreference(f'has {kind} as "{name}"')
    if prompt:
        return (*prompt, Message("assistant", value))
    if _SPEAKER.match(value) is None:
        raise NotAPreference(
            f'has text as "{name}" and no prompt: it needs one of {", ".join(_PROMPTS)}, or '
            'transcripts that begin with "Human:"'
        )
    return _transcript(value)


def _transcript(text: str) -> tuple[Message, ...]:
    """A text of turns that are headed by their speakers, as in Anthropic/hh-rlhf."""
    _, *parts = _SPEAKER.split(text)  # nothing, then speaker and content in turn
    return tuple(
        Message(_SPEAKERS[speaker], content)
        for speaker, content in zip(parts[::2], parts[1::2], strict=True)
    )


def _parted(chosen: tuple[Message, ...], rejected: tuple[Message, ...]) -> Preference:
    """Two conversations, parted where they first differ."""
    shorter = min(len(chosen), len(rejected))
    common = next((n for n in range(shorter) if chosen[n] != rejected[n]), shorter)
    if chosen == rejected:
        common -= 1  # a tie: the last answer is what does not differ
    prompt = chosen[:common]
    for name, turns in (("chosen", chosen[common:]), ("rejected", rejected[common:])):
        if not turns:
            raise NotAPreference(f'has a "{name}" that ends where the other goes on')
        if turns[0].role != "assistant" or turns[-1].role != "assistant":
            where = "begin" if turns[0].role != "assistant" else "end"
            raise NotAPreference(
                f'has a "{name}" that, where the two part, does not {where} with a turn of the '
                f"assistant but with one of the {turns[0 if where == 'begin' else -1].role}"
            )
    if not prompt or prompt[-1].role != "user":
        raise NotAPreference("has no turn of the user that both answers are to")
    return Preference(prompt, chosen[common:], rejected[common:])
