"""The loss landscape on the page: the picture, what it shows in words, and its values.

In: the files of RUN/landscape. Out: a section, empty where none was computed. No torch.
"""

from __future__ import annotations

import base64
import math
from pathlib import Path

import numpy as np

from fromscratch.evaluate.landscape_points import LandscapePoints, read_landscapes
from fromscratch.foundation.names import RunPaths
from fromscratch.report.markup import Html, tag
from fromscratch.report.numerals import count, percent, significant
from fromscratch.report.samples import pick

# A table of more rows and columns than this is read by nobody.
_MOST_ROWS = 21


def landscape_section(run: Path) -> Html:
    """The landscape of a run's latest checkpoint that has one; the empty string without any."""
    found = read_landscapes(RunPaths(run).landscape)
    if not found:
        return Html()
    landscape = found[-1]
    settings = landscape.settings
    heading = tag("h2", "Loss landscape")
    if not landscape.is_whole:
        text = (
            f"{count(len(landscape.losses))} of {count(settings.points**2)} points are computed; "
            f"fromscratch report {run} --landscape goes on."
        )
        return tag("section", heading, tag("p", text, class_="note"), id="landscape")
    # matplotlib takes longer to import than the rest of the page takes to make.
    from fromscratch.report.landscape_picture import landscape_picture

    said = describe(landscape)
    step = "" if settings.step is None else f" after step {count(settings.step)}"
    drawn = landscape_picture(landscape, f"Loss around the weights{step}")
    packed = base64.b64encode(drawn).decode("ascii")
    image = tag("img", src=f"data:image/png;base64,{packed}", alt=said, style="max-width:100%")
    how = (
        f"Mean loss of {count(settings.targets)} held-out tokens, over two random directions whose "
        f"rows have the norms of the weights' rows (Li et al. 2018); biases and norms stay. "
        f"{settings.points} x {settings.points} points, seed {settings.seed}, weights "
        f"{settings.model[:12]}."
    )
    return tag(
        "section",
        heading,
        tag("p", said),
        tag("figure", image, style="margin:0"),
        tag("p", how, class_="note"),
        tag("details", tag("summary", "The values as a table"), _table(landscape)),
        id="landscape",
    )


def describe(landscape: LandscapePoints) -> str:
    """What a landscape shows: its bottom, how wide it is, how high its rim."""
    settings, centre = landscape.settings, landscape.centre
    axis = settings.axis()
    known = [loss for loss in landscape.losses if math.isfinite(loss)]
    broken = len(landscape.losses) - len(known)
    lowest, highest = min(known, default=math.nan), max(known, default=math.nan)
    text = f"The model's own loss on these windows is {significant(centre)}"
    if lowest < centre:
        place = landscape.losses.index(lowest)
        x, y = axis[place % settings.points], axis[place // settings.points]
        text += (
            f"; the lowest point of the grid, {significant(lowest)} at ({x:.2g}, {y:.2g}), is "
            f"{percent((centre - lowest) / max(abs(centre), 1e-12))} below it: it does not lie at "
            f"the bottom of this plane."
        )
    else:
        text += ", the lowest of the grid."
    text += f" The highest is {significant(highest)}."
    if (width := _width(landscape)) is not None:
        text += (
            f" It is one nat above the middle at a distance of {significant(width, 2)} on average."
        )
    if broken:
        text += f" At {count(broken)} points the loss is not finite; they are left blank."
    return text


def _width(landscape: LandscapePoints) -> float | None:
    """The mean distance, along the four half axes, at which the loss has risen by one nat."""
    points, axis = landscape.settings.points, np.array(landscape.settings.axis())
    losses = np.array(landscape.losses).reshape(points, points)
    middle = points // 2
    found = []
    for line in (losses[middle], losses[:, middle]):
        for half in (line[middle:], line[middle::-1]):
            over = np.flatnonzero(half >= landscape.centre + 1)
            if not len(over):
                return None
            i = int(over[0])
            share = (landscape.centre + 1 - half[i - 1]) / (half[i] - half[i - 1])
            found.append(axis[middle + i - 1] + share * (axis[middle + i] - axis[middle + i - 1]))
    mean = float(np.mean(found))
    return mean if math.isfinite(mean) else None


def _table(landscape: LandscapePoints) -> Html:
    points, axis = landscape.settings.points, landscape.settings.axis()
    chosen = pick(points, _MOST_ROWS)
    head = tag(
        "tr", tag("th", "y \\ x", scope="col"), *(tag("th", f"{axis[i]:.3g}") for i in chosen)
    )
    rows = [
        tag(
            "tr",
            tag("th", f"{axis[j]:.3g}", scope="row"),
            *(tag("td", significant(landscape.losses[j * points + i])) for i in chosen),
        )
        for j in reversed(chosen)
    ]
    grid = tag("table", tag("thead", head), tag("tbody", *rows))
    return tag("div", grid, class_="scroll numbers")
