"""The shares of a mixture over its run: rows of stacked bars for a terminal, areas for a PNG.

In: a `MixturePlan`. Both are drawn from its knots, so they show what will be trained, exactly.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from itertools import pairwise

from fromscratch.report.numerals import short
from fromscratch.runs.mixture_plan import MixturePlan

_BLOCKS = "█░▓▒"
_LETTERS = "#.=+-oxz*%@&"
_COLOURS = ("#2166c9", "#cf4f0a", "#0d8074", "#8a3fc0", "#a3730a", "#c2296b", "#5a6270", "#7fb236")


def bars(mixture: MixturePlan, *, width: int = 48, rows: int = 12, ascii_only: bool) -> list[str]:
    """The shares as lines of text: time runs down, each row is a moment in the middle of its part.

    Args:
        mixture: What to draw.
        width: Characters of a whole bar.
        rows: Parts of the run; one where shares stay.
        ascii_only: For an output that has no other characters.
    """
    names = [source.name for source in mixture.sources]
    marks = _BLOCKS if len(names) <= len(_BLOCKS) and not ascii_only else _LETTERS
    marks = "".join(marks[i % len(marks)] for i in range(len(names)))
    end = mixture.knots[-1][0]
    if len({tuple(shares.values()) for _, shares in mixture.knots}) == 1:
        rows = 1
    labels = [short(end * row / rows) for row in range(rows)]
    margin = max(len("tokens"), *map(len, labels))
    legend = "   ".join(f"{mark} {name}" for mark, name in zip(marks, names, strict=True))
    lines = ["tokens".rjust(margin) + "  " + legend]
    for row, label in enumerate(labels):
        shares = shares_at(mixture, end * (row + 0.5) / rows)
        bar = "".join(mark * n for mark, n in zip(marks, _cells(shares, width), strict=True))
        percents = " ".join(f"{share:4.0%}" for share in shares)
        lines.append(f"{label.rjust(margin)}  {bar}  {percents}")
    return lines


def png(mixture: MixturePlan, *, title: str) -> bytes:
    """The shares over tokens as stacked areas, 1000 x 420 pixels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 4.2), dpi=100, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    tokens = [position for position, _ in mixture.knots]
    names = [source.name for source in mixture.sources]
    shares = [[100 * at[name] for _, at in mixture.knots] for name in names]
    colours = [_COLOURS[i % len(_COLOURS)] for i in range(len(names))]
    plain = [name.replace("$", r"\$") for name in names]  # not a formula
    axes.stackplot(tokens, shares, labels=plain, colors=colours, linewidth=0)
    axes.set_title(title.replace("$", r"\$"), loc="left", fontsize=11)
    axes.set_xlim(0, tokens[-1] or 1)
    axes.set_ylim(0, 100)
    axes.set_xlabel("tokens trained on")
    axes.set_ylabel("share of the windows (%)")
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()


def shares_at(mixture: MixturePlan, position: float) -> list[float]:
    """Each source's share at a place of the run; where it jumps, the new one."""
    places = [place for place, _ in mixture.knots]
    after = bisect_right(places, position)
    if after == len(places):
        return list(mixture.knots[-1][1].values())
    (begin, a), (end, b) = mixture.knots[after - 1], mixture.knots[after]
    along = (position - begin) / (end - begin)
    return [a[name] + along * (b[name] - a[name]) for name in a]


def _cells(shares: list[float], width: int) -> list[int]:
    """Whole characters that add up to the bar; one at least for a source that takes part."""
    edges = [round(width * sum(shares[:i])) for i in range(len(shares) + 1)]
    cells = [b - a for a, b in pairwise(edges)]
    for i, share in enumerate(shares):
        if share > 0 and cells[i] == 0 and max(cells) > 1:
            cells[cells.index(max(cells))] -= 1
            cells[i] = 1
    return cells
