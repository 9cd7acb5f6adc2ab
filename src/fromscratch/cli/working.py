"""A sign of life for work that cannot say how far it is: on a terminal only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.markup import escape

from fromscratch.cli.show import err


@contextmanager
def working(what: str) -> Iterator[None]:
    """Shows what is under way until it is done."""
    if not err.is_terminal or err.is_dumb_terminal:
        yield
        return
    with err.status(escape(what)):
        yield
