"""R39: a resumed run takes no more memory than the run did."""

import subprocess
import sys

import pytest
from command import environment

from tests.data.peak_memory import PEAK

PROGRAM = (
    PEAK
    + """
import sys
from fromscratch.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code
print("PEAK", peak())
"""
)
# 13 million parameters: 50 MB of weights, 100 MB of optimiser, batches that are nothing to it.
LARGE = [
    "model.n_layer=4", "model.d_model=512", "model.n_head=8", "model.padded_vocab=272",
    "train.tokens_per_step=32", "train.micro_batch=1", "eval.every=0", "eval.tokens=32",
    "sample.every=0", "checkpoint.every=1000", "schedule.warmup_steps=0",
]  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("family", ["gpt2", "modern"])
def test_a_resume_peaks_no_higher_than_the_run(place, tmp_path, family):
    def peak(*arguments: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            cwd=place, env=environment(), capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return int(done.stdout.split("PEAK")[1])

    run = str(tmp_path / "run")
    shape = [*LARGE, f"model.family={family}", "checkpoint.background=false"]
    trained = peak("train", "recipe.toml", *shape, "train.steps=2", "--run", run)
    resumed = peak("resume", run, "train.steps=3")
    assert trained > 400_000, "too small to tell"
    # Two per cent: where the allocator's freed pieces lie.
    assert resumed < 1.02 * trained, f"{resumed / trained:.2f} times the run's"
