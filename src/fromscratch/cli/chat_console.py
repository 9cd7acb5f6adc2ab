"""A chat at a terminal: what is typed, what the model says, and what is said about it.

Ctrl-C while the model writes stops its words; what it said so far stays. At an empty line the first
Ctrl-C says how to leave, the second leaves.
"""

from __future__ import annotations

import sys

from rich.text import Text

from fromscratch.chat.dialogue import Writing
from fromscratch.cli.chat_commands import COMMANDS, run_command
from fromscratch.cli.chat_history import ChatHistory, history_path
from fromscratch.cli.chat_keyboard import Keyboard
from fromscratch.cli.chat_talk import Answer, Talk
from fromscratch.cli.show import out, print_error, print_warning
from fromscratch.cli.stopping import stopped_by_ctrl_c
from fromscratch.cli.terminal_text import TextWriter, shown, silent_keyboard
from fromscratch.foundation.errors import UserError

_LINE = 60


class Console:
    """The conversation on the screen.

    Args:
        talk: The conversation.
    """

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._history = ChatHistory(history_path())
        commands = {name: command.words for name, command in COMMANDS.items()}
        self._keyboard = Keyboard(self._history, commands, plain=out.no_color)
        self._edit = ""
        self._dropped = 0

    def run(self) -> None:
        """Reads and answers until somebody leaves."""
        warned = leaving = False
        while True:
            if self._history.problem and not warned:
                print_warning(shown(self._history.problem))
                warned = True
            edit, self._edit = self._edit, ""
            try:
                typed = self._keyboard.read(edit)
            except KeyboardInterrupt:
                if leaving:
                    return
                leaving = True
                remark("Ctrl-C once more, or Ctrl-D, leaves")
                continue
            except EOFError:
                return
            leaving = False
            try:
                if not self._take(typed):
                    return
            except UserError as error:
                print_error(shown(error.what), error.fix)

    def _take(self, typed: str) -> bool:
        """Does what was typed; False to leave."""
        if not typed.strip():
            return True
        if typed.startswith("/") and not typed.startswith("//"):
            outcome = run_command(typed, self._talk)
            if outcome.words:
                remark(f"{outcome.words}\n")
            self._edit = outcome.edit
            if outcome.then == "answer":
                self._answer()
            return outcome.then != "leave"
        self._talk.ask(typed.removeprefix("/"))
        self._answer()
        return True

    def _answer(self) -> None:
        """The model's words as they come, then a line about them."""
        writer = TextWriter(sys.stdout)
        if isinstance(self._talk.thread, Writing):  # where the text that goes on stands
            line = self._talk.thread.text.rpartition("\n")[2]
            out.print(Text(shown(line[-_LINE:]), style="dim"), end="")
        try:
            with stopped_by_ctrl_c() as stop, silent_keyboard():
                answer = self._talk.answer(writer.write, stop)
                writer.end_line()
        finally:
            if self._talk.thread.unanswered:  # it was too long, or nothing came of it
                self._edit = self._talk.thread.question
                self._talk.undo()
        self._say_what_was_dropped()
        remark(f"{about(answer, self._talk)}\n")

    def _say_what_was_dropped(self) -> None:
        if self._talk.dropped > self._dropped:
            remark(
                f"the conversation is longer than the model's context: its oldest "
                f"{self._talk.dropped} messages were not read"
            )
        self._dropped = self._talk.dropped


def about(answer: Answer, talk: Talk) -> str:
    """A line about an answer: tokens, rate, context, and why it ended where it did."""
    parts = ["1 token" if answer.tokens == 1 else f"{answer.tokens:,} tokens"]
    if answer.tokens_per_s is not None:
        parts.append(f"{answer.tokens_per_s:.1f} tokens/s")
    used = min(answer.prompt_tokens + answer.tokens, talk.context)
    parts.append(f"context {used:,} of {talk.context:,}")
    why = {
        "end": "",
        "stopped": "; stopped",
        "limit": f"; cut off at {talk.settings.max_new_tokens:,} tokens: /more goes on",
        "context": "; the context is full: /reset, or shorter messages",
    }
    return ", ".join(parts) + why[answer.ended]


def remark(text: str, style: str = "dim") -> None:
    """Words of the program's own, set off from the model's."""
    out.print(Text(shown(text)), style=style, soft_wrap=False)
