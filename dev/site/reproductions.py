"""The table of docs/reproductions.md: what each of the five systems costs to train in full.

Made by `plan`. The page carries it, so that it can be read where no site is built;
`python dev/site/reproductions.py` writes it anew, and a test holds the page against it.
"""

from __future__ import annotations

from pathlib import Path

from fromscratch.plan.compute import ASSUMED_MFU, DeviceTime, times
from fromscratch.runs.planning import make_plan
from fromscratch.runs.recipe_files import load_recipe

PAGE = Path(__file__).parents[2] / "docs" / "reproductions.md"
RECIPES = ("minigpt-124m", "rangeflow-124m", "rtx3090-163m", "fgpt-662m")
"""Whose length the recipe says; `transformer-room-3m` trains here, and was trained."""

_CARDS = {"t4": "T4", "rtx3090": "RTX 3090", "rtx4090": "RTX 4090", "h100": "H100"}
_BEGIN, _END = "<!-- made by dev/site/reproductions.py -->\n", "<!-- end -->\n"


def table() -> str:
    """The rows, in Markdown: GPU-hours at the share of the peak that `plan` assumes."""
    lines = [
        f"| recipe | parameters | tokens | FLOPs | {' | '.join(_CARDS.values())} |",
        f"|---|---|---|---|{'---|' * len(_CARDS)}",
    ]
    for name in RECIPES:
        recipe = load_recipe(name)
        plan = make_plan(recipe)
        assert plan.total_flops is not None
        cells = [f"`{name}`", f"{plan.parameters.total:,}", f"{plan.total_tokens:,}"]
        cells.append(f"{plan.total_flops:.3g}")
        by_card = {t.key: t for t in times(plan.total_flops, recipe.train.precision)}
        cells += [_hours(by_card[key]) for key in _CARDS]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """The page with the table as it is now, between its two marks."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    said = f"\nHours on one card at {ASSUMED_MFU:.0%} of its peak:\n\n"
    return f"{before}{_BEGIN}{said}{table()}\n{_END}{after}"


def _hours(time: DeviceTime) -> str:
    return f"{time.hours:,.1f} h" if time.hours < 10 else f"{time.hours:,.0f} h"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
