"""A person's terminal: a real pseudo-terminal, and an emulator that shows what stands on it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pyte

from tests.forking.client import begin, ended
from tests.forking.forks import Forks

ENTER, ALT_ENTER, CTRL_C, CTRL_D, UP, TAB = "\r", "\x1b\r", "\x03", "\x04", "\x1b[A", "\t"
PATIENCE = 60.0


class Terminal:
    """A command at a terminal.

    Args:
        arguments: Of `fromscratch`.
        cwd: Where it runs.
        environment: What it sees, besides what this process does.
        forks: Starts it without importing; else it is a process that imports what it needs.
        size: Columns and lines.
    """

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        environment: Mapping[str, str],
        forks: Forks | None = None,
        size: tuple[int, int] = (200, 60),
    ) -> None:
        self.raw = b""
        self._closed = False
        self._lock = threading.Condition()  # told when something was written
        self._screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = pty.openpty()
        self._enough, self._say_enough = os.pipe()
        # The emulator answers where the cursor is, as a terminal does when it is asked.
        self._screen.write_process_input = lambda answer: os.write(self._master, answer.encode())
        self.resize(*size)
        self._code: int | None = None
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("COLUMNS", "LINES", "NO_COLOR", "CI")
        } | {"TERM": "xterm-256color", **environment}

        def forked() -> None:
            assert forks is not None
            running, _ = begin(
                forks.socket, arguments, cwd=str(cwd), environment=environment,
                streams=(slave, slave, slave), terminal=True,
            )  # fmt: skip
            os.close(slave)
            self._code = ended(running)

        def alone() -> None:
            made = subprocess.Popen(
                [sys.executable, "-m", "fromscratch", *arguments],
                cwd=cwd, env=environment, stdin=slave, stdout=slave, stderr=slave,
                preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)),
            )  # fmt: skip
            os.close(slave)
            self._code = made.wait()

        self._reader = threading.Thread(target=self._read, daemon=True)
        self._runner = threading.Thread(target=forked if forks else alone, daemon=True)
        self._reader.start()
        self._runner.start()

    def _read(self) -> None:
        while True:
            if self._enough in select.select([self._master, self._enough], [], [])[0]:
                return
            try:
                data = os.read(self._master, 65_536)
            except OSError:  # the last one who could write has gone
                return
            if not data:
                return
            with self._lock:
                self.raw += data
                self._stream.feed(data)
                self._lock.notify_all()

    def resize(self, columns: int, lines: int) -> None:
        """The window has another size."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        with self._lock:
            self._screen.resize(lines, columns)

    def press(self, keys: str) -> None:
        """Types."""
        os.write(self._master, keys.encode())

    def type(self, line: str) -> None:
        """Types a line and sends it."""
        self.press(line + ENTER)

    def paste(self, text: str) -> None:
        """Pastes, as a terminal with bracketed paste does."""
        self.press(f"\x1b[200~{text}\x1b[201~")

    @property
    def lines(self) -> list[str]:
        """What stands on the screen, without what is empty at its end."""
        with self._lock:
            rows = [row.rstrip() for row in self._screen.display]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    @property
    def text(self) -> str:
        """The screen as one text."""
        return "\n".join(self.lines)

    def wait(self, what: Callable[[], bool], why: str) -> None:
        """Waits until something is so."""
        until = time.monotonic() + PATIENCE
        with self._lock:
            while not what():
                left = until - time.monotonic()
                assert left > 0, f"waited for {why}:\n{self.text}"
                self._lock.wait(left)

    def wait_for(self, text: str, times: int = 1) -> None:
        """Waits until a text stands on the screen so many times."""
        self.wait(lambda: self.text.count(text) >= times, repr(text))

    def wait_for_prompt(self) -> None:
        """Waits until the next message can be typed."""
        self.wait(lambda: bool(self.lines) and self.lines[-1] in (">", "> "), "the prompt")

    def wait_for_end(self) -> int:
        """Waits until the command has ended; returns its exit code."""
        self._runner.join(PATIENCE)
        assert self._code is not None, f"still running:\n{self.text}"
        time.sleep(0.05)  # what it wrote last is read
        return self._code

    def close(self) -> None:
        """The window is closed."""
        if self._closed:
            return
        self._closed = True
        # Its number may be another terminal's at once: nobody may be reading it then.
        os.write(self._say_enough, b".")
        self._reader.join()
        for descriptor in (self._master, self._enough, self._say_enough):
            os.close(descriptor)
