"""Numbers in docs/reproductions.md and docs/comparison.md are those of the code and the logs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from typed_commands import ROOT

from fromscratch.runs.planning import make_plan
from fromscratch.runs.recipe_files import load_recipe

sys.path.insert(0, str(ROOT / "dev" / "site"))

import reproductions

PAGE = reproductions.PAGE.read_text(encoding="utf-8")
SYSTEMS = (*reproductions.RECIPES, "transformer-room-3m")


def section(name: str) -> str:
    """What stands under the heading of one system."""
    return re.search(rf"^## {name}\n(.*?)(?=^## )", PAGE, re.DOTALL | re.MULTILINE)[1]


def test_the_hours_are_those_that_plan_tells():
    assert reproductions.with_table(PAGE) == PAGE, "python dev/site/reproductions.py mends it"


@pytest.mark.parametrize("name", SYSTEMS)
def test_ours_are_the_numbers_of_the_recipe(name: str):
    plan = make_plan(load_recipe(name))
    ours = " ".join(row.split(" | ")[-1] for row in section(name).split("\n"))
    assert f"{plan.parameters.total:,}" in ours
    if name in ("minigpt-124m", "rtx3090-163m"):
        assert f"{plan.total_tokens:,}" in ours
    if name == "rangeflow-124m":
        assert f"{plan.tokens_per_step:,}" in ours
    said = re.search(r"`plan` says ([\d.]+) GB", ours)
    if said:
        assert said[1] == f"{plan.memory.total / 1e9:.1f}"


def test_what_is_said_of_the_published_log(shared_data: Path):
    rows = json.loads((shared_data / "logs/rangeflow/expected_metrics.json").read_text("utf-8"))
    text = section("rangeflow-124m")
    lowest = min(rows, key=lambda row: row["loss"])
    speeds = sorted(row["tokens_per_s"] for row in rows)
    last = [row["loss"] for row in rows[-50:]]
    for said in (
        f"all {len(rows):,} rows",
        f"step {rows[0]['step']} | {rows[0]['loss']}",
        f"step {rows[-1]['step']:,} | {rows[-1]['loss']}",
        f"{lowest['loss']}, step {lowest['step']:,}",
        f"median {speeds[len(speeds) // 2]:,}",
        f"last fifty, {sum(last) / 50:.2f}",
    ):
        assert said in text


def test_measured_numbers_are_those_of_the_results():
    results = (ROOT / "benchmarks/RESULTS.md").read_text("utf-8").replace(",", "")
    page = (ROOT / "docs/comparison.md").read_text("utf-8").split("## Measured side by side")[1]
    rows = [row for row in page.split("\n") if row.startswith("| ") and "---" not in row][1:]
    assert len(rows) >= 6
    for row in rows:
        for number in re.findall(r"\d[\d,.]*\d", row.split("|", 2)[2].replace("124M", "")):
            exact = number.replace(",", "")
            found = [float(x) for x in re.findall(r"\d+\.?\d*", results)]
            digits = len(exact.partition(".")[2])
            assert any(f"{x:.{digits}f}" == exact for x in found), (row, number)


def test_every_benchmark_is_told_of():
    text = (ROOT / "docs/why.md").read_text(encoding="utf-8")
    scripts = {path.name for path in (ROOT / "benchmarks").glob("*.py")}
    assert scripts <= set(re.findall(r"`(\w+\.py)`", text))
