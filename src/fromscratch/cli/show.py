"""How the command line speaks: one console, messages, tables.

Colours appear on a terminal only; in a pipe, in CI and under NO_COLOR the same
words come out plain.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import warnings
from typing import Any, TextIO

import typer
from rich.console import Console
from rich.table import Table

from fromscratch.foundation.errors import UserError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


class _Speaker(Console):
    """A console whose listener may leave: then it is silent, and the work goes on."""

    def on_broken_pipe(self) -> None:
        """The reader of our output has gone (`| head`); a run must not end because of that."""
        self.quiet = True
        no_more_to(sys.stderr if self.stderr else sys.stdout)


def no_more_to(stream: TextIO) -> None:
    """What is still written to a stream whose reader has gone is dropped, also at the exit."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)


out = _Speaker(highlight=False, soft_wrap=True)
err = _Speaker(stderr=True, highlight=False, soft_wrap=True)


def speak_in_any_encoding() -> None:
    """Whatever the locale can say is said as it is, and all else by its number.

    Under LANG=C or PYTHONIOENCODING=ascii a file name or a model's word must not end the work.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="backslashreplace")


def print_error(what: str, fix: str | None) -> None:
    """A user's mistake: what is wrong, and how to mend it."""
    console = _Speaker(stderr=True, highlight=False, soft_wrap=True)  # heard after `hush`, too
    console.print(f"[bold red]error:[/] {_plain(what)}")
    if fix:
        console.print(f"  {_plain(fix)}")


def hush() -> None:
    """Keeps this process silent but for errors: of many that do the same, one speaks."""
    out.quiet = err.quiet = True
    warnings.simplefilter("ignore")


def print_warning(message: str) -> None:
    """Something the person should know, which does not stop the work."""
    err.print(f"[yellow]warning:[/] {_plain(message)}")


def say(message: str = "") -> None:
    """A line of plain output."""
    out.print(_plain(message))


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """The one thing on standard output, for a program: JSON, paths and dates as text."""
    from fromscratch.foundation.files import dump_json

    typer.echo(dump_json(value, indent=indent))


def table(columns: list[str], rows: list[list[str]], *, title: str | None = None) -> None:
    """A table whose first column reads left and whose others read right."""
    grid = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for number, name in enumerate(columns):
        grid.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        grid.add_row(*(_plain(cell) for cell in row))
    out.print(grid)


def size(n_bytes: float) -> str:
    """Bytes as people say them, in powers of 1000 as disks are sold."""
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= limit:
            return f"{n_bytes / limit:.3g} {unit}"
    return f"{n_bytes:.0f} B"


def parse_size(text: str) -> int:
    """Bytes of `200MB`, `2GB`, `500kB`, in powers of 1000.

    Raises:
        UserError: It is not a size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKMGT]?B?)", text.strip())
    unit = match[2].upper() if match else ""
    unit = unit if unit in _UNITS else unit + "B"
    if match is None or float(match[1]) * _UNITS[unit] < 1:
        raise UserError(f'"{text}" is not a size.', fix="Write for example 200MB or 2GB.")
    return int(float(match[1]) * _UNITS[unit])


def _plain(text: str) -> str:
    """Text that contains brackets must not be read as markup."""
    return text.replace("[", "\\[")
