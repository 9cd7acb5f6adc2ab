"""What was said so far: a conversation with a chat model, or texts that a base model went on with.

In: what a person writes and what the model answers, one after the other. Out: the messages (or the
text) that the model reads next, and records that finetuning reads. Always true: an answer that is
never kept changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from fromscratch.chat.conversations import Message, NotAConversation, messages_of


@dataclass
class Dialogue:
    """A conversation.

    Attributes:
        system: The system's message; empty for none. It stays when all else is forgotten.
        turns: The others, in order.
    """

    system: str = ""
    turns: list[Message] = field(default_factory=list)

    @property
    def messages(self) -> tuple[Message, ...]:
        """All of it, as a template renders it."""
        return (*([Message("system", self.system)] if self.system else []), *self.turns)

    @property
    def empty(self) -> bool:
        """Whether nothing was said."""
        return not self.turns

    def ask(self, text: str) -> None:
        """The person says something."""
        self.turns.append(Message("user", text))

    def answered(self, text: str) -> None:
        """The model said something; or said more, where it spoke last."""
        if self.turns and self.turns[-1].role == "assistant":
            last = self.turns[-1]
            self.turns[-1] = replace(last, content=last.content + text)
        else:
            self.turns.append(Message("assistant", text))

    def withdraw_answer(self) -> bool:
        """Takes the last answer back; the question stands open. False without a question."""
        while self.turns and self.turns[-1].role == "assistant":
            self.turns.pop()
        return bool(self.turns)

    def undo(self) -> bool:
        """Takes back the last question with its answer; False where there is none."""
        if not self.withdraw_answer():
            return False
        self.turns.pop()
        return True

    def reset(self) -> None:
        """Forgets everything but the system's message."""
        self.turns.clear()

    @property
    def position(self) -> int:
        """How many questions there were: with it, each answer has draws of its own."""
        return sum(turn.role == "user" for turn in self.turns)

    @property
    def question(self) -> str:
        """What the person said last; empty where that is nothing."""
        asked = [turn.content for turn in self.turns if turn.role == "user"]
        return asked[-1] if asked else ""

    @property
    def unanswered(self) -> bool:
        """Whether the last message is the person's."""
        return bool(self.turns) and self.turns[-1].role == "user"

    def records(self) -> list[dict[str, Any]]:
        """The conversation up to its last answer, as chat messages; nothing without an answer."""
        end = len(self.messages)
        while end and self.messages[end - 1].role != "assistant":
            end -= 1
        messages: list[dict[str, str]] = []
        for message in self.messages[:end]:
            row = {"role": message.role, "content": message.content}
            if message.context:  # a loaded record's input; chat messages have no field for it
                row["content"] = f"{message.content}\n\n{message.context}"
            messages.append(row)
        return [{"messages": messages}] if messages else []

    def load(self, record: Any) -> None:
        """Takes the place of what was said.

        Raises:
            NotAConversation: The record is none.
        """
        if not isinstance(record, dict):
            raise NotAConversation("is no object")
        messages = messages_of(record)
        has_system = messages[0].role == "system"
        self.system = messages[0].content if has_system else ""
        self.turns = list(messages[has_system:])


@dataclass
class Writing:
    """Texts that were begun by a person and continued by a base model.

    Attributes:
        texts: Of each text its beginning, then what the model wrote, piece by piece.
    """

    texts: list[list[str]] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether nothing was written."""
        return not self.texts

    @property
    def text(self) -> str:
        """The text at hand, which the model goes on with."""
        return "".join(self.texts[-1]) if self.texts else ""

    def ask(self, text: str) -> None:
        """The person begins a text; an empty one is the text before, which goes on."""
        if text or not self.texts:
            self.texts.append([text])

    def answered(self, text: str) -> None:
        """The model wrote on."""
        self.texts[-1].append(text)

    def withdraw_answer(self) -> bool:
        """Takes back what the model wrote last; False without a text."""
        if self.texts and len(self.texts[-1]) > 1:
            self.texts[-1].pop()
        return bool(self.texts)

    def undo(self) -> bool:
        """Takes back what the model wrote last, and a beginning that it leaves without any."""
        if not self.withdraw_answer():
            return False
        if len(self.texts[-1]) == 1:
            self.texts.pop()
        return True

    def reset(self) -> None:
        """Forgets everything."""
        self.texts.clear()

    @property
    def position(self) -> int:
        """How many times the model was asked to write: with it, each time has draws of its own."""
        return sum(max(1, len(text)) for text in self.texts)

    @property
    def question(self) -> str:
        """How the person began the text at hand; empty without one."""
        return self.texts[-1][0] if self.texts else ""

    @property
    def unanswered(self) -> bool:
        """Whether the model has written nothing of the text at hand."""
        return bool(self.texts) and len(self.texts[-1]) == 1

    def records(self) -> list[dict[str, Any]]:
        """The texts that were gone on with, as records of prompt and completion."""
        return [
            {"prompt": begun, "completion": "".join(written)}
            for begun, *written in self.texts
            if written
        ]

    def load(self, record: Any) -> None:
        """Takes the place of what was written.

        Raises:
            NotAConversation: The record has no prompt and completion.
        """
        fields = record if isinstance(record, dict) else {}
        prompt, completion = fields.get("prompt"), fields.get("completion")
        if not isinstance(prompt, str) or not isinstance(completion, str):
            raise NotAConversation("has no prompt and completion, which a base model's text has")
        self.texts = [[prompt, completion]]
