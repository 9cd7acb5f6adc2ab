"""Texts on their way to ids, with their UTF-8, which is made once for all who need it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload


def encodable(text: str) -> str:
    """The text with each lone surrogate, which UTF-8 cannot hold, replaced by U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class Texts(Sequence[str]):
    """Texts that UTF-8 can hold: lone surrogates are replaced as `encodable` does.

    Attributes:
        raw: The UTF-8 of each.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts: list[str] = []
        self.raw: list[bytes] = []
        for text in texts:
            try:
                raw = text.encode("utf-8")
            except UnicodeEncodeError:
                text = encodable(text)
                raw = text.encode("utf-8")
            self._texts.append(text)
            self.raw.append(raw)

    @staticmethod
    def of(texts: Sequence[str]) -> Texts:
        """The texts as `Texts`; themselves, where they are."""
        return texts if isinstance(texts, Texts) else Texts(texts)

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self._texts[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)
