"""The chat templates: what stands around the words of each speaker.

In: messages. Out: pieces in order, each either text, which is encoded as text whatever it says, or
the name of a special token; each marked as the model's own words or not. Finetuning, evaluation,
terminal and server take ids, masks and stop ids from these pieces (rendering.py), and `jinja` says
the same for transformers, so a model never meets another format than the one it was trained on
(R53).

Roles are special tokens, ids of their own that no text can spell (R49); and a turn of the
assistant's ends with one, which it learns to write (R50). `alpaca` alone marks turns by text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from fromscratch.chat.conversations import Message, Role
from fromscratch.foundation.errors import UserError, did_you_mean
from fromscratch.tokenizer.marks import parted
from fromscratch.tokenizer.tokenizer import END_OF_TEXT


@dataclass(frozen=True)
class Piece:
    """A stretch of a rendered conversation.

    Attributes:
        text: As it stands in the conversation; always encoded as plain text.
        supervised: Whether these are the assistant's words, which a model learns to write.
        special: Whether `text` is the name of a special token instead.
    """

    text: str
    supervised: bool = False
    special: bool = False


class Template(Protocol):
    """What every template offers."""

    @property
    def name(self) -> str:
        """By which it is found."""
        ...

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Names of the special tokens that it puts between the speakers' words."""
        ...

    @property
    def end_of_turn(self) -> str:
        """The special token that ends what the assistant says."""
        ...

    @property
    def stop_texts(self) -> tuple[str, ...]:
        """What begins another turn in plain text: a model that writes it has ended its own."""
        ...

    def pieces(self, messages: Sequence[Message]) -> Iterator[Piece]:
        """Yields the conversation from its first character to its last."""
        ...

    def jinja(self, specials: Collection[str]) -> str:
        """The same as a `chat_template` of transformers.

        Args:
            specials: Names of all special tokens that the tokenizer has: what spells one in a
                message stays text.
        """
        ...


@dataclass(frozen=True)
class Turns:
    """A template with the same around every message of a role, by special tokens.

    Attributes:
        name: By which it is found.
        before: What comes before the words of each role.
        after: What comes after them; all of it is learned after the assistant's, up to and with
            the special token.
        system_joins: Whether the system's words open the first turn of the user, there being no
            token for the system's role.
    """

    name: str
    before: Mapping[Role, tuple[Piece, ...]]
    after: Mapping[Role, tuple[Piece, ...]]
    system_joins: bool = False
    stop_texts: tuple[str, ...] = ()

    @property
    def special_tokens(self) -> tuple[str, ...]:
        around = [*self.before.values(), *self.after.values()]
        return tuple(dict.fromkeys(p.text for pieces in around for p in pieces if p.special))

    @property
    def end_of_turn(self) -> str:
        return next(piece.text for piece in self.after["assistant"] if piece.special)

    def pieces(self, messages: Sequence[Message]) -> Iterator[Piece]:
        """Yields each message between what its role has before and after."""
        joined = False
        for message, following in pairwise([*messages, None]):
            assert message is not None
            if not joined:
                yield from self.before[message.role]
            words = message.content
            if message.context:
                words += f"\n\n{message.context}"
            yield Piece(words, supervised=message.role == "assistant")
            joined = self._joins(message) and following is not None and following.role == "user"
            yield from (Piece("\n\n"),) if joined else self.after[message.role]

    def _joins(self, message: Message) -> bool:
        return self.system_joins and message.role == "system"

    def jinja(self, specials: Collection[str]) -> str:
        def around(side: Mapping[Role, tuple[Piece, ...]], role: Role) -> str:
            return "".join(_literal(piece.text) for piece in side[role])

        tests: list[tuple[str, Role]] = [
            ("if m.role == 'system'", "system"),
            ("elif m.role == 'user'", "user"),
            ("else", "assistant"),
        ]
        before = "".join("{% " + test + " %}" + around(self.before, role) for test, role in tests)
        after = "".join("{% " + test + " %}" + around(self.after, role) for test, role in tests)
        before, after = before + "{% endif %}", after + "{% endif %}"
        if self.system_joins:
            joins = "messages[0].role == 'system' and messages|length > 1"
            joins += " and messages[1].role == 'user'"
            before = "{% if not (" + joins + " and loop.index0 == 1) %}" + before + "{% endif %}"
            after = (
                "{% if " + joins + " and loop.first %}" + _literal("\n\n") + "{% else %}" + after
            )
            after += "{% endif %}"
        return (
            _REFUSE_OTHER_ROLES
            + "{% for m in messages %}"
            + before
            + _words("m.content", specials)
            + "{% if m.context %}"
            + _literal("\n\n")
            + _words("m.context", specials)
            + "{% endif %}"
            + after
            + "{% endfor %}{% if add_generation_prompt %}"
            + around(self.before, "assistant")
            + "{% endif %}"
        )


class Alpaca:
    """The prompt of Stanford Alpaca (Taori et al. 2023), with and without an input.

    A system message takes the place of the opening sentences; further turns repeat the blocks. An
    answer ends with end-of-text.
    """

    name = "alpaca"
    special_tokens = (END_OF_TEXT,)
    end_of_turn = END_OF_TEXT
    stop_texts = ("\n\n### Instruction:\n",)

    _OPENING = (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request."
    )
    _OPENING_WITH_INPUT = (
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request."
    )
    _INSTRUCTION = "\n\n### Instruction:\n"
    _INPUT = "\n\n### Input:\n"
    _RESPONSE = "\n\n### Response:\n"

    def pieces(self, messages: Sequence[Message]) -> Iterator[Piece]:
        """Yields the opening, then a block for each turn, with a blank line between blocks."""
        opening = self._OPENING_WITH_INPUT if messages[0].context else self._OPENING
        turns = messages
        if messages[0].role == "system":
            opening, turns = messages[0].content, messages[1:]
        yield Piece(opening)
        for message in turns:
            if message.role == "assistant":
                yield Piece(self._RESPONSE)
                yield Piece(message.content, supervised=True)
                yield Piece(END_OF_TEXT, supervised=True, special=True)
                continue
            yield Piece(f"{self._INSTRUCTION}{message.content}")
            if message.context:
                yield Piece(f"{self._INPUT}{message.context}")

    def jinja(self, specials: Collection[str]) -> str:
        return (
            _REFUSE_OTHER_ROLES
            + "{% if messages[0].role == 'system' %}"
            + _words("messages[0].content", specials)
            + "{% elif messages[0].context %}"
            + _literal(self._OPENING_WITH_INPUT)
            + "{% else %}"
            + _literal(self._OPENING)
            + "{% endif %}{% for m in messages %}{% if m.role == 'assistant' %}"
            + _literal(self._RESPONSE)
            + _words("m.content", specials)
            + _literal(END_OF_TEXT)
            + "{% elif m.role == 'user' %}"
            + _literal(self._INSTRUCTION)
            + _words("m.content", specials)
            + "{% if m.context %}"
            + _literal(self._INPUT)
            + _words("m.context", specials)
            + "{% endif %}{% endif %}{% endfor %}{% if add_generation_prompt %}"
            + _literal(self._RESPONSE)
            + "{% endif %}"
        )


_REFUSE_OTHER_ROLES = (
    "{% for m in messages %}"
    "{% if m.role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('There is no role ' + m.role + ' in this chat template.') }}{% endif %}"
    "{% if m.role == 'system' and not loop.first %}"
    "{{ raise_exception('Only the first message may be the system\\'s.') }}{% endif %}"
    "{% endfor %}"
)


def _literal(text: str) -> str:
    """Jinja that writes a text of the template's own."""
    spelled = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return "{{ '" + spelled + "' }}"


def _words(expression: str, specials: Collection[str]) -> str:
    """Jinja that writes a speaker's words, in which the name of no special token stands whole.

    transformers reads the whole conversation as one string, where such a name would be the token.
    The character that parts it is taken out again by the tokenizer (tokenizer/marks.py).
    """
    beginnings = dict.fromkeys("<|" if name.startswith("<|") else name for name in sorted(specials))
    filters = "".join(f" | replace({_quoted(b)}, {_quoted(parted(b))})" for b in beginnings)
    return "{{ " + expression + filters + " }}"


def _quoted(text: str) -> str:
    return _literal(text).removeprefix("{{ ").removesuffix(" }}")


def _role(name: str) -> tuple[Piece, ...]:
    return (Piece(name, special=True),)


def _end(name: str, *, learned: bool = False) -> tuple[Piece, ...]:
    return (Piece(name, supervised=learned, special=True),)


def _chatml_role(role: Role) -> tuple[Piece, ...]:
    return (Piece("<|im_start|>", special=True), Piece(f"{role}\n"))


_ROLES: tuple[Role, ...] = ("system", "user", "assistant")
_IM_END = Piece("<|im_end|>", special=True)

_TEMPLATES: dict[str, Template] = {
    template.name: template
    for template in (
        Turns(
            name="default",
            before={role: _role(f"<|{role}|>") for role in _ROLES},
            after={role: _end("<|end|>", learned=role == "assistant") for role in _ROLES},
        ),
        Turns(  # of feljost/fgpt: the user's turn ends where the assistant's begins
            name="fgpt",
            before={
                "system": _role("<|user|>"),
                "user": _role("<|user|>"),
                "assistant": _role("<|assistant|>"),
            },
            after={"system": (), "user": (), "assistant": _end(END_OF_TEXT, learned=True)},
            system_joins=True,
        ),
        Turns(  # OpenAI's ChatML, as Qwen writes it
            name="chatml",
            before={role: _chatml_role(role) for role in _ROLES},
            after={
                "system": (_IM_END, Piece("\n")),
                "user": (_IM_END, Piece("\n")),
                "assistant": (*_end("<|im_end|>", learned=True), Piece("\n")),
            },
        ),
        Alpaca(),
    )
}
DEFAULT = "default"


def template_names() -> tuple[str, ...]:
    """The names of all templates."""
    return tuple(_TEMPLATES)


def template_named(name: str) -> Template:
    """The template of that name.

    Raises:
        UserError: There is none.
    """
    if name not in _TEMPLATES:
        raise UserError(
            f'There is no chat template "{name}".{did_you_mean(name, _TEMPLATES)}',
            fix=f"Known: {', '.join(_TEMPLATES)}.",
        )
    return _TEMPLATES[name]
