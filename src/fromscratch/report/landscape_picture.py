"""A loss landscape as a PNG: contours and surface, drawn by matplotlib."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from fromscratch.evaluate.landscape_points import LandscapePoints
from fromscratch.report.numerals import significant
from fromscratch.report.record import FloatArray

_DPI = 110
_SIZE = (12.0, 5.2)  # inches, so 1320 x 572 pixels
_SOFT = "#5a6270"
_MARK = "#cf4f0a"
_LABEL = {"boxstyle": "round,pad=0.2", "facecolor": _MARK, "edgecolor": "none"}
_MAP = "viridis"
_LEVELS = 14


def landscape_picture(landscape: LandscapePoints, title: str) -> bytes:
    """Draws a whole landscape with the model's own loss marked, 1320 x 572 pixels.

    Args:
        landscape: All of its points.
        title: Above both.
    """
    assert landscape.is_whole, "a part of a landscape is no picture"
    axis = np.array(landscape.settings.axis())
    losses = loss_grid(landscape)
    shown = np.ma.masked_invalid(losses)
    figure = Figure(figsize=_SIZE, dpi=_DPI, facecolor="white", layout="constrained")
    figure.suptitle(title.replace("$", r"\$"), x=0.01, ha="left", fontsize=13)
    _contours(figure.add_subplot(1, 2, 1), axis, shown, landscape.centre)
    _surface(figure.add_subplot(1, 2, 2, projection="3d"), axis, shown, landscape.centre)
    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_DPI)
    pixels = Image.open(drawn).convert("RGB").quantize(192, dither=Image.Dither.NONE)
    pixels.save(packed, "PNG", optimize=True)
    return packed.getvalue()


def loss_grid(landscape: LandscapePoints) -> FloatArray:
    """The losses as (y, x), shape (points, points)."""
    points = landscape.settings.points
    return np.array(landscape.losses, dtype=np.float64).reshape(points, points)


def _levels(losses: Any, centre: float) -> FloatArray:
    """Levels that lie close near the bottom, where a loss is decided."""
    low, high = float(losses.min()), float(losses.max())
    if not high > low:
        high = low + max(1e-6, 1e-6 * abs(centre))
    steps: FloatArray = low + (high - low) * np.linspace(0, 1, _LEVELS) ** 2
    return steps


def _contours(axes: Any, axis: FloatArray, losses: Any, centre: float) -> None:
    levels = _levels(losses, centre)
    filled = axes.contourf(axis, axis, losses, levels=levels, cmap=_MAP)
    lines = axes.contour(axis, axis, losses, levels=levels[1:-1], colors="white", linewidths=0.6)
    axes.clabel(lines, fmt=lambda value: significant(value, 3), fontsize=7.5)
    axes.plot(0, 0, "o", color=_MARK, markersize=7, markeredgecolor="white")
    axes.annotate(
        significant(centre),
        (0, 0),
        xytext=(8, 8),
        textcoords="offset points",
        fontsize=10,
        fontweight="bold",
        color="white",
        bbox=_LABEL,
    )
    axes.set_aspect("equal")
    axes.set_xlabel("first direction", color=_SOFT, fontsize=9)
    axes.set_ylabel("second direction", color=_SOFT, fontsize=9)
    axes.tick_params(colors=_SOFT, labelsize=8.5)
    bar = axes.figure.colorbar(filled, ax=axes, shrink=0.9)
    bar.set_label("loss, nats per token", color=_SOFT, fontsize=9)
    ticks = levels[:: max(1, len(levels) // 6)]
    bar.set_ticks(ticks, labels=[significant(value, 3) for value in ticks])
    bar.ax.tick_params(colors=_SOFT, labelsize=8.5)


def _surface(axes: Any, axis: FloatArray, losses: Any, centre: float) -> None:
    x, y = np.meshgrid(axis, axis)
    axes.plot_surface(
        x,
        y,
        losses,
        cmap=_MAP,
        rcount=100,
        ccount=100,
        linewidth=0.2,
        edgecolor=(1, 1, 1, 0.35),
        antialiased=True,
    )
    low, high = float(losses.min()), float(losses.max())
    # Before the surface wherever it lies, on a stem to its label.
    axes.computed_zorder = False
    top = centre + 1.1 * (high - low)
    axes.plot([0, 0], [0, 0], [centre, top], color=_MARK, linewidth=1.4, zorder=10)
    axes.plot([0], [0], [centre], "o", color=_MARK, markersize=6, zorder=11)
    said = f"final loss {significant(centre)}"
    axes.text(
        0, 0, top, said, color="white", fontsize=10, fontweight="bold", ha="center", zorder=12,
        bbox=_LABEL,
    )  # fmt: skip
    axes.view_init(elev=38, azim=-58)
    axes.set_box_aspect(None, zoom=0.9)
    axes.tick_params(colors=_SOFT, labelsize=8)
