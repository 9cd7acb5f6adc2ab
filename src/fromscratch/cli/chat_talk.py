"""A model and what was said to it: one object that asks, answers, takes back and goes on.

It knows no terminal. In: what a person says, and settings. Out: the model's words as they come, and
how they ended. A model with a chat template answers; a base model, which has none, goes on with a
text. Always true: a conversation is never longer than the model's context, and what was left out
for that is told (`Talk.dropped`); an answer is a function of weights, conversation, settings and
how often it was drawn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fromscratch.chat.dialogue import Dialogue, Writing
from fromscratch.chat.fitting import fitted
from fromscratch.chat.rendering import prompt_ids, stop_ids
from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.cli.sampling_settings import TextSettings
from fromscratch.cli.stopping import Stop
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.seeds import derive_seed
from fromscratch.generate.engine import TextPiece, generate_text
from fromscratch.generate.memory import Memory

Ended = Literal["end", "limit", "context", "stopped"]


@dataclass
class Answer:
    """What the model wrote.

    Attributes:
        text: All of it.
        tokens: How many it drew.
        seconds: From the first of them to the last, and what came before.
        seconds_to_first: Until there was one: the prompt is read in that time.
        ended: By itself or at a stop text; at the limit; at the context's end; by Ctrl-C.
        prompt_tokens: What it read.
        dropped: Messages that did not fit any more and were not read.
    """

    text: str = ""
    tokens: int = 0
    seconds: float = 0.0
    seconds_to_first: float = 0.0
    ended: Ended = "end"
    prompt_tokens: int = 0
    dropped: int = 0

    @property
    def tokens_per_s(self) -> float | None:
        """The rate at which tokens came; None for too few of them."""
        later = self.seconds - self.seconds_to_first
        return (self.tokens - 1) / later if self.tokens > 1 and later > 0 else None


class Talk:
    """One conversation with one model.

    Args:
        bundle: The model, on its device. Without a template it goes on with texts.
        settings: Of what it writes.
        system: The system's message; only with a template.

    Attributes:
        thread: What was said.
        dropped: How many of its messages the model no longer reads.
        saved: The files that it was saved in, which it may replace.

    Raises:
        UserError: A system's message without a template.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        settings: TextSettings,
        *,
        system: str = "",
    ) -> None:
        self.bundle = bundle
        self.template = bundle.template
        self.settings = settings
        self.thread: Dialogue | Writing = Writing() if self.template is None else Dialogue()
        if system:
            self.set_system(system)
        self.dropped = 0
        self.saved: set[Path] = set()
        self._draws = 0
        self._memory = Memory(bundle.model)

    @property
    def context(self) -> int:
        """Tokens that the model can read, its own words included."""
        return self.bundle.model.config.context

    def ask(self, text: str) -> None:
        """The person says something, or begins a text."""
        self.thread.ask(text)
        self._draws = 0

    def answer(self, show: Callable[[str], None], stop: Stop) -> Answer:
        """The model answers, or writes on; what it says is part of the conversation from then on.

        Args:
            show: Is given its words as they come, in whole characters.
            stop: Ends it between two tokens.

        Raises:
            UserError: The last message does not fit into the context; it is still there.
        """
        begin = time.perf_counter()
        ids, room = self._read()
        limit = min(self.settings.max_new_tokens, room)
        answer = Answer(prompt_tokens=len(ids), dropped=self.dropped)
        pieces = self._pieces(ids, limit)
        try:
            for piece in pieces:
                if piece.token is not None:
                    answer.tokens += 1
                    answer.seconds = time.perf_counter() - begin
                    answer.seconds_to_first = answer.seconds_to_first or answer.seconds
                if piece.text:
                    answer.text += piece.text
                    show(piece.text)
                if piece.finish == "length":
                    answer.ended = "limit" if limit == self.settings.max_new_tokens else "context"
                if stop.asked:
                    answer.ended = "stopped"
                    break
        except KeyboardInterrupt:  # the second Ctrl-C, in the middle of a token
            answer.ended = "stopped"
        finally:
            pieces.close()
        if answer.text or answer.ended != "stopped":
            self.thread.answered(answer.text)
        return answer

    def again(self) -> bool:
        """Takes the last answer back; the next has other draws. False where nothing was asked."""
        if not self.thread.withdraw_answer():
            return False
        self._draws += 1
        return True

    def undo(self) -> bool:
        """Takes the last question back with its answer; False where there is none."""
        self._draws = 0
        if not self.thread.undo():
            return False
        if self.dropped:  # what was left out may fit again
            self.dropped = 0
        return True

    def reset(self) -> None:
        """Forgets what was said; settings and the system's message stay."""
        self.thread.reset()
        self.dropped = self._draws = 0

    def load(self, record: Any) -> None:
        """Goes on from a record of a conversation.

        Raises:
            NotAConversation: It is none.
        """
        self.thread.load(record)
        self.dropped = self._draws = 0

    def set_system(self, text: str) -> None:
        """Gives the conversation another system message; an empty one takes it away.

        Raises:
            UserError: A base model has none.
        """
        if isinstance(self.thread, Writing):
            raise UserError(
                "A base model has no system message: it goes on with a text, and answers nobody."
            )
        self.thread.system = text

    def _read(self) -> tuple[list[int], int]:
        """What the model reads, and how many tokens it may write then."""
        tokenizer = self.bundle.tokenizer
        if isinstance(self.thread, Writing):
            # A text is longer than the context in the end: its window slides (generate/engine.py).
            return tokenizer.encode(self.thread.text) or [tokenizer.eot_id], 2**31
        template = self.template
        assert template is not None
        messages = self.thread.messages
        begun = ""
        if messages and messages[-1].role == "assistant":
            begun, messages = messages[-1].content, messages[:-1]
        said = tokenizer.encode(begun)
        space = min(self.settings.max_new_tokens, self.context // 2)
        found = fitted(
            messages,
            lambda some: prompt_ids(template, tokenizer, some) + said,
            self.context - space,
            dropped=self.dropped,
        )
        self.dropped = found.dropped
        return found.ids, self.context - len(found.ids)

    def _pieces(self, ids: list[int], limit: int) -> Generator[TextPiece]:
        """The model's words, a piece a token."""
        sampling, template = self.settings.sampling, self.template
        drawn = derive_seed(sampling.seed, "chat", self.thread.position, self._draws)
        tokenizer, stop, stops = self.bundle.tokenizer, self.settings.stop, None
        if template is not None:
            stop = (*stop, *template.stop_texts)
            stops = stop_ids(template, tokenizer)
        yield from generate_text(
            self.bundle.model,
            tokenizer,
            ids,
            max_new_tokens=limit,
            options=replace(sampling, seed=drawn),
            stop=stop,
            stop_ids=stops,
            memory=self._memory,
        )
