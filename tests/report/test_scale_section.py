"""Predicted against achieved, on the page of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from fromscratch.plan.scaling_law import FittedRun, Prediction, ScalingLaw
from fromscratch.report.build import build_report
from fromscratch.runs.scale_prediction import RunPrediction, read_prediction

RunMaker = Callable[..., Path]
LAW = ScalingLaw(e=1.8172, a=482.01, b=2085.43, alpha=0.3478, beta=0.3658)
EVENTS = [
    {"time": "2026-02-03T10:00:00+00:00", "event": "started", "step": 0},
    {"time": "2026-02-03T10:06:31+00:00", "event": "finished", "step": 60},
]


def expect(run: Path, low: float, loss: float, high: float, **changed: object) -> None:
    """Writes what was predicted of a run."""
    runs = tuple(
        FittedRun(n, d, LAW.loss(n, d), 6.0 * n * d, f"trial-{n}-{d}")
        for n in (10**6, 2 * 10**6, 4 * 10**6)
        for d in (10**7, 4 * 10**7, 8 * 10**7)
    )
    made = RunPrediction(
        ladder="scale/<mine>",
        parameters=8 * 10**6,
        tokens=16 * 10**7,
        flops=6.0 * 8e6 * 16e7,
        expected=Prediction(loss, low, high),
        bits_per_nat=0.655,
        law=LAW,
        runs=runs,
        differences=("optim.lr is 0.01, and the ladder's rules say 0.005",),
    )
    (run / "prediction.json").write_text(json.dumps(asdict(made) | changed))


def ended(run: Path) -> float:
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [row["val_loss"] for row in rows if "val_loss" in row][-1]


@pytest.mark.parametrize(
    ("factor", "words"),
    [(1.02, "2.0% lower than predicted, within"), (1.25, "20% lower than predicted, outside")],
)
def test_the_page_says_where_the_run_ended(make_run: RunMaker, factor: float, words: str):
    run = make_run(60, events=EVENTS)
    loss = factor * ended(run)
    expect(run, 0.95 * loss, loss, 1.05 * loss)
    page = build_report(run)
    assert "<h2>Predicted and achieved</h2>" in page
    assert words in page
    assert f"<td>{0.655 * loss:.3f}</td>" in page
    assert "data:image/png;base64," in page
    assert "scale/&lt;mine&gt;" in page
    assert "optim.lr is 0.01" in page
    assert "4.00 times the arithmetic of the largest" in page


def test_a_run_under_way_is_not_compared(make_run: RunMaker):
    run = make_run(60, events=EVENTS[:1])
    expect(run, 2.0, 2.5, 3.0)
    page = build_report(run)
    assert "has not come to its end yet" in page
    assert "<td>not yet</td>" in page


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"law": 3}', '{"expected": {"loss": "x"}}'])
def test_a_damaged_prediction_is_no_prediction(make_run: RunMaker, content: str):
    run = make_run(60)
    (run / "prediction.json").write_text(content)
    assert read_prediction(run / "prediction.json") is None
    assert "Predicted and achieved" not in build_report(run)
