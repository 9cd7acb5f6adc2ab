"""Several runs: equal tokens, equal hours, and when nobody may be called better (R44)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fromscratch.report.build import build_report
from fromscratch.report.compare import common, verdicts
from fromscratch.report.compare_sections import words
from fromscratch.report.read import read_run
from fromscratch.report.settings import defaults, differences, flat
from fromscratch.report.shown import Shown, shown
from fromscratch.runs.recipe_files import load_recipe

RunMaker = Callable[..., Path]
DATA = {
    "fingerprint": "f", "tokenizer": "bpe", "val_tokens": 1000, "val_bytes": 4000,
    "sources": ["a"],
}  # fmt: skip


@pytest.fixture
def run_of(make_run: RunMaker) -> Callable[..., Path]:
    """A run validated every 10 steps; its loss falls from `start` by 0.01 a step."""

    def make(
        name: str,
        start: float,
        *,
        steps: int = 100,
        per_step: int = 10,
        seconds: float = 36.0,
        tokens: int = 1000,
        data: dict[str, object] | None = None,
    ) -> Path:
        rows: list[dict[str, object]] = []
        for s in range(steps + 1):
            at = {"step": s, "tokens": s * per_step, "seconds": s * seconds}
            rows.append(at | {"loss": 3.0})
            if s % 10 == 0:
                loss = start - 0.01 * s
                rows.append(at | {"val_loss": loss, "val_bpb": loss / 2, "val_tokens": tokens})
        events = [{"event": "started", "step": 0, "data": DATA | (data or {})}]
        return make_run(name=name, metrics=rows, events=events)

    return make


def opened(*runs: Path) -> tuple[Shown, ...]:
    return shown([(run, read_run(run)) for run in runs])


def test_equal_tokens_and_equal_hours_can_give_different_winners(run_of) -> None:
    # `slow` is better step for step and takes four times as long for one.
    runs = opened(run_of("fast", 4.0, steps=200), run_of("slow", 3.8, seconds=144.0))
    assert common(runs).measure == "val_loss"
    by_tokens, by_hours = verdicts(runs)
    assert by_tokens.at == 1000
    assert [name for name, _ in by_tokens.values] == ["slow", "fast"]
    assert dict(by_tokens.values) == {"slow": pytest.approx(2.8), "fast": pytest.approx(3.0)}
    assert by_hours.at == pytest.approx(2.0)  # where `fast` ends; `slow` is at step 50
    assert dict(by_hours.values) == {"fast": pytest.approx(2.0), "slow": pytest.approx(3.3)}
    assert words(by_hours).startswith("fast is ahead after 2 h 00 min of training each, 65%")


def test_between_two_validations_it_is_the_straight_line(run_of) -> None:
    runs = opened(run_of("a", 4.0, per_step=10), run_of("b", 4.0, per_step=13, steps=70))
    by_tokens, _ = verdicts(runs)
    assert by_tokens.at == 910
    assert dict(by_tokens.values)["a"] == pytest.approx(4.0 - 0.91)


def test_runs_that_never_overlap_are_not_compared(run_of) -> None:
    late = run_of("late", 4.0)
    rows = [json.loads(line) for line in (late / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row["tokens"] += 10**6
    (late / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    by_tokens, by_hours = verdicts(opened(run_of("early", 4.0), late))
    assert by_tokens.at is None
    assert "no number of tokens" in by_tokens.why
    assert by_hours.at is not None


def test_nearly_equal_runs_are_called_equal(run_of) -> None:
    by_tokens, _ = verdicts(opened(run_of("a", 4.0), run_of("b", 4.003)))
    assert "practically equal" in words(by_tokens)


@pytest.mark.parametrize(
    ("other", "tokens", "measure", "why"),
    [
        ({"fingerprint": "g", "tokenizer": "gpt2", "val_tokens": 800}, 800, "val_bpb", "nats"),
        ({"fingerprint": "g", "tokenizer": "gpt2", "val_tokens": 800}, 400, None, "only a part"),
        ({"fingerprint": "g", "val_bytes": 5000}, 1000, None, "different texts"),
        ({}, 500, None, "different amounts"),
        ({"fingerprint": None, "val_bytes": None}, 1000, None, "Not every run tells"),
    ],
)
def test_what_may_be_compared(run_of, other, tokens, measure, why) -> None:
    runs = opened(run_of("a", 4.0), run_of("b", 4.1, tokens=tokens, data=other))
    found = common(runs)
    assert found.measure == measure
    assert why in found.why
    for verdict in verdicts(runs):
        assert verdict.ranked == (measure is not None)
        assert len(verdict.values) == 2
        assert ("No order" in words(verdict)) == (measure is None)


def test_runs_without_validation_or_rows_are_shown_without_a_verdict(run_of, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    page = build_report(run_of("a", 4.0), tmp_path / "empty")
    assert "No validation was recorded of empty." in page
    assert "Without a recipe: empty." in page


def test_the_table_of_differences_names_each_setting_once(make_run: RunMaker) -> None:
    recipes = [{"optim": {"lr": lr, "betas": [0.9, 0.95]}, "train": {"steps": 10}} for lr in (1, 2)]
    assert differences(recipes) == {"optim.lr": [1, 2]}
    assert differences([{"a": True}, {"a": 1}]) == {"a": [True, 1]}
    assert differences([{"a": {"b": 1}}, {}]) == {"a.b": [1, None]}


def test_a_resolved_recipe_of_defaults_differs_only_where_it_says_so() -> None:
    recipe = load_recipe("try", [])
    usual = defaults()
    settings = flat(recipe.model_dump(mode="json"))
    assert usual["guard.patience"] == settings["guard.patience"]
    assert usual["optim.clip"] == 1.0
    assert set(usual) <= set(settings) | {n for n in usual if usual[n] in ({}, None)}


def test_the_page_of_two_runs_has_their_difference_and_samples(make_run: RunMaker) -> None:
    one = make_run(100, name="one")
    two = make_run(60, name="two", recipe=(one / "recipe.toml").read_text().replace("0.003", "0.1"))
    page = build_report(one, two)
    assert "<code>optim.lr</code></th><td>0.003</td><td>0.1</td>" in page
    assert "What they wrote at last" in page
    assert page.count('id="verdict"') == 1
