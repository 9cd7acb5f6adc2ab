"""The line that a person types in `chat`: editing, history, several lines, completion.

Enter sends. Alt-Enter begins a new line, and so does Enter after a backslash; pasted text keeps its
lines. Ctrl-C empties the line; on an empty one it is `KeyboardInterrupt`, and Ctrl-D is `EOFError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output.color_depth import ColorDepth


class Keyboard:
    """Where messages are typed.

    Args:
        history: What was typed before.
        commands: The words that may follow each command; None where a path follows.
        plain: Without colours.
    """

    def __init__(
        self, history: History, commands: Mapping[str, Iterable[str] | None], *, plain: bool
    ) -> None:
        self._session: PromptSession[str] = PromptSession(
            history=history,
            multiline=True,
            key_bindings=_keys(),
            completer=_Commands(commands),
            complete_while_typing=Condition(lambda: get_app().current_buffer.text[:1] == "/"),
            reserve_space_for_menu=6,
            prompt_continuation=lambda width, number, wrapped: "" if wrapped else ". ",
            color_depth=ColorDepth.DEPTH_1_BIT if plain else None,
        )
        self._prompt = FormattedText([("bold ansigreen", "> ")])

    def read(self, default: str = "") -> str:
        """The next message or command.

        Args:
            default: What stands on the line already, to be edited.

        Raises:
            EOFError: Ctrl-D on an empty line, or the terminal has gone.
            KeyboardInterrupt: Ctrl-C on an empty line.
        """
        return self._session.prompt(self._prompt, default=default)


def _keys() -> KeyBindings:
    keys = KeyBindings()
    bind: Callable[..., Callable[[Callable[[KeyPressEvent], None]], object]] = keys.add

    @bind("enter")
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.current_line_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @bind("escape", "enter")
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    @bind("c-c")
    def clear(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt())

    return keys


class _Commands(Completer):
    """Completes commands, the names that follow them, and paths."""

    def __init__(self, commands: Mapping[str, Iterable[str] | None]) -> None:
        self._commands = commands
        self._paths = PathCompleter(expanduser=True)

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Nothing, but for a single line that begins with a slash."""
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in document.text:
            return
        command, space, rest = text.partition(" ")
        if not space:
            for name in self._commands:
                if name.startswith(text):
                    yield Completion(name, start_position=-len(text))
            return
        words = self._commands.get(command, ())
        if words is None:
            yield from self._paths.get_completions(Document(rest), complete_event)
            return
        for word in words:
            if word.startswith(rest):
                yield Completion(word, start_position=-len(rest))
