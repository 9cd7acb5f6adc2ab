"""A model's text on a person's terminal: shown, never obeyed.

A model can write escape sequences, which a terminal would carry out: move the cursor, rename the
window, put text into the clipboard. It can also write characters that reverse the order in which a
line reads. On a terminal such characters are spelled out, as Python spells them; to a file or a
pipe the text goes as it is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

# Control characters but for tab and line feed; the bidirectional controls of Unicode (UAX 9), by
# which text reads as it does not stand; separators at which some terminals break a line.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def shown(text: str) -> str:
    """The text with every character spelled out that a terminal would obey."""
    return _OBEYED.sub(lambda found: ascii(found[0])[1:-1], text)


class TextWriter:
    """Writes a text as it comes.

    Args:
        stream: Where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._last = "\n"
        if self._is_terminal and hasattr(stream, "reconfigure"):
            # A terminal of another encoding shows what it lacks by its number.
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> None:
        """Writes the next piece at once."""
        if text:
            self._stream.write(shown(text) if self._is_terminal else text)
            self._stream.flush()
            self._last = text[-1]

    def end_line(self) -> None:
        """Ends the line, unless it has ended."""
        if self._last != "\n":
            self.write("\n")


@contextmanager
def silent_keyboard() -> Iterator[None]:
    """While the model writes, keys that are pressed do not appear among its words.

    They are not lost: the next prompt reads them. Ctrl-C works as ever.
    """
    try:
        import termios
    except ImportError:  # Windows shows no keys that nobody reads
        yield
        return
    if not sys.stdin.isatty():
        yield
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    silent = termios.tcgetattr(terminal)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, silent)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)
