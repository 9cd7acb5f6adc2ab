"""A run folder is read as it is: damaged, doubled, half written, missing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fromscratch.evaluate.records import EvalRecord, EvaluatedData, EvaluatedModel, Metric
from fromscratch.foundation.errors import UserError
from fromscratch.report.build import build_report
from fromscratch.report.facts import gather
from fromscratch.report.read import read_run

RunMaker = Callable[..., Path]


def test_a_whole_run_has_no_problems(make_run: RunMaker) -> None:
    record = read_run(make_run(300, every=25))
    assert record.problems == ()
    assert len(record.training) == 300
    assert len(record.validation["validation"]) == 13
    assert len(record.samples) == 26
    assert [y.name for y in record.yardsticks][-1] == "this model, now"
    facts = gather(record)
    assert facts.state == "finished"
    assert facts.parameters == 2_624_448
    assert facts.recipe == "try"
    assert facts.tokens == 300 * 1536
    assert facts.seconds == pytest.approx(120.0)
    assert facts.clip == 1.0


def test_broken_lines_are_counted_with_their_numbers(make_run: RunMaker) -> None:
    lines = [
        b'{"step": 1, "loss": 3.0}',
        b"not json",
        b"",
        b"[1, 2]",
        b'{"step": "two", "loss": 3.0}',
        b'{"step": 3, "loss": "abc"}',
        b'{"step": 4, "hellaswag": 0.3}',
        b"\xff\xfe",
        b'{"step": 5, "loss": 2.0}',
        b'{"step": 6, "lo',
    ]
    record = read_run(make_run(metrics=b"\n".join(lines)))
    found = {(p.what, p.lines) for p in record.problems if p.file == "metrics.jsonl"}
    assert found == {
        ("no JSON", (2, 8)),
        ("not a JSON object", (4,)),
        ("no usable step number", (5,)),
        ("loss is not a number", (6,)),
        ("neither training nor validation, not shown (hellaswag)", (7,)),
        ("half-written last line", (10,)),
    }
    assert record.training.step.tolist() == [1.0, 3.0, 5.0]


def test_many_broken_lines_are_one_problem(make_run: RunMaker) -> None:
    record = read_run(make_run(samples="{\n" * 500))
    (problem,) = [p for p in record.problems if p.file == "samples.jsonl"]
    assert problem.count == 500
    assert problem.lines == tuple(range(1, 9))


def test_the_last_of_two_rows_for_a_step_wins(make_run: RunMaker) -> None:
    rows = [{"step": s, "loss": 1.0, "lr": 0.1} for s in (1, 2, 3)]
    rows += [{"step": 2, "loss": 5.0}]
    samples = [{"step": 0, "prompt": "p", "text": t, "seed": 1} for t in ("old", "new")]
    record = read_run(make_run(metrics=rows, samples=samples))
    assert record.training.step.tolist() == [1, 2, 3]
    assert record.training.column("loss").tolist() == [1.0, 5.0, 1.0]
    # The later row replaces the earlier one whole; nothing is mixed from the two.
    assert math.isnan(record.training.column("lr")[1])
    assert [s.text for s in record.samples] == ["new"]
    assert any("repeats a step" in p.what for p in record.problems)


def test_numbers_that_are_not_finite_stay_what_they_are(make_run: RunMaker) -> None:
    values = ["nan", "inf", "-inf", "Infinity", 2.5]
    rows = [{"step": i, "loss": v} for i, v in enumerate(values)]
    record = read_run(make_run(metrics=rows))
    np.testing.assert_equal(
        record.training.column("loss"), np.array([np.nan, np.inf, -np.inf, np.inf, 2.5])
    )
    assert record.problems == ()


def test_a_clock_that_runs_backwards_is_told_and_the_largest_time_shown(
    make_run: RunMaker,
) -> None:
    rows = [{"step": i, "loss": 2.0, "seconds": s} for i, s in enumerate([1, 9, 4, 5])]
    record = read_run(make_run(metrics=rows))
    assert [p.what for p in record.problems] == ["the clock runs backwards after step 1"]
    assert gather(record).seconds == 9


def test_missing_files_are_listed(tmp_path: Path) -> None:
    record = read_run(tmp_path)
    assert [(p.file, p.what) for p in record.problems] == [
        (name, "is not there")
        for name in ("recipe.toml", "metrics.jsonl", "samples.jsonl", "events.jsonl")
    ]


def test_folders_in_the_place_of_files_are_listed(tmp_path: Path) -> None:
    for name in ("recipe.toml", "metrics.jsonl"):
        (tmp_path / name).mkdir()
    record = read_run(tmp_path)
    assert sum("could not be opened" in p.what for p in record.problems) == 2


def test_a_recipe_that_is_no_toml_is_listed_and_kept_as_text(make_run: RunMaker) -> None:
    record = read_run(make_run(recipe="lr = = 3"))
    assert record.recipe_text == "lr = = 3"
    assert any(p.file == "recipe.toml" and "TOML" in p.what for p in record.problems)


@pytest.mark.parametrize("state", ["started", "stopped", "finished"])
def test_state_is_what_the_last_session_said(make_run: RunMaker, state: str) -> None:
    rows = [{"event": e, "step": 1, "time": ""} for e in ("started", "stopped", "resumed")]
    rows.append({"event": state, "step": 7, "time": ""})
    facts = gather(read_run(make_run(events=rows, metrics=None)))
    assert facts.state == {"started": "running"}.get(state, state)
    assert facts.step == 7


def test_no_folder_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a folder"):
        read_run(tmp_path / "nowhere")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["nan", "inf", "started", "yardsticks", "resumed"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "bpb", "total", "steps", "a"]) | st.text(), inner, max_size=3
        )
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(
    (
        "step",
        "loss",
        "lr",
        "grad_norm",
        "clipped",
        "tokens",
        "tokens_per_s",
        "seconds",
        "set",
        "val_loss",
        "val_ppl",
        "val_bpb",
        "prompt",
        "text",
        "seed",
        "event",
        "time",
        "message",
        "rows",
        "parameters",
        "device",
        "data",
        "resolved",
        "parts",
        "drawn",
        "wanted",
        "epochs",
        "lrs",
        "hellaswag_acc_norm",
        "model",
        "metrics",
        "kind",
    )
)
ROWS = st.lists(st.dictionaries(KEYS, JSON | st.integers(0, 9), max_size=8), max_size=8)
CONTENT = ROWS | st.binary(max_size=60)


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(files=st.lists(CONTENT, min_size=5, max_size=5), recipe=st.binary(max_size=40))
def test_nothing_in_the_files_stops_a_report(
    tmp_path: Path, files: list[list[dict[str, object]] | bytes], recipe: bytes
) -> None:
    names = ("metrics", "samples", "events", "health", "evals")
    for name, content in zip(names, files, strict=True):
        if isinstance(content, list):
            content = "\n".join(json.dumps(row) for row in content).encode()
        (tmp_path / f"{name}.jsonl").write_bytes(content)
    (tmp_path / "recipe.toml").write_bytes(recipe)
    assert build_report(tmp_path).encode("utf-8").endswith(b"</html>\n")


HURTS = st.lists(
    st.tuples(
        st.sampled_from(["cut", "flip", "swap", "repeat", "garbage"]),
        st.floats(0, 1),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=4,
)


def hurt(text: bytes, how: str, where: float, junk: bytes) -> bytes:
    """A file as crashes, full disks and careless hands leave it."""
    at = int(where * len(text))
    if how == "cut":
        return text[:at]
    if how == "flip":
        return text[:at] + junk + text[at + len(junk) :]
    if how == "garbage":
        return text[:at] + b"\n" + junk * 20 + b"\n" + text[at:]
    lines = text.splitlines(keepends=True)
    i = int(where * (len(lines) - 1)) if lines else 0
    if how == "repeat":
        return b"".join(lines[: i + 1] + lines[i : i + 1] + lines[i + 1 :])
    return b"".join(lines[i:] + lines[:i])


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(file=st.sampled_from(["metrics", "events", "samples", "health", "evals"]), hurts=HURTS)
def test_a_damaged_run_is_reported_with_what_is_left(
    tmp_path_factory: pytest.TempPathFactory, file: str, hurts: list[tuple[str, float, bytes]]
) -> None:
    run = tmp_path_factory.getbasetemp() / "damaged"
    run.mkdir(exist_ok=True)
    rows = {
        "metrics": [
            {"step": s, "loss": 3.0, "lr": 1e-3, "seconds": s, "tokens": s, "drawn": {"a": s}}
            for s in range(40)
        ],
        "events": [{"event": "started", "step": 0, "time": "", "data": {"fingerprint": "f"}}],
        "samples": [{"step": s, "prompt": "p", "text": "t"} for s in range(4)],
        "health": [{"step": s, "parts": {"head": {"grad_norm": 1.0}}} for s in range(1, 5)],
        "evals": [
            EvalRecord(
                "loss",
                EvaluatedModel("m", "s"),
                EvaluatedData("d", "s"),
                {"loss": Metric(3.0, 0.1, 5, {"other": 2.0})},
            ).row()
        ],
    }
    for name, content in rows.items():
        text = "".join(json.dumps(row) + "\n" for row in content).encode()
        if name == file:
            for how, where, junk in hurts:
                text = hurt(text, how, where, junk)
        (run / f"{name}.jsonl").write_bytes(text)
    page = build_report(run, run)
    assert page.encode("utf-8").endswith(b"</html>\n")
    assert build_report(run).encode("utf-8").endswith(b"</html>\n")
