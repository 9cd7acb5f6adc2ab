"""What a person typed in `chat`, kept between sessions in the user's state folder.

Nobody else may read it. It does not grow without bound, and a folder that cannot be written costs
the history and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import platformdirs
from prompt_toolkit.history import FileHistory

from fromscratch.foundation.files import write_atomically
from fromscratch.foundation.names import CHAT_HISTORY

_MOST_BYTES = 1_000_000


def history_path() -> Path:
    """Where it is: `~/.local/state/fromscratch` on Linux, or as XDG_STATE_HOME says."""
    return platformdirs.user_state_path("fromscratch") / CHAT_HISTORY


class ChatHistory(FileHistory):
    """A history in a file.

    Args:
        path: Made if absent, with its folder.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self.problem: str | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
            if path.stat().st_size > _MOST_BYTES:
                self._shorten()
        except OSError as error:
            self.problem = f"what you type is not kept: {path} ({error.strerror})"

    def load_history_strings(self) -> Iterable[str]:
        """The newest first."""
        try:
            return list(super().load_history_strings())
        except OSError:
            return []

    def store_string(self, string: str) -> None:
        """Adds an entry to the file."""
        try:
            super().store_string(string)
        except OSError as error:
            self.problem = f"what you type is not kept: {self._path} ({error.strerror})"

    def _shorten(self) -> None:
        """Keeps the newer half; an entry begins with a line `# TIME`."""
        newer = self._path.read_bytes()[-_MOST_BYTES // 2 :]
        start = newer.find(b"\n# ")
        write_atomically(self._path, newer[start + 1 :] if start >= 0 else b"")
        self._path.chmod(0o600)
