"""Each format, as its own writer writes it: a run goes in, and comes out as a run folder."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from transformers import TrainerState

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import read_json_lines
from fromscratch.foundation.names import RunPaths
from fromscratch.logs.formats import FORMATS, format_named, format_of
from fromscratch.logs.importing import ImportOptions, import_logs
from fromscratch.report.build import build_report
from fromscratch.report.read import read_run
from fromscratch.track.tensorboard import TensorBoardSink

PLAIN = ImportOptions(picture=False)  # to draw takes longer than all else here


@dataclass
class Made:
    """A run that a trainer could have had."""

    losses: list[tuple[int, float]]
    held_out: list[tuple[int, float]]


def runs(*, not_finite: bool = True) -> st.SearchStrategy[Made]:
    loss = st.floats(0.0001, 40).map(lambda x: round(x, 4))
    loss = loss | st.sampled_from([math.nan, math.inf]) if not_finite else loss

    def series(smallest: int) -> st.SearchStrategy[list[tuple[int, float]]]:
        steps = st.lists(st.integers(0, 10**7), min_size=smallest, max_size=6, unique=True)
        return steps.map(sorted).flatmap(
            lambda s: st.lists(loss, min_size=len(s), max_size=len(s)).map(
                lambda values: list(zip(s, values, strict=True))
            )
        )

    return st.builds(Made, series(1), series(0))


def in_order(made: Made, train: Callable[..., str], val: Callable[..., str]) -> str:
    """Lines in the order of training; what is held out is measured before the update."""
    rows = [(step, 0, val(step, loss)) for step, loss in made.held_out]
    rows += [(step, 1, train(step, loss)) for step, loss in made.losses]
    return "".join(line + "\n" for _, _, line in sorted(rows))


def rangeflow(made: Made) -> str:
    made.held_out.clear()  # it has none
    return in_order(
        made,
        lambda step, loss: (
            f"[2025-11-18 07:38:15] Step {step:6d} | Loss: {loss:.4f} | LR: 2.40e-04 | "
            "Tokens/s: 8,361 | GPU: 14.8GB | Time: 1547s"
        ),
        str,
    )


def nanogpt(made: Made) -> str:
    return in_order(
        made,
        lambda step, loss: f"iter {step}: loss {loss:.4f}, time 30.12ms, mfu -100.00%",
        lambda step, loss: f"step {step}: train loss 1.0000, val loss {loss:.4f}",
    )


def log_txt(made: Made) -> str:
    return in_order(
        made,
        lambda step, loss: f"{step} train {loss:.6f}",
        lambda step, loss: f"{step} val {loss:.4f}",
    )


def json_lines(made: Made) -> str:
    return in_order(
        made,
        lambda step, loss: json.dumps({"iter": step, "train/loss": loss}),
        lambda step, loss: json.dumps({"iter": step, "eval_loss": loss}),
    )


def trainer_state(made: Made) -> str:
    history: list[dict[str, float]] = [{"step": s, "loss": x} for s, x in made.losses]
    history += [{"step": s, "eval_loss": x, "eval_runtime": 1.5} for s, x in made.held_out]
    state = TrainerState(log_history=sorted(history, key=lambda row: row["step"]))
    with TemporaryDirectory() as folder:
        state.save_to_json(f"{folder}/trainer_state.json")
        return (Path(folder) / "trainer_state.json").read_text("utf-8")


WRITERS = {
    "rangeflow": rangeflow,
    "nanogpt": nanogpt,
    "build-nanogpt": log_txt,
    "jsonl": json_lines,
    "trainer-state": trainer_state,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_run_comes_back_from_each_format(name: str):
    @settings(max_examples=15)
    @given(runs())
    def comes_back(made: Made) -> None:
        with TemporaryDirectory() as folder:
            log, out = Path(folder, "log"), Path(folder, "run")
            log.write_text(WRITERS[name](made), encoding="utf-8")
            found = format_of(log)
            assert found is not None
            assert found.name == name
            record = import_logs([log], out, ImportOptions(picture=False))
            run = read_run(out)
            assert (record.damaged, record.other, len(record.parts)) == (0, 0, 1)
        assert run.training.step.tolist() == [step for step, _ in made.losses]
        losses = [loss for _, loss in made.losses]
        np.testing.assert_array_equal(run.training.column("loss"), losses)
        if made.held_out:
            held_out = run.validation["validation"]
            assert held_out.step.tolist() == [step for step, _ in made.held_out]
            np.testing.assert_array_equal(
                held_out.column("val_loss"), [loss for _, loss in made.held_out]
            )

    comes_back()


@given(st.binary(max_size=300), st.sampled_from(sorted(WRITERS)), st.data())
@settings(max_examples=40)
def test_no_damage_stops_an_import(noise: bytes, name: str, data: st.DataObject):
    made = Made([(10, 2.5), (20, 2.25), (30, 2.0)], [(20, 3.0)])
    whole = WRITERS[name](made).encode()
    place = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(place, len(whole)))
    with TemporaryDirectory() as folder:
        log, out = Path(folder, "log"), Path(folder, "run")
        log.write_bytes(whole[:place] + noise + whole[end:])
        try:
            import_logs([log], out, ImportOptions(format=name, picture=False))
        except UserError:
            return
        build_report(out)


def test_nanogpt_s_console(tmp_path: Path):
    """What train.py prints, with a resume and a progress bar in between."""
    (tmp_path / "train.log").write_text(
        "tokens per iteration will be: 491,520\n"
        "Initializing a new model from scratch\n"
        "number of parameters: 123.59M\n"
        "step 0: train loss 10.9887, val loss 10.9898\n"
        "iter 0: loss 10.9866, time 41503.04ms, mfu -100.00%\n"
        "iter 10: loss 9.9812, time 2000.00ms, mfu 12.34%\n"
        "iter 20: loss 9.1000, time 2000.00ms, mfu 12.34%\n"
        "step 20: train loss 9.2000, val loss 9.3000\n"
        "saving checkpoint to out\n"
        "iter 25: loss 8.9, ti\n"
        "tokens per iteration will be: 491,520\n"
        "Resuming training from out\n"
        "step 20: train loss 9.2000, val loss 9.3000\n"
        "iter 20: loss 9.0500, time 4000.00ms, mfu -100.00%\n"
        "iter 30: loss 8.5000, time 1000.00ms, mfu 13.00%, lr 6.0000e-04\n"
    )
    record = import_logs([tmp_path / "train.log"], tmp_path / "run", PLAIN)
    assert (record.damaged, record.other) == (1, 0)
    run = read_run(tmp_path / "run")
    training = run.training
    assert training.step.tolist() == [0, 10, 20, 30]
    assert training.column("loss").tolist() == [10.9866, 9.9812, 9.05, 8.5]
    # `iter N` is the update after N others; `step N` is measured before it.
    assert training.column("tokens").tolist() == [491520 * n for n in (1, 11, 21, 31)]
    assert run.validation["validation"].column("tokens").tolist() == [0, 20 * 491520]
    assert run.validation["train"].column("val_loss").tolist() == [10.9887, 9.2]
    np.testing.assert_allclose(training.column("mfu"), [np.nan, 0.1234, np.nan, 0.13])
    assert training.column("lr")[-1] == 6e-4
    assert training.column("tokens_per_s")[1] == 245760
    # Steps between are as long as the median so far: 41.503, 2 -> 21.75; then 2, 4 -> 3; ...
    seconds = training.column("seconds")
    typical = [np.median([41.50304, 2.0]), np.median([41.50304, 2.0, 4.0])]
    assert seconds[1] - seconds[0] == pytest.approx(2 + 9 * typical[0], abs=2e-3)
    assert seconds[2] - seconds[1] == pytest.approx(4 + 9 * typical[1], abs=2e-3)
    assert record.estimated_seconds
    events = [
        (row["event"], row.get("step"))
        for row in read_json_lines(RunPaths(tmp_path / "run").events)
    ]
    assert events == [("started", 0), ("checkpoint", 20), ("resumed", 20), ("stopped", 30)]


def test_build_nanogpt_s_console(tmp_path: Path):
    (tmp_path / "console.txt").write_text(
        "total desired batch size: 524288\n"
        "=> calculated gradient accumulation steps: 32\n"
        "validation loss: 10.9501\n"
        "HellaSwag accuracy: 2463/10042=0.2453\n"
        "step     0 | loss: 10.955029 | lr 8.3916e-07 | norm: 15.3676 | dt: 36000.00ms | tok/sec: 14563.56\n"  # noqa: E501
        "step     1 | loss: 10.500000 | lr 1.6783e-06 | norm: 14.0000 | dt: 1000.00ms | tok/sec: 524288.00\n"  # noqa: E501
        "validation loss: 9.5000\n"
        "rank 0 sample 0: Hello, I'm a language model, and\nso on.\n"
        "rank 0 sample 1: Hello, I'm a language model, too\n"
        "step     2 | loss: 10.100000 | lr 2.5175e-06 | norm: 13.0000 | dt: 1000.00ms | tok/sec: 524288.0"  # noqa: E501
    )  # fmt: skip
    record = import_logs([tmp_path / "console.txt"], tmp_path / "run", PLAIN)
    assert record.formats == ("build-nanogpt",)
    run = read_run(tmp_path / "run")
    # The last line has no end, and its last number not all of its digits.
    assert (run.training.step.tolist(), record.damaged) == ([0, 1], 1)
    assert run.training.column("grad_norm").tolist() == [15.3676, 14.0]
    assert run.training.column("seconds").tolist() == [36.0, 37.0]
    assert not record.estimated_seconds
    assert run.validation["validation"].step.tolist() == [0, 2]
    assert [(s.step, s.text) for s in run.samples] == [
        (2, "Hello, I'm a language model, and\nso on."),
        (2, "Hello, I'm a language model, too"),
    ]
    rows = list(read_json_lines(RunPaths(tmp_path / "run").metrics))
    (score,) = [row for row in rows if "hellaswag_acc_norm" in row]
    assert score["hellaswag_acc_norm"] == pytest.approx(0.24527, abs=1e-5)
    assert (score["step"], score["hellaswag_n"]) == (0, 10042)


def test_log_txt_with_hellaswag(tmp_path: Path):
    (tmp_path / "log.txt").write_text(
        "0 val 10.9501\n0 hella 0.2463\n0 train 10.955029\n1 train 10.6"
    )
    record = import_logs([tmp_path / "log.txt"], tmp_path / "run", PLAIN)
    rows = list(read_json_lines(RunPaths(tmp_path / "run").metrics))
    assert rows == [
        {"step": 0, "loss": 10.955029},
        {"step": 0, "set": "validation", "val_loss": 10.9501},
        {"step": 0, "hellaswag_acc_norm": 0.2463},
    ]
    assert record.damaged == 1


def write_events(path: Path, scalars: Sequence[tuple[int, str, float]], began: float = 1e9) -> None:
    """An event file as TensorBoard's writers make it, with a second between two steps."""
    with open(path, "wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=began, file_version="brain.Event:2").SerializeToString())
        for step, tag, value in scalars:
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            event = Event(wall_time=began + step, step=step, summary=summary)
            writer.write(event.SerializeToString())
        writer.flush()


def test_tensorboard_with_several_sessions_and_a_cut_file(tmp_path: Path):
    tags = {
        "train/loss": 4.0,
        "train/learning_rate": 0.5,
        "eval/loss": 5.0,
        "train/train_loss": 9.0,
    }
    first = [(step, tag, value - step / 16) for step in (1, 2, 3) for tag, value in tags.items()]
    second = [(step, "train/loss", 2.0) for step in (3, 4, 5)]
    write_events(tmp_path / "events.out.tfevents.1", first)
    write_events(tmp_path / "events.out.tfevents.2", second, began=1e9 + 5000)
    cut = tmp_path / "events.out.tfevents.2"
    cut.write_bytes(cut.read_bytes()[:-7])
    record = import_logs([tmp_path], tmp_path / "run", PLAIN)
    run = read_run(tmp_path / "run")
    assert run.training.step.tolist() == [1, 2, 3, 4]
    assert run.training.column("loss").tolist() == [3.9375, 3.875, 2.0, 2.0]
    assert run.training.column("lr")[:2].tolist() == [0.4375, 0.375]
    assert run.validation["validation"].column("val_loss").tolist() == [4.9375, 4.875, 4.8125]
    assert run.training.column("seconds").tolist() == [0, 1, 2, 3]  # not the night between
    assert record.facts["tags_without_a_place"] == ["train/train_loss"]
    assert "was cut off or damaged" in record.not_read[0].why.replace("is cut", "was cut")
    assert len(record.parts) == 1
    assert "T" in next(iter(read_json_lines(RunPaths(tmp_path / "run").metrics)))["time"]


def test_our_own_tensorboard_files(tmp_path: Path):
    sink = TensorBoardSink(tmp_path / "tensorboard", {})
    sink.open()
    for step in (1, 2):
        values = {"train/loss": 2.0 * step, "train/grad_norm": 0.5, "val/loss": 3.0, "val/bpb": 1.5}
        sink.numbers(step, values, seconds=float(step))
        sink.sample(step, "Once", " upon")
    sink.close()
    import_logs([tmp_path / "tensorboard"], tmp_path / "run", PLAIN)
    run = read_run(tmp_path / "run")
    assert run.training.column("loss").tolist() == [2.0, 4.0]
    assert run.validation["validation"].column("val_bpb").tolist() == [1.5, 1.5]
    assert "upon" in run.samples[0].text


def test_states_of_one_trainer_run(tmp_path: Path):
    """checkpoint-10 is found after checkpoint-9 and says no more than checkpoint-20."""
    for end in (9, 20, 10):
        history = [{"step": s, "loss": 9.0 - s / 8, "grad_norm": 1.0} for s in range(1, end + 1)]
        if end == 20:
            history.append({"step": 20, "train_loss": 7.7, "train_runtime": 100.0, "epoch": 1.0})
        state = TrainerState(log_history=history, global_step=end, max_steps=20, best_global_step=9)
        (tmp_path / f"checkpoint-{end}").mkdir()
        state.save_to_json(str(tmp_path / f"checkpoint-{end}/trainer_state.json"))
    record = import_logs([tmp_path], tmp_path / "run", PLAIN)
    run = read_run(tmp_path / "run")
    assert len(record.parts) == 1
    assert run.training.column("loss").tolist() == [9.0 - s / 8 for s in range(1, 21)]
    assert record.facts["train_loss"] == 7.7
    assert [event.kind for event in run.events] == ["started", "finished"]
    assert run.events[0].extra["resolved"] == {"steps": 20}
    state_file = tmp_path / "checkpoint-20/trainer_state.json"
    state_file.write_text(state_file.read_text()[:-900])
    record = import_logs([state_file], tmp_path / "cut", PLAIN)
    assert record.damaged == 1
    assert read_run(tmp_path / "cut").training.column("loss").tolist()[:5] == [
        9.0 - s / 8 for s in range(1, 6)
    ]


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"_step": 5, "train/loss": 2.0, "_timestamp": 1.7e9}, {"step": 5, "loss": 2.0}),
        ({"step": 5, "loss": 2.0, "mfu": 45.0}, {"step": 5, "loss": 2.0, "mfu": 0.45}),
        ({"global_step": 5, "Loss/train": 2.0, "lr": 1}, {"step": 5, "loss": 2.0, "lr": 1}),
        ({"step": 5, "split": "val", "loss": 2.0}, {"set": "validation", "val_loss": 2.0}),
        ({"step": 5, "eval_wiki_loss": 2.0}, {"set": "wiki", "val_loss": 2.0}),
        ({"step": 5, "val_bpb": 0.9}, {"set": "validation", "val_bpb": 0.9}),
        ({"step": 5, "loss": "NaN", "aux": [1, 2]}, {"loss": "nan", "aux": [1, 2]}),
        ({"step": 5, "set": "a\ud800", "val_loss": 2.0}, {"set": "a?", "val_loss": 2.0}),
        ({"step": 5.0, "loss": 1e400}, {"step": 5, "loss": "inf"}),
    ],
)
def test_names_that_others_use(row: dict, wanted: dict, tmp_path: Path):
    (tmp_path / "log").write_text(json.dumps(row) + "\n")
    import_logs([tmp_path / "log"], tmp_path / "run", ImportOptions(format="jsonl", picture=False))
    (written,) = read_json_lines(RunPaths(tmp_path / "run").metrics)
    assert {key: written.get(key) for key in wanted} == wanted


@pytest.mark.parametrize("digits", [17, 25, 400])
def test_numbers_that_no_file_can_hold_stop_nothing(digits: int, tmp_path: Path):
    huge = "9" * digits
    lines = [
        f"tokens per iteration will be: {huge}",
        f"iter {huge}: loss 1.0000, time 30.00ms, mfu 1.00%",
        f"iter 1: loss {huge}, time {huge}ms, mfu {huge}%",
        f"{huge} train 1.000000",
        f"total desired batch size: {huge}",
        f"step 1 | loss: {huge} | norm: {huge} | dt: {huge}ms | tok/sec: {huge}",
        f"HellaSwag accuracy: {huge}/{huge}=0.5",
        f"[2026-01-02 10:00:00] Step {huge} | Loss: 1 | LR: 1 | Tokens/s: 1 | GPU: 1GB | Time: 1s",
        f"[2026-01-02 10:00:00] Step 1 | Loss: 1 | LR: {huge} | Tokens/s: 1 | GPU: 1GB | Time: 1s",
        f"[2026-01-02 10:00:00] Checkpoint saved: checkpoint_step_{huge}.pt",
        f"[2026-01-02 10:00:00] SAMPLES at step {huge}",
        "[2026-01-02 10:00:00] A \u2192 B",
        f'{{"step": {huge}, "loss": 1}}',
        f'{{"step": 1, "loss": {huge}, "seconds": {huge}, "_timestamp": {huge}, "tokens": {huge}}}',
    ]
    (tmp_path / "log").write_text("".join(line + "\n" for line in lines), "utf-8")
    for name in ("rangeflow", "nanogpt", "build-nanogpt", "jsonl"):
        record = import_logs([tmp_path / "log"], tmp_path / name, ImportOptions(name))
        assert record.steps == 1, name
        build_report(tmp_path / name)


def test_every_format_can_be_forced_by_its_name():
    assert [format_named(one.name) for one in FORMATS] == list(FORMATS)
    assert format_named("auto") is None
    with pytest.raises(UserError, match='Did you mean "nanogpt"'):
        format_named("nanogtp")
