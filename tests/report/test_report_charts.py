"""What is on the charts of learning rates and gradients, for runs with groups and phases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fromscratch.report.charts import gradient_chart, rate_chart
from fromscratch.report.facts import gather
from fromscratch.report.read import read_run

RunMaker = Callable[..., Path]


def rows(rates: dict[str, float]) -> list[dict[str, object]]:
    """Rows as training writes them; `rates` are those of the groups at the peak."""
    return [
        {
            "step": n, "loss": 3.0, "lr": 0.01 / n, "grad_norm": 0.4,
            "lrs": {name: rate / n for name, rate in rates.items()},
        }
        for n in (1, 2, 4)
    ]  # fmt: skip


def test_a_group_has_a_line_where_its_rate_is_its_own(make_run: RunMaker) -> None:
    rates = {"embed": 0.3, "head": 0.01, "plain": 0.01, "muon": 0.03}
    chart = rate_chart(read_run(make_run(metrics=rows(rates))))
    assert {line.name: line.y.tolist() for line in chart.lines} == {
        "learning rate": [0.01, 0.005, 0.0025],
        "embed_lr": [0.3, 0.15, 0.075],
        "muon_lr": [0.03, 0.015, 0.0075],
    }


def test_one_rate_for_all_is_one_line(make_run: RunMaker) -> None:
    chart = rate_chart(read_run(make_run(metrics=rows({"hidden": 0.01, "embed": 0.01}))))
    assert [line.name for line in chart.lines] == ["learning rate"]


def test_each_clip_of_a_run_in_phases_is_on_the_chart(make_run: RunMaker) -> None:
    recipe = """
[optim]
clip = 1.0
[train]
phase = [{from_step = 1200, clip = 0.5}, {from_step = 1500}, {from_step = 1700, clip = "x"}, 3]
"""
    record = read_run(make_run(recipe=recipe))
    chart = gradient_chart(record, gather(record))
    assert chart.levels == (("clip", 1.0), ("clip from step 1,200", 0.5))
    record = read_run(make_run(name="other", recipe="train = 3\n"))
    assert gradient_chart(record, gather(record)).levels == ()
