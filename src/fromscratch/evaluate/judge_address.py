"""Which judge, and with which key: an OpenAI-compatible endpoint as a person names it.

The key is read here, goes to the client, and is never written anywhere. Of the address, what is
kept in files is scheme, host and path.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fromscratch.foundation.errors import UserError

_EXAMPLES = "https://api.openai.com/v1, http://localhost:11434/v1 (Ollama)"
_FULL_PATH = "/chat/completions"


@dataclass(frozen=True)
class JudgeAddress:
    """An endpoint and a model of it.

    Attributes:
        url: Without what follows it in requests (`/chat/completions`).
        model: The judge's name there.
    """

    url: str
    model: str

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f'"{self.url}" is no address of a judge.', fix=f"Write {_EXAMPLES}.")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise UserError(
                "The judge's address has a user, a password or a query in it.",
                fix="Give the address alone; the key comes from OPENAI_API_KEY or --api-key-file.",
            )
        if parts.path.rstrip("/").endswith(_FULL_PATH):
            raise UserError(
                f'"{self.url}" is the address of one request.',
                fix=f"Leave out {_FULL_PATH}: {_EXAMPLES}.",
            )
        object.__setattr__(self, "url", self.url.rstrip("/"))

    @property
    def host(self) -> str:
        """Host and port, as the address has them."""
        return urlsplit(self.url).netloc

    @property
    def is_local(self) -> bool:
        """Whether it is this machine or its own network, where nobody sends a bill."""
        name = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(name).is_private
        except ValueError:
            return name == "localhost" or name.endswith(".local")


def read_key(file: Path | None, environment: str | None) -> str | None:
    """The key.

    Args:
        file: One that holds nothing else.
        environment: The value of OPENAI_API_KEY, used without a file.

    Returns:
        None without any: many a local server asks for none.

    Raises:
        UserError: The file cannot be read, or what is there is no key.
    """
    if file is None:
        key = (environment or "").strip()
    else:
        try:
            key = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise UserError(f"The key file {file} cannot be read ({reason}).") from None
        if not key:
            raise UserError(f"The key file {file} is empty.")
    if not all("!" <= character <= "~" for character in key):
        raise UserError(
            f"What is in {file or 'OPENAI_API_KEY'} is no key: it has a space, a line break or a "
            "character beyond ASCII in it.",
            fix="Put the key alone there.",
        )
    return key or None
