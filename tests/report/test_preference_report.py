"""A run on preferences: its curves, its headline, what is said of it; other runs have none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fromscratch.report.build import page
from fromscratch.report.charts import all_charts
from fromscratch.report.diagnosis.diagnose import diagnose
from fromscratch.report.facts import gather
from fromscratch.report.read import read_run
from fromscratch.report.shown import shown

RunMaker = Callable[..., Path]
KEYS = {"accuracy", "margin", "rewards"}
RECIPE = """
name = "dpo"
[train]
objective = "dpo"
steps = 60
[preference]
beta = 0.1
"""


def rows(
    *, accuracy: float = 0.9, chosen: float = 0.4, margin: float = 1.5
) -> list[dict[str, Any]]:
    """Rows as training writes them; the numbers are those of the end."""
    found: list[dict[str, Any]] = []
    for step in range(61):
        share = step / 60
        measures = {
            "accuracy": 0.5 + (accuracy - 0.5) * share,
            "margin": margin * share,
            "reward_chosen": chosen * share,
            "reward_rejected": (chosen - margin) * share,
        }
        common = {"step": step, "tokens": 500 * step, "seconds": float(step)}
        if step:
            row = {"loss": 0.69 - 0.3 * share, "lr": 5e-6, "grad_norm": 0.5, "tokens_per_s": 900.0}
            found.append(common | row | measures)
        if step % 20 == 0:
            row = {"set": "validation", "val_loss": 0.69 - 0.3 * share, "val_ppl": 9.0}
            held_out = {f"val_{name}": value for name, value in measures.items()}
            found.append(common | row | held_out | {"val_bpb": 1.25, "val_tokens": 2000})
    return found


def findings(run: Path) -> dict[str, str]:
    record = read_run(run)
    return {finding.rule: finding.text for finding in diagnose(record, gather(record))}


def test_its_curves_are_drawn(make_run: RunMaker) -> None:
    run = make_run(metrics=rows(), recipe=RECIPE)
    charts = {chart.key: chart for chart in all_charts(shown([(run, read_run(run))]))}
    names = {key: [line.name for line in charts[key].lines] for key in KEYS}
    assert names["accuracy"] == names["margin"] == ["training", "held-out"]
    assert names["rewards"] == ["chosen", "held-out: chosen", "rejected", "held-out: rejected"]
    training, held_out = charts["margin"].lines
    assert training.y.tolist() == pytest.approx([1.5 * step / 60 for step in range(1, 61)])
    assert held_out.y.tolist() == pytest.approx([0.0, 0.5, 1.0, 1.5])
    assert charts["loss"].unit == "nats per pair"


def test_its_headline_is_the_accuracy(make_run: RunMaker) -> None:
    run = make_run(metrics=rows(), recipe=RECIPE)
    text = page([(run, read_run(run))])
    assert text.index("preference accuracy") < text.index("bits per byte")
    assert "90%" in text
    assert "of the chosen answers, held-out" in text
    assert "Of the held-out pairs 90% are told apart at step 60, 50% at step 0" in text


def test_answers_that_are_forgotten_are_told_of(make_run: RunMaker) -> None:
    """A reward of -0.4 at a beta of 0.1 is four nats less likely."""
    assert "chosen_forgotten" not in findings(make_run(metrics=rows(), recipe=RECIPE))
    said = findings(make_run(name="b", metrics=rows(chosen=-0.4), recipe=RECIPE))
    assert "by 4.000 nats each at step 60" in said["chosen_forgotten"]
    other = RECIPE.replace('"dpo"', '"orpo"')  # whose rewards are no change of anything
    assert "chosen_forgotten" not in findings(
        make_run(name="c", metrics=rows(chosen=-0.4), recipe=other)
    )


def test_a_coin_does_as_well(make_run: RunMaker) -> None:
    said = findings(make_run(metrics=rows(accuracy=0.45, margin=-0.1), recipe=RECIPE))
    assert "no better than a coin" in said["not_told_apart"]


def test_other_runs_have_nothing_of_it(make_run: RunMaker) -> None:
    run = make_run()
    for chart in all_charts(shown([(run, read_run(run))])):
        assert not chart.lines or chart.key not in KEYS
    assert "preference" not in page([(run, read_run(run))]).lower()
