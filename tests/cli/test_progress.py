"""One bar for all work: on a terminal after two seconds, nowhere else."""

import io

import pytest
import typer
from rich.console import Console

from fromscratch.cli import documents_progress, items_progress, progress
from fromscratch.data.watching import Advance


def listen(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, term: str = "xterm") -> io.StringIO:
    """Has the bars drawn on a screen that is kept, at once."""
    screen = io.StringIO()
    environment = {"TERM": term, "COLUMNS": "40"}
    console = Console(file=screen, force_terminal=terminal, width=40, _environ=environment)
    for module in (progress, items_progress, documents_progress):
        monkeypatch.setattr(module, "err", console)
    monkeypatch.setattr(progress, "_QUIET_SECONDS", -1.0)
    return screen


def work() -> None:
    with progress.progress(progress.tokens_a_second) as report:
        report("reading [x]", 5, 10)
        report("writing", 1, 0)
    with items_progress.items_progress("nothing is lost") as items:
        items.show("judging", 3, 9, before=2)
    with documents_progress.documents_progress() as watch:
        watch(Advance("downloading", bytes=5_000_000, share=0.5, file="a[b].parquet"))
        watch(Advance("tokens", documents=7, share=0.25))


def test_on_a_terminal_there_are_bars(monkeypatch: pytest.MonkeyPatch):
    screen = listen(monkeypatch, terminal=True)
    work()
    drawn = screen.getvalue()
    for words in ("reading [x]", "writing", "judging", "3/9", "downloading", "turning text"):
        assert words in drawn, words
    assert drawn.rstrip().endswith("\x1b[2K"), "and they are taken away"


@pytest.mark.parametrize(("terminal", "term"), [(False, "xterm"), (True, "dumb")])
def test_elsewhere_there_is_none(terminal: bool, term: str, monkeypatch: pytest.MonkeyPatch):
    screen = listen(monkeypatch, terminal=terminal, term=term)
    work()
    assert screen.getvalue() == ""


def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch):
    screen = listen(monkeypatch, terminal=False)
    with pytest.raises(typer.Exit) as end, items_progress.items_progress("it goes on"):
        raise KeyboardInterrupt
    assert end.value.exit_code == 130
    assert screen.getvalue() == "Interrupted; it goes on.\n"
