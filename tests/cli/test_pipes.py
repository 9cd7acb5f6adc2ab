"""Output where nobody may be there to read it, or only in some other alphabet."""

import io
import os
import sys

import pytest

from fromscratch.cli import show
from fromscratch.cli.main import main


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0)


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_locale_that_lacks_the_letters(
    encoding: str, errors: str, monkeypatch: pytest.MonkeyPatch
):
    written = {}
    for name in ("stdout", "stderr"):
        written[name] = io.BytesIO()
        stream = io.TextIOWrapper(written[name], encoding=encoding, errors=errors)
        monkeypatch.setattr(sys, name, stream)
    assert run("tokenizer", "inspect", "bytes", "--text", "\u6570 \udcff") == 0
    assert run("plan", "try") == 0, "its pictures are drawn in ASCII"
    assert run("prepare", "t\u0113xt", "--out", "x") == 2
    sys.stdout.flush()
    sys.stderr.flush()
    assert b"bytes: 257 ids" in written["stdout"].getvalue()
    assert rb"t\u0113xt does not exist" in written["stderr"].getvalue()


@pytest.mark.parametrize("arguments", [["plan", "try"], ["plan", "try", "--json"], ["--help"]])
def test_a_reader_who_has_gone(arguments: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(show.out, "quiet", False)  # and back again: it falls silent
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert run(*arguments) == 0


def test_a_run_trains_on_when_nobody_looks(forks, place):
    read, write = os.pipe()
    os.close(read)
    with open(os.devnull, "rb") as nothing:
        from tests.forking.client import begin, ended

        running, _ = begin(
            forks.socket, ["train", "tiny.toml", "--run", "unseen"], cwd=str(place),
            environment=os.environ, streams=(nothing.fileno(), write, write),
        )  # fmt: skip
    os.close(write)
    assert ended(running) == 0
    assert (place / "unseen/report.html").is_file()


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_colours(
    environment: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch, capsys
):
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run("plan", "no-such-recipe") == 2
    said = capsys.readouterr().err
    assert ("\x1b[31m" in said or "\x1b[1;31m" in said) == coloured
