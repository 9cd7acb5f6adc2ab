"""`report --landscape`, killed on its way and run again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fromscratch.checkpoint.bundle import load_bundle
from fromscratch.data.batches import ValidationSet, Windows
from fromscratch.data.shards import TokenStream, load_manifest
from fromscratch.evaluate.landscape import Surroundings
from fromscratch.evaluate.loss import evaluate_loss

ARGUMENTS = ["report", "run", "--landscape", "--landscape-points", "11"]


@pytest.mark.slow
def test_a_killed_landscape_is_gone_on_with(fromscratch, place: Path):
    process = subprocess.Popen(
        [sys.executable, "-m", "fromscratch", *ARGUMENTS],
        cwd=place,
        env=os.environ | {"NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    folder = place / "run/landscape"
    kept: list[str] = []
    while process.poll() is None and len(kept) < 10:
        time.sleep(0.01)
        kept = [line for path in folder.glob("*.jsonl") for line in path.read_text().split("\n")]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was through before it could be killed"
    answer = fromscratch(*ARGUMENTS)
    assert answer.code == 0, answer.err
    assert (folder / "landscape.png").read_bytes().startswith(b"\x89PNG")
    (file,) = folder.glob("*.jsonl")
    lines = file.read_text().splitlines()
    assert len(lines) == 1 + 11 * 11
    assert lines[: len(kept) - 1] == kept[:-1], "what was there is not computed again"
    assert 'alt="The model&#x27;s own loss' in (place / "run/report.html").read_text("utf-8")

    # The same by hand: the middle is the checkpoint's loss, another point that of moved weights.
    bundle = load_bundle(place / "run")
    shards = load_manifest(place / "data-bytes").select("val")
    windows = Windows(TokenStream(place / "data-bytes", shards), bundle.model.config.context)
    held_out = ValidationSet("v", windows, bundle.tokenizer.bytes_per_id, None, 4096)
    around = Surroundings(bundle.model, seed=0)
    for number, (x, y) in ((60, (0.0, 0.0)), (61, (0.2, 0.0)), (120, (1.0, 1.0))):
        row = json.loads(lines[1 + number])
        assert (row["x"], row["y"]) == (x, y)
        with around.at(x, y):
            own = evaluate_loss(bundle.model, held_out, batch_size=16).loss
        assert row["loss"] == pytest.approx(own, abs=1e-5)
