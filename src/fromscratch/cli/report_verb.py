"""`fromscratch report`: runs as one page."""

from __future__ import annotations

from pathlib import Path

import typer

from fromscratch.cli.show import say
from fromscratch.cli.watch_verb import check, watch
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.names import RUN_REPORT


def run(
    runs: list[Path] = typer.Argument(
        ..., metavar="RUN...", help="Folder of the run; several are compared."
    ),
    out: Path = typer.Option(
        None, help="Where to write the page; RUN/report.html of a single run."
    ),
    png: Path = typer.Option(None, help="Also write the main charts as a picture."),
    watching: bool = typer.Option(
        False, "--watch", help="Serve the page on this machine and keep it up to date instead."
    ),
    port: int = typer.Option(None, min=0, max=65535, help="Port for --watch."),
    price: float = typer.Option(None, min=0.0, help="Dollars an hour and device, for the cost."),
    watts: float = typer.Option(None, min=0.0, help="Power of a device, for the energy."),
    landscape: bool = typer.Option(
        False, "--landscape", help="Compute the loss around the weights, too; can be interrupted."
    ),
    landscape_points: int = typer.Option(21, help="Points along each of its two axes; odd."),
    landscape_range: float = typer.Option(1.0, help="How far, in norms of the weights' rows."),
) -> None:
    """Writes RUN/report.html: curves, samples, yardsticks, evaluations, events; opens offline.

    Example: fromscratch report runs/try
    """
    check(runs)
    if watching:
        if out is not None or png is not None:
            raise UserError(
                "--watch serves the page and writes nothing.",
                fix="Leave out --out and --png, or --watch.",
            )
        if landscape:
            raise UserError(
                "--landscape computes for minutes before there is a page to --watch.",
                fix="Run it first, then --watch.",
            )
        watch(runs, port=port, browser=False, price=price, watts=watts)
        return
    if port is not None:
        raise UserError("--port is for --watch.", fix="Add --watch, or leave out --port.")
    if len(runs) > 1 and out is None:
        raise UserError(
            "Several runs make one page, which belongs to none of their folders.",
            fix=f"Say where to write it: --out {RUN_REPORT}.",
        )
    from fromscratch.report.build import Rates, write_report

    for path in (out, png):
        if path is not None and not path.absolute().parent.is_dir():
            raise UserError(f"The folder of {path} is not there.", fix="Make it first.")
    if landscape:
        from fromscratch.cli.landscape import compute_landscape

        for run in runs:
            compute_landscape(run, points=landscape_points, reach=landscape_range)
    try:
        written = write_report(*runs, out=out, png=png, rates=Rates(price=price, watts=watts))
    except OSError as error:
        raise UserError(
            f"The report could not be written ({error.strerror}: {error.filename}).",
            fix="Name a place that can be written to with --out.",
        ) from None
    say(str(written))
    if png is not None:
        say(str(png))
