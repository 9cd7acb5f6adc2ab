"""`fromscratch report`: a run as one page."""

from __future__ import annotations

from pathlib import Path

import typer

from fromscratch.cli.show import say
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import RunPaths


def run(
    run_folder: Path = typer.Argument(..., metavar="RUN", help="Folder of the run."),
    png: Path = typer.Option(None, help="Also write the main charts as a picture."),
    landscape: bool = typer.Option(
        False, "--landscape", help="Compute the loss around the weights, too; can be interrupted."
    ),
    landscape_points: int = typer.Option(21, help="Points along each of its two axes; odd."),
    landscape_range: float = typer.Option(1.0, help="How far, in norms of the weights' rows."),
) -> None:
    """Writes RUN/report.html: curves, samples, yardsticks, events; opens offline.

    Example: fromscratch report runs/try
    """
    from fromscratch.report.build import write_report

    if not RunPaths(run_folder).recipe.is_file():
        raise UserError(
            f"{run_folder} is not a run (it has no recipe.toml).",
            fix="Name the folder that `fromscratch train` made.",
        )
    if landscape:
        from fromscratch.cli.landscape import compute_landscape

        compute_landscape(run_folder, points=landscape_points, reach=landscape_range)
    say(str(write_report(run_folder, png=png)))
    if png is not None:
        say(str(png))
