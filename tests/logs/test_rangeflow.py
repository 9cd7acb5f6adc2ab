"""RangeFlow's logs: the real run, and what its logger and its users can do to a log."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fromscratch.foundation.files import read_json_lines
from fromscratch.foundation.names import (
    IMPORTED_METRICS,
    IMPORTED_PICTURE,
    IMPORTED_SAMPLES,
    RunPaths,
)
from fromscratch.logs.importing import import_logs
from fromscratch.report.build import build_report
from fromscratch.report.read import read_run


def line(step: int, loss: str = "4.5000", *, time: str = "10:00:00", seconds: int = 60) -> str:
    return (
        f"[2026-01-02 {time}] Step {step:6d} | Loss: {loss} | LR: 1.00e-04 | "
        f"Tokens/s: 8,361 | GPU: 14.8GB | Time: {seconds}s\n"
    )


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The imported run of 18,330 steps."""
    out = tmp_path_factory.mktemp("imports") / "rangeflow"
    record = import_logs([shared_data / "logs/rangeflow"], out)
    assert (record.steps, record.logged_again, record.damaged, record.other) == (1832, 3, 0, 0)
    assert record.events["stopped"] == 5
    return out


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(IMPORTED_METRICS, "expected_metrics.json"), (IMPORTED_SAMPLES, "expected_samples.json")],
)
def test_the_real_run_comes_out_as_its_author_published_it(
    real: Path, shared_data: Path, ours: str, theirs: str
):
    published = json.loads((shared_data / "logs/rangeflow" / theirs).read_text("utf-8"))
    assert json.loads((real / ours).read_text("utf-8")) == published


def test_the_real_run_is_a_run_folder(real: Path, shared_data: Path):
    published = json.loads((shared_data / "logs/rangeflow/expected_metrics.json").read_text())
    record = read_run(real)
    assert record.training.step.tolist() == [row["step"] for row in published]
    assert record.training.column("loss").tolist() == [row["loss"] for row in published]
    # Hours: each session's clock begins anew; the sum of what each session shows last.
    ends = [a for a, b in pairwise(published) if b["elapsed_s"] < a["elapsed_s"]]
    hours = sum(row["elapsed_s"] for row in ends) + published[-1]["elapsed_s"]
    assert record.training.column("seconds")[-1] == hours == record.training.column("seconds").max()
    assert len(record.samples) == 666
    assert record.samples[0].prompt + record.samples[0].text == (
        "The future of AI is a community of the fishing people, for a town, where the new place. I "
        "am going to all, and layers of this year, I am what I believe I'd like a few years: one "
        "day I have tried to do myself in"
    )
    assert [p.file for p in record.problems if p.file != "recipe.toml"] == []
    page = build_report(real)
    assert "stopped at step 18,330" in page
    assert "18.3k" in page or "18,330" in page


def test_the_picture_has_four_panels_with_ink(real: Path):
    pixels = np.asarray(Image.open(real / IMPORTED_PICTURE).convert("RGB")).astype(int)
    assert pixels.shape == (1000, 1600, 3)
    for rows in (slice(0, 500), slice(500, 1000)):
        for columns in (slice(0, 800), slice(800, 1600)):
            panel = pixels[rows, columns]
            coloured = (panel.max(axis=2) - panel.min(axis=2)) > 80
            assert coloured.sum() > 300


def test_the_newest_time_wins_whatever_the_order_of_the_files(tmp_path: Path):
    (tmp_path / "b.log").write_text(line(10, "5.0000", time="12:00:00") + line(20, "4.0000"))
    (tmp_path / "a.log").write_text(line(20, "3.0000", time="11:00:00") + line(30, "2.0000"))
    import_logs([tmp_path / "b.log", tmp_path / "a.log"], tmp_path / "out")
    rows = list(read_json_lines(RunPaths(tmp_path / "out").metrics))
    assert [(row["step"], row["loss"]) for row in rows] == [(10, 5.0), (20, 3.0), (30, 2.0)]


def test_losses_that_are_no_numbers_are_kept(tmp_path: Path):
    (tmp_path / "a.log").write_text(line(10) + line(20, "nan") + line(30, "inf") + line(40))
    record = import_logs([tmp_path / "a.log"], tmp_path / "out")
    assert (record.steps, record.not_finite) == (4, 2)
    published = json.loads((tmp_path / "out" / IMPORTED_METRICS).read_text())
    assert [row["loss"] for row in published] == [4.5, "nan", "inf", 4.5]
    loss = read_run(tmp_path / "out").training.column("loss")
    assert np.array_equal(loss, [4.5, np.nan, np.inf, 4.5], equal_nan=True)


def test_the_logger_s_own_spelling(tmp_path: Path):
    """Signs, blank lines, samples of several lines, samples before the checkpoint of their step."""
    stamp = "[2026-01-02 10:00:01] "
    (tmp_path / "a.log").write_text(
        f"{stamp}{'=' * 60}\n{stamp}STARTING TRAINING\n{stamp}{'=' * 60}\n"
        f"{stamp}\U0001f3d7\ufe0f  Building model...\n"
        + line(100)
        + f"{stamp}\n{'=' * 60}\n{stamp}\U0001f4dd SAMPLES\n"
        f"{stamp}Once upon a time, \u2192 Once upon a time, A \u2192 B.\n\nInterrupted, he left.\n"
        f"x \u2192 y\n{stamp}A list \u2192 \n{stamp}{'=' * 60}\n\n"
        f"{stamp}\U0001f4be Checkpoint saved: /drive/checkpoint_step_100.pt\n"
        f"{stamp}\U0001f5d1\ufe0f  Removed old checkpoint: checkpoint_step_50.pt\n"
        + line(110)
        + f"{stamp}\n\u26a0\ufe0f  Interrupted! Saving...\n",
        encoding="utf-8",
    )
    record = import_logs([tmp_path / "a.log"], tmp_path / "out")
    assert (record.damaged, record.other) == (0, 0), (record.not_read, record.not_recognised)
    steps = json.loads((tmp_path / "out" / IMPORTED_METRICS).read_text("utf-8"))
    assert [row["interrupted"] for row in steps] == [False, True]
    assert steps[0]["checkpoint_saved"] == "/drive/checkpoint_step_100.pt"
    assert steps[0]["checkpoint_removed"] == "checkpoint_step_50.pt"
    (block,) = json.loads((tmp_path / "out" / IMPORTED_SAMPLES).read_text("utf-8"))
    assert [s["response"] for s in block["samples"]] == [
        "Once upon a time, A \u2192 B. Interrupted, he left. x \u2192 y",
        "",
    ]
    samples = list(read_json_lines(RunPaths(tmp_path / "out").samples))
    assert samples[0]["text"] == " A \u2192 B.\n\nInterrupted, he left.\nx \u2192 y"
    events = list(read_json_lines(RunPaths(tmp_path / "out").events))
    assert [e["event"] for e in events] == ["started", "checkpoint", "stopped"]


def test_what_terminals_editors_and_crashes_do_to_a_log(tmp_path: Path):
    whole = line(10).encode()
    (tmp_path / "a.log").write_bytes(
        b"\xef\xbb\xbf"
        + whole.replace(b"\n", b"\r\n")
        + b"\x1b[32m" + line(20).encode().strip() + b"\x1b[0m\n"
        + b"50%|##\r99%|###\r" + line(30).encode()
        + b"\xff\xfe garbage \x00\x00\n"
        + b"[2026-01-02 10:00:00] Step     40 | Loss: 4.5[2026-01-02 10:00:00] St\n"
        + b"x" * (3 << 20) + b"\n"
        + b"\x00\x00\x00" + line(50, time="09:00:00").encode()  # the clock was set back
        + line(60).encode()[:70]
    )  # fmt: skip
    record = import_logs([tmp_path / "a.log"], tmp_path / "out")
    rows = list(read_json_lines(RunPaths(tmp_path / "out").metrics))
    assert [row["step"] for row in rows] == [10, 20, 30, 50]
    assert [row["seconds"] for row in rows] == sorted(row["seconds"] for row in rows)
    assert [(n.line, n.file) for n in record.not_read] == [
        (line, str(tmp_path / "a.log")) for line in (5, 6, 8)
    ]
    assert record.other == 3  # two states of the progress bar, and the garbage
