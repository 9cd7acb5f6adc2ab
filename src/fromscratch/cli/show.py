"""How the command line speaks: one console, messages, tables, progress.

Colours and live progress appear on a terminal only; in a pipe, in CI and under NO_COLOR the same
words come out plain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def print_error(what: str, fix: str | None) -> None:
    """A user's mistake: what is wrong, and how to mend it."""
    err.print(f"[bold red]error:[/] {_plain(what)}")
    if fix:
        err.print(f"  {_plain(fix)}")


def print_warning(message: str) -> None:
    """Something the person should know, which does not stop the work."""
    err.print(f"[yellow]warning:[/] {_plain(message)}")


def say(message: str = "") -> None:
    """A line of plain output."""
    out.print(_plain(message))


def table(columns: list[str], rows: list[list[str]], *, title: str | None = None) -> None:
    """A table whose first column reads left and whose others read right."""
    grid = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for number, name in enumerate(columns):
        grid.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        grid.add_row(*(_plain(cell) for cell in row))
    out.print(grid)


@contextmanager
def documents_progress() -> Iterator[Callable[[str, int], None]]:
    """Shows how preparation advances: a spinner on a terminal, nothing in a pipe."""
    words = {"tokenizer": "reading text for the tokenizer", "tokens": "turning text into tokens"}
    if not err.is_terminal:
        yield lambda stage, documents: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        tasks: dict[str, object] = {}

        def report(stage: str, documents: int) -> None:
            text = f"{words.get(stage, stage)}: {documents:,} documents"
            if stage not in tasks:
                tasks[stage] = progress.add_task(text, total=None)
            progress.update(tasks[stage], description=text)  # type: ignore[arg-type]

        yield report


def size(n_bytes: float) -> str:
    """Bytes as people say them, in powers of 1000 as disks are sold."""
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= limit:
            return f"{n_bytes / limit:.3g} {unit}"
    return f"{n_bytes:.0f} B"


def _plain(text: str) -> str:
    """Text that contains brackets must not be read as markup."""
    return text.replace("[", "\\[")
