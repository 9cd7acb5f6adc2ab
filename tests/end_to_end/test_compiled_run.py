"""A run with compiled blocks through the command line: as good as without, and as unkillable."""

import signal

import pytest
import torch
from command import call, send
from endings import assert_same_end, events, rows


@pytest.fixture(autouse=True)
def _afresh():
    """What an earlier test compiled is forgotten."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.long
def test_interrupted_and_resumed_it_is_the_same_run(at, run, reference, tmp_path):
    """With dropout, whose masks the compiled code draws itself."""
    whole = tmp_path / "whole"
    done = call("train", "recipe.toml", "train.compile=true", "--run", whole)
    assert done.code == 0, done.err
    assert "not compiled" not in done.out + done.err
    assert events(whole, "started")[0]["compiled"] is True
    at("micro_batch", 4 * 9 + 3, send(signal.SIGTERM))
    assert call("train", "recipe.toml", "train.compile=true", "--run", run).code == 0
    assert call("resume", run).code == 0
    assert_same_end(run, whole)
    plain = [
        row["val_loss"]
        for row in rows(reference / "metrics.jsonl")
        if row.get("set") == "validation"
    ]
    ours = [
        row["val_loss"] for row in rows(whole / "metrics.jsonl") if row.get("set") == "validation"
    ]
    assert ours[0] == plain[0], "validation runs the uncompiled module"
    assert ours == pytest.approx(plain, rel=0.02), "other dropout masks, the same learning"


def test_where_compiling_fails_the_run_says_so_once_and_goes_on(run, reference):
    from torch._inductor import config

    with config.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}):
        done = call("train", "recipe.toml", "train.compile=true", "--run", run)
    assert done.code == 0, done.err
    assert (done.out + done.err).count("not compiled") == 1
    assert len(events(run, "not_compiled")) == 1
    assert events(run, "started")[0]["compiled"] is False
    assert [r["loss"] for r in rows(run / "metrics.jsonl") if "loss" in r] == [
        r["loss"] for r in rows(reference / "metrics.jsonl") if "loss" in r
    ]
