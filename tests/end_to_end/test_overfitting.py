"""The Tiny Shakespeare system learns its text by heart, and the report says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import call

BUDGET = [
    # A hundredth of the text and a twentieth of the vocabulary: the same story in ten seconds.
    "data.path=segments", "data.documents=file",
    "data.tokenizer=bpe:401", "model.vocab_size=401", "model.padded_vocab=402",
    "train.tokens_per_step=1024", "train.micro_batch=8", "train.epochs=30", "optim.lr=3e-3",
    "eval.every=10", "sample.every=1000", "checkpoint.every=1000",
]  # fmt: skip


@pytest.mark.long
def test_the_report_shows_overfitting(
    shakespeare: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "segments").mkdir()
    for i, segment in enumerate(shakespeare[:8_000].split("\n\n")):
        (tmp_path / f"segments/{i:04}.txt").write_text(segment)
    done = call("train", "transformer-room-3m", *BUDGET, "--run", "run")
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    validation = [(r["step"], r["val_loss"]) for r in rows if "val_loss" in r]
    training = np.array([r["loss"] for r in rows if "loss" in r])
    best_step, best = min(validation, key=lambda pair: pair[1])
    last_step, last = validation[-1]
    assert 0 < best_step < last_step
    assert last > 1.01 * best
    assert training[-50:].mean() < 0.9 * training[best_step - 50 : best_step].mean()
    assert call("report", "run").code == 0
    page = (tmp_path / "run/report.html").read_text()
    assert f"was best at step {best_step:,}" in page
    assert "while the training loss fell on" in page
    assert "memorises its training text" in page
