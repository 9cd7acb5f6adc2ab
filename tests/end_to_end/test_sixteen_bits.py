"""fp16 with its loss scaler and 8-bit AdamW through the command line: overflow, growth, the end."""

import signal

import pytest
import torch
from command import call, send
from endings import assert_same_end, checkpoint, events, lines

SIXTEEN = [
    "train.precision=fp16",
    "train.loss_scale.initial=16777216",
    "train.loss_scale.growth_interval=4",
    "optim.name=adamw8bit",
    "model.d_ff=128",
    "model.padded_vocab=264",
]
"""A scale that overflows at once, and grows so fast that it does so again and again."""


@pytest.fixture(autouse=True)
def _engine() -> None:
    pytest.importorskip("bitsandbytes")


def scales_by_hand(overflowed: list[bool], initial: float, interval: int) -> list[float]:
    """What each step multiplies the loss by, from which of them overflowed."""
    scale, good, out = initial, 0, []
    for bad in overflowed:
        out.append(scale)
        if bad:
            scale, good = scale / 2, 0
        elif good == interval - 1:
            scale, good = min(2 * scale, 2.0**24), 0
        else:
            good += 1
    return out


def test_scales_fall_and_rise_and_an_interruption_changes_nothing(run, at):
    calm = run.with_name("calm")
    done = call("train", "recipe.toml", *SIXTEEN, "--run", calm)
    assert done.code == 0, done.err
    assert "fp16" in done.err, "a CPU is told that this is slow"
    rows = [row for row in lines(calm / "metrics.jsonl") if "loss" in row]
    overflowed = [row["overflowed"] for row in rows]
    assert [row["loss_scale"] for row in rows] == scales_by_hand(overflowed, 2.0**24, 4)
    late = overflowed[overflowed.index(False) :]
    assert any(late), "the scale never grew until it overflowed again"
    assert late.count(False) > 8
    assert [e["step"] for e in events(calm, "overflow")] == [
        row["step"] for row in rows if row["overflowed"]
    ]
    assert not events(calm, "skipped_step")
    assert all(isinstance(row["loss"], float) for row in rows)
    assert [row["grad_norm"] for row in rows if not row["overflowed"]][-1] < 20
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.5
    # Between two overflows, between growths, and again.
    for step in (3, 14):
        at("row", step if step == 3 else step - 3, send(signal.SIGTERM))
        first = not run.exists()
        done = call(
            *(("train", "recipe.toml", *SIXTEEN, "--run", run) if first else ("resume", run))
        )
        assert done.code == 0, done.err
    assert call("resume", run).code == 0
    assert_same_end(run, calm)
    events_of_start = events(calm, "started")[0]
    assert events_of_start["precision"] == "fp16"
    assert checkpoint(run).name == "step-00000024"


def test_overflows_without_end_are_ended_with_a_sentence(run, monkeypatch):
    """Gradients that no scale makes finite: first the scale falls to 1, then the run ends."""
    from fromscratch.runs import objectives

    objective = objectives.next_token_loss
    monkeypatch.setattr(
        objectives,
        "next_token_loss",
        lambda m, b: objective(m, b) + 0 * (m.embed.weight * 0).sqrt().sum(),
    )
    few = ["train.loss_scale.initial=8", "train.precision=fp16", "guard.rollbacks=0"]
    done = call("train", "recipe.toml", *few, "--run", run)
    assert done.code == 2
    assert "10 updates in a row were refused, up to step 13" in done.err
    assert [e["step"] for e in events(run, "overflow")] == [1, 2, 3]
    assert [e["step"] for e in events(run, "skipped_step")] == list(range(4, 14))
    assert "Traceback" not in done.err


def test_what_the_precision_does_not_do_here_is_said_once(run, monkeypatch):
    done = call("train", "recipe.toml", "train.precision=tf32", "train.steps=4",
                "schedule.warmup_steps=1", "--run", run)  # fmt: skip
    assert done.code == 0, done.err
    (event,) = events(run, "precision")
    assert "no effect on this CPU" in event["message"]
    assert done.err.count("no effect on this CPU") == 1
    done = call("resume", run, "train.steps=6")
    assert done.code == 0, done.err
    assert len(events(run, "precision")) == 1
    # In another precision the run goes on, and says so.
    done = call("resume", run, "train.steps=8", "train.precision=bf16")
    assert done.code == 0, done.err
    assert (
        "precision=bf16 on cpu (was tf32 on cpu)" in events(run, "versions_changed")[-1]["message"]
    )


@pytest.mark.parametrize("before", ["highest", "high"])
def test_fp32_is_fp32_whatever_the_process_has_set_and_leaves_it_so(run, at, before):
    """A notebook that switched TF32 on, or a run before this one."""
    outside = torch.get_float32_matmul_precision()
    seen: list[str] = []
    at("micro_batch", 2, lambda: seen.append(torch.get_float32_matmul_precision()))
    few = ["train.steps=1", "schedule.warmup_steps=0", "train.precision=fp32"]
    torch.set_float32_matmul_precision(before)
    try:
        assert call("train", "recipe.toml", *few, "--run", run).code == 0
        assert seen == ["highest"]
        assert torch.get_float32_matmul_precision() == before
    finally:
        torch.set_float32_matmul_precision(outside)
