"""`fromscratch watch`: the report of runs that are still going on, in the browser."""

from __future__ import annotations

import signal
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from fromscratch.cli.show import say
from fromscratch.cli.vocabulary import argument, option
from fromscratch.foundation.errors import UserError, did_you_mean_path
from fromscratch.foundation.names import runs_inside


def run(
    runs: list[Path] = argument("RUNS"),
    port: int = option("port", min=0, max=65535, show_default="any that is free"),
    browser: bool = option("open", False),
    price: float = option("price", of="for what it cost", min=0.0),
    watts: float = option("watts", min=0.0),
) -> None:
    """Serves the report of runs on this machine only; it updates itself. Ctrl-C ends it.

    Example: fromscratch watch runs/try
    """
    watch(check(runs), port=port, browser=browser, price=price, watts=watts)


def check(runs: Sequence[Path]) -> Sequence[Path]:
    """The folders, each of which is a run.

    Raises:
        UserError: One is not.
    """
    from fromscratch.report.read import is_run

    for folder in runs:
        if not is_run(folder):
            raise UserError(
                f"{folder} is not a run (it has no recipe.toml and no metrics.jsonl)."
                f"{did_you_mean_path(folder)}{runs_inside(folder)}",
                fix="Name the folder that `fromscratch train` or `logs import` made.",
            )
    return runs


def watch(
    runs: Sequence[Path],
    *,
    port: int | None,
    browser: bool,
    price: float | None,
    watts: float | None,
) -> None:
    """Serves until somebody ends it."""
    from fromscratch.report.build import Rates
    from fromscratch.report.serve import open_server

    server, address = open_server(runs, port=port, rates=Rates(price=price, watts=watts))
    say(f"watching {', '.join(map(str, runs))} on {address}")
    say("Ctrl-C ends it.")
    if browser:
        webbrowser.open(address)
    # A service manager's stop ends it as a person's does.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        say("not watching any more")
    finally:
        signal.signal(signal.SIGTERM, before)
        server.server_close()
