"""What each part of the network did: a heat map for each number, layers down, steps across.

The pictures are small PNGs inside the page, one pixel a value, so they are there in print and
without JavaScript; with it the value under the pointer is told. In words each has its range.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fromscratch.report import series
from fromscratch.report.markup import Html, json_block, tag
from fromscratch.report.numerals import count, significant
from fromscratch.report.record import FloatArray, Table

# As many columns as can be told apart on a phone.
_COLUMNS = 160
_LABELS = 14
_MISSING = 255
# A range this wide is unreadable on linear colours.
_WIDE = 20.0

_METRICS = {
    "update_ratio": ("Update to weight ratio", "norm of the update over norm of the weights"),
    "grad_norm": ("Gradient norm", "before clipping"),
    "param_norm": ("Weight norm", "before the update"),
    "update_norm": ("Update norm", ""),
    "activation_std": ("Activation spread", "standard deviation of the block's output"),
    "attention_entropy": ("Attention entropy", "nats, mean over heads"),
    "attention_entropy_min": ("Lowest attention entropy", "nats, of the most focused head"),
    "dead_units": ("Dead units", "share of the MLP never switched on"),
}


@dataclass(frozen=True)
class HeatMap:
    """Values by part and step.

    Attributes:
        parts: Names of the rows.
        steps: Of the columns.
        values: Shape (parts, steps), NaN where nothing was recorded.
    """

    parts: tuple[str, ...]
    steps: FloatArray
    values: npt.NDArray[np.float64]


def health(parts: Mapping[str, Table]) -> Html:
    """The section; empty if health was not measured."""
    steps = _steps(parts)
    if not len(steps):
        return Html()
    known = dict.fromkeys(key for table in parts.values() for key in table.columns)
    maps = [
        _figure(metric, heat)
        for metric in (*_METRICS, *(k for k in known if k not in _METRICS))[:16]
        if (heat := heat_map(parts, metric, steps)) is not None
    ]
    if not maps:
        return Html()
    note = (
        "Each row is a part of the network, from the embedding (top) to the head; each column a "
        "step at which health was measured. Grey: not recorded."
    )
    return tag(
        "section",
        tag("h2", "Health"),
        tag("p", note, class_="note"),
        tag("div", *maps, class_="charts"),
        id="health",
    )


def heat_map(parts: Mapping[str, Table], metric: str, steps: FloatArray) -> HeatMap | None:
    """The values of one number at the given steps; None if no part has it."""
    rows = {}
    for name, table in parts.items():
        if metric in table.columns:
            values = np.full(len(steps), np.nan)
            at = np.searchsorted(steps, table.step)
            inside = (at < len(steps)) & (steps[np.minimum(at, len(steps) - 1)] == table.step)
            column = np.where(series.drawable(table.columns[metric]), table.columns[metric], np.nan)
            values[at[inside]] = column[inside]
            if np.isfinite(values).any():
                rows[name] = values
    return HeatMap(tuple(rows), steps, np.array([*rows.values()])) if rows else None


def _steps(parts: Mapping[str, Table]) -> FloatArray:
    """Steps at which anything was measured, evenly thinned; first and last are kept."""
    every = [table.step for table in parts.values() if len(table)]
    if not every:
        return np.empty(0)
    steps = np.unique(np.concatenate(every))
    if len(steps) <= _COLUMNS:
        return steps
    return steps[np.unique(np.linspace(0, len(steps) - 1, _COLUMNS).astype(np.intp))]


def _figure(metric: str, heat: HeatMap) -> Html:
    title, about = _METRICS.get(metric, (metric.replace("_", " ").capitalize(), ""))
    finite = heat.values[np.isfinite(heat.values)]
    low, high = float(finite.min()), float(finite.max())
    first, last = count(heat.steps[0]), count(heat.steps[-1])
    where = np.unravel_index(int(np.nanargmax(heat.values)), heat.values.shape)
    words = (
        f"{title} of {len(heat.parts)} parts of the network from step {first} to {last}: between "
        f"{significant(low)} and {significant(high)}, highest in {heat.parts[where[0]]} at step "
        f"{count(heat.steps[where[1]])}."
    )
    image = tag("img", src=_png(heat.values, low, high), alt=words)
    n = len(heat.parts)
    stride = -(-n // _LABELS)
    labels = [
        tag("span", name, style=f"top:{100 * (i + 0.5) / n:.2f}%")
        for i, name in enumerate(heat.parts)
        if i % stride == 0
    ]
    data = {
        "parts": heat.parts,
        "steps": [int(step) for step in heat.steps],
        "values": [
            [float(f"{v:.4g}") if np.isfinite(v) else None for v in row] for row in heat.values
        ],
    }
    return tag(
        "figure",
        tag("figcaption", tag("h3", title, " ", tag("small", about))),
        tag(
            "div",
            tag("div", *labels, class_="parts", aria_hidden="true"),
            image,
            tag("div", tag("span", first), tag("span", f"step {last}"), class_="ends"),
            tag(
                "p",
                significant(low, 3),
                tag("i", class_="ramp"),
                significant(high, 3),
                " ",
                tag("output"),
                class_="note",
            ),
            json_block(data),
            class_="heat",
        ),
        id=f"health-{metric}" if metric in _METRICS else None,
        class_="chart",
    )


def _png(values: npt.NDArray[np.float64], low: float, high: float) -> str:
    """The values as viridis colours, in a `data:` address."""
    # matplotlib takes longer to import than a page without health takes to make.
    from matplotlib import colormaps
    from PIL import Image

    with np.errstate(invalid="ignore", divide="ignore"):
        if low > 0 and high > _WIDE * low:
            share = (np.log(values) - np.log(low)) / (np.log(high) - np.log(low))
        else:
            share = (values - low) / ((high - low) or 1.0)
    index = np.where(np.isfinite(share), np.round(np.nan_to_num(share) * 254), _MISSING)
    image = Image.fromarray(index.astype(np.uint8), mode="P")
    colours = (colormaps["viridis"](np.linspace(0, 1, 255))[:, :3] * 255).round().astype(np.uint8)
    image.putpalette([*colours.reshape(-1).tolist(), 128, 128, 128])
    packed = io.BytesIO()
    image.save(packed, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(packed.getvalue()).decode("ascii")
