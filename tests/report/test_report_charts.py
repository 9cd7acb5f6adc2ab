"""What is on the charts: learning rates, gradients, mixtures, memory, several runs, odd clocks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fromscratch.report.charts import (
    all_charts,
    clip_chart,
    gradient_chart,
    hellaswag_chart,
    loss_chart,
    memory_chart,
    rate_chart,
    scheduled_charts,
)
from fromscratch.report.embed import chart_data
from fromscratch.report.mixture import epochs_chart, mixture_chart, stages
from fromscratch.report.read import read_run
from fromscratch.report.shown import Shown, shown

RunMaker = Callable[..., Path]


def opened(*runs: Path) -> tuple[Shown, ...]:
    return shown([(run, read_run(run)) for run in runs])


def rows(rates: dict[str, float]) -> list[dict[str, object]]:
    """Rows as training writes them; `rates` are those of the groups at the peak."""
    return [
        {
            "step": n, "loss": 3.0, "lr": 0.01 / n, "grad_norm": 0.4,
            "lrs": {name: rate / n for name, rate in rates.items()},
            "weight_decay": {"adamw": 0.1, "muon": 0.1 / n}, "momentum": 0.95,
        }
        for n in (1, 2, 4)
    ]  # fmt: skip


def test_groups_with_the_same_rate_share_a_line_that_names_them(make_run: RunMaker) -> None:
    rates = {"embed": 0.3, "head": 0.01, "plain": 0.01, "muon": 0.03}
    chart = rate_chart(opened(make_run(metrics=rows(rates))))
    assert {line.name: line.y.tolist() for line in chart.lines} == {
        "embed": [0.3, 0.15, 0.075],
        "head, plain": [0.01, 0.005, 0.0025],
        "muon": [0.03, 0.015, 0.0075],
    }


def test_one_rate_for_all_is_one_line(make_run: RunMaker) -> None:
    chart = rate_chart(opened(make_run(metrics=rows({"hidden": 0.01, "embed": 0.01}))))
    assert [line.name for line in chart.lines] == ["learning rate"]


def test_only_what_is_scheduled_has_a_chart(make_run: RunMaker) -> None:
    decay, momentum = scheduled_charts(opened(make_run(metrics=rows({"muon": 1.0}))))
    assert [line.name for line in decay.lines] == ["muon"]
    assert momentum.lines == ()


def test_each_clip_of_a_run_in_phases_is_on_the_chart(make_run: RunMaker) -> None:
    recipe = """
[optim]
clip = 1.0
[train]
phase = [{from_step = 1200, clip = 0.5}, {from_step = 1500}, {from_step = 1700, clip = "x"}, 3]
"""
    chart = gradient_chart(opened(make_run(recipe=recipe)))
    assert chart.levels == (("clip", 1.0), ("clip from step 1,200", 0.5))
    assert gradient_chart(opened(make_run(name="other", recipe="train = 3\n"))).levels == ()


def test_the_clipped_share_is_that_of_each_stretch(make_run: RunMaker) -> None:
    logged = [{"step": s, "loss": 1.0, "clipped": s > 150} for s in range(1, 201)]
    (line,) = clip_chart(opened(make_run(metrics=logged))).lines
    assert len(line.y) == 100
    assert line.y.tolist() == [0.0] * 75 + [1.0] * 25


def test_memory_is_in_gigabytes_by_any_name(make_run: RunMaker) -> None:
    for i, row in enumerate(({"memory_gb": 14.1}, {"memory_bytes": 14.1e9}, {"memory": 14.1e9})):
        metrics = [{"step": s, "loss": 1.0} | row for s in (1, 2)]
        (line,) = memory_chart(opened(make_run(name=f"r{i}", metrics=metrics))).lines
        assert line.y.tolist() == pytest.approx([14.1, 14.1])


def test_hellaswag_while_training_has_its_references(make_run: RunMaker) -> None:
    metrics = [{"step": s, "loss": 1.0} for s in range(20)]
    metrics += [
        {
            "step": s,
            "hellaswag_acc": 0.26,
            "hellaswag_acc_norm": 0.27 + s / 1000,
            "hellaswag_n": 400,
        }
        for s in (0, 10)
    ]
    chart = hellaswag_chart(opened(make_run(metrics=metrics)))
    assert chart.lines[0].y.tolist() == [0.27, 0.28]
    assert ("GPT-2 124M", 0.2955) in chart.levels
    assert "Of 400 items; one standard error is about 0.025" in chart.note


MIXED = """
[data]
path = "x"
[[data.stage]]
from_tokens = 1000
weights = {a = 0.0, b = 1.0}
"""


def mixture_rows() -> list[dict[str, object]]:
    """Only `a` until 1,000 tokens, then only `b`."""
    return [
        {
            "step": s, "tokens": 10 * s, "loss": 1.0,
            "drawn": {"a": min(s, 100), "b": max(0, s - 100)},
            "wanted": {"a": min(s, 100) * 1.0, "b": max(0, s - 100) * 1.0},
            "epochs": {"a": min(s, 100) / 50, "b": max(0, s - 100) / 400},
        }
        for s in range(1, 201)
    ]  # fmt: skip


def test_the_mix_is_that_of_each_stretch_and_stage(make_run: RunMaker) -> None:
    (run,) = opened(make_run(metrics=mixture_rows(), recipe=MIXED))
    lines = {line.name: line.y for line in mixture_chart([run]).lines}
    assert lines["a"][0] == lines["a, wanted"][0] == 1.0
    assert lines["b"][-1] == 1.0
    np.testing.assert_allclose(lines["a"] + lines["b"], 1.0)
    table = str(stages(run))
    assert table.count("<td>100.0%<small> (100.0%)</small></td>") == 2
    assert "<td>2.00</td><td>0.25</td>" in table


def test_how_often_each_source_was_gone_through_is_shown(make_run: RunMaker) -> None:
    """R03: along the run; also of a run of one text, which has no mix."""
    (run,) = opened(make_run(metrics=mixture_rows(), recipe=MIXED))
    lines = {line.name: line.y for line in epochs_chart([run]).lines}
    assert [lines["a"][99], lines["a"][-1], lines["b"][99], lines["b"][-1]] == [2, 2, 0, 0.25]
    single = [{"step": s, "loss": 1.0, "epochs": {"a": s / 50}} for s in range(1, 101)]
    (run,) = opened(make_run(name="single", metrics=single))
    (line,) = epochs_chart([run]).lines
    assert (line.name, line.y[-1]) == ("a", 2.0)


def test_of_several_runs_each_has_a_colour(make_run: RunMaker) -> None:
    runs = opened(make_run(name="one"), make_run(name="two"))
    assert [run.label for run in runs] == ["one", "two"]
    for chart in all_charts(runs):
        for line in chart.lines:
            assert line.name.startswith(("one: ", "two: "))
            assert line.colour == (0 if line.name.startswith("one") else 1)


def test_of_several_runs_only_the_main_validation_is_drawn_at_once(make_run: RunMaker) -> None:
    metrics = [
        {"step": s, "set": name, "val_loss": 3.0} for name in ("validation", "code") for s in (0, 5)
    ]
    one, two = (make_run(name=name, metrics=metrics) for name in ("one", "two"))
    chart = loss_chart(opened(one, two))
    assert (
        [line.name for line in chart.lines if not line.aside]
        == [line.name for line in chart.drawn]
        == ["one: held-out", "two: held-out"]
    )
    assert len(chart.lines) == 4
    assert len(loss_chart(opened(one)).drawn) == 2


def test_folders_of_the_same_name_are_told_apart(make_run: RunMaker, tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place / "run").mkdir(parents=True)
    runs = opened(tmp_path / "a" / "run", tmp_path / "b" / "run")
    assert [run.label for run in runs] == ["a/run", "b/run"]
    again = opened(tmp_path / "a" / "run", tmp_path / "a" / "run")
    assert len({run.label for run in again}) == 2


def test_a_clock_that_was_set_back_goes_on_from_where_it_was(make_run: RunMaker) -> None:
    seconds = [3600, 7200, 100, 3700]
    metrics = [{"step": s, "loss": 1.0, "seconds": t} for s, t in enumerate(seconds)]
    metrics.append({"step": 3, "val_loss": 1.0, "seconds": 3700})
    (run,) = opened(make_run(metrics=metrics))
    assert run.clock.training.hours is not None
    assert run.clock.training.hours.tolist() == [1.0, 2.0, 2.0, 3.0]
    hours = run.clock.course(run.record.validation["validation"]).hours
    assert hours is not None
    assert hours.tolist() == [3.0]


def test_the_embedded_numbers_are_the_recorded_ones(make_run: RunMaker) -> None:
    runs = opened(make_run(300))
    data = chart_data(all_charts(runs), runs)
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["thinned"] == ""
    (loss,) = (c for c in data["charts"] if c["key"] == "loss")
    values = decoded(data["arrays"][loss["lines"][0]["y"]])
    np.testing.assert_allclose(values, runs[0].record.training.column("loss"), rtol=1e-7)
    steps = decoded(data["arrays"][loss["lines"][0]["step"]])
    np.testing.assert_array_equal(steps, runs[0].record.training.step)


def decoded(item: dict[str, object]) -> np.ndarray:
    """What the page's script makes of an embedded array."""
    import base64

    if "n" in item:
        return item["a"] + item["d"] * np.arange(item["n"])
    if "v" in item:
        return np.array([np.nan if v is None else v for v in item["v"]])
    kind = "f" if "f" in item else "F"
    return np.frombuffer(base64.b64decode(item[kind]), "<f4" if kind == "f" else "<f8")


def test_of_a_run_too_long_for_the_page_no_extreme_is_lost(
    make_run: RunMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fromscratch.report.embed._VALUES", 20_000)
    metrics = [
        {"step": s, "loss": 9.0 if s == 7777 else 3.0 + (s * 7919 % 1000) / 1e4}
        for s in range(30_000)
    ]
    runs = opened(make_run(metrics=metrics))
    data = chart_data(all_charts(runs), runs)
    assert data["thinned"].startswith("try-1: 4,0") or "of 30,000 logged steps" in data["thinned"]
    line = next(c for c in data["charts"] if c["key"] == "loss")["lines"][0]
    steps, values = (decoded(data["arrays"][line[k]]) for k in ("step", "y"))
    assert len(values) <= 6000
    assert steps[int(np.argmax(values))] == 7777
    assert steps[0] == 0
    assert steps[-1] == 29_999
