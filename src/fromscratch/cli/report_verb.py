"""`fromscratch report`: runs as one page."""

from __future__ import annotations

from pathlib import Path

from fromscratch.cli.show import say
from fromscratch.cli.vocabulary import argument, option
from fromscratch.cli.watch_verb import check, watch
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.names import RUN_REPORT


def run(
    runs: list[Path] = argument("RUNS"),
    out: Path = option("out", of="the page", show_default="RUN/report.html of a single run"),
    picture: Path = option("picture", of="the main charts"),
    watching: bool = option("watch", False),
    port: int = option("port", of="with --watch", min=0, max=65535, show_default="any"),
    price: float = option("price", of="for what it cost", min=0.0),
    watts: float = option("watts", min=0.0),
    landscape: bool = option("landscape", False),
    landscape_points: int = option("landscape-points", 21),
    landscape_range: float = option("landscape-range", 1.0),
) -> None:
    """Writes RUN/report.html: curves, samples, yardsticks, evaluations, events; opens offline.

    Example: fromscratch report runs/try
    """
    check(runs)
    if watching:
        if out is not None or picture is not None:
            raise UserError(
                "--watch serves the page and writes nothing.",
                fix="Leave out --out and --picture, or --watch.",
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

    for path in (out, picture):
        if path is not None and not path.absolute().parent.is_dir():
            raise UserError(f"The folder of {path} is not there.", fix="Make it first.")
    if landscape:
        from fromscratch.cli.landscape import compute_landscape

        for run in runs:
            compute_landscape(run, points=landscape_points, reach=landscape_range)
    try:
        written = write_report(*runs, out=out, png=picture, rates=Rates(price=price, watts=watts))
    except OSError as error:
        raise UserError(
            f"The report could not be written ({error.strerror}: {error.filename}).",
            fix="Name a place that can be written to with --out.",
        ) from None
    say(str(written))
    if picture is not None:
        say(str(picture))
