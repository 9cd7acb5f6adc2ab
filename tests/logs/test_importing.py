"""What becomes of the folder, of several runs in one log, and of what is no log."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import read_json_lines, sha256_of_file
from fromscratch.foundation.names import RunPaths, import_folder, replaced_folder
from fromscratch.logs import lines
from fromscratch.logs.importing import ImportOptions, import_logs
from fromscratch.report.build import build_report
from fromscratch.report.read import read_run

PLAIN = ImportOptions(picture=False)  # to draw takes longer than all else here


def rows(*steps: int, loss: float = 2.0) -> str:
    return "".join(
        json.dumps({"step": s, "train_loss": loss, "val_loss": 3.0}) + "\n" for s in steps
    )


def steps_of(run: Path) -> list[int]:
    return [int(step) for step in read_run(run).training.step]


def test_an_import_says_where_it_is_from_and_is_replaced_by_the_next(tmp_path: Path):
    log, out = tmp_path / "log.jsonl", tmp_path / "run"
    log.write_text(rows(1, 2))
    import_logs([log], out, ImportOptions(name="theirs"))
    said = json.loads(RunPaths(out).imported.read_text())
    assert said["files"][0]["sha256"] == sha256_of_file(log)
    assert (said["name"], said["files"][0]["format"]) == ("theirs", "jsonl")
    (out / "notes.txt").write_text("mine")
    RunPaths(out).report.write_text("of the old import")
    log.write_text(rows(1, 2, 3))
    import_logs([log], out, PLAIN)
    assert steps_of(out) == [1, 2, 3]
    assert (out / "notes.txt").read_text() == "mine"
    assert not RunPaths(out).report.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.jsonl", "run"]


def test_a_failed_import_leaves_the_one_before(tmp_path: Path):
    (tmp_path / "log.jsonl").write_text(rows(1, 2))
    import_logs([tmp_path / "log.jsonl"], tmp_path / "run", PLAIN)
    with pytest.raises(UserError, match="the logs hold one run"):
        import_logs(
            [tmp_path / "log.jsonl"], tmp_path / "run", ImportOptions(picture=False, part=2)
        )
    assert steps_of(tmp_path / "run") == [1, 2]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.jsonl", "run"]


def test_after_a_kill_between_two_renames_the_old_import_is_found_again(tmp_path: Path):
    (tmp_path / "log.jsonl").write_text(rows(1, 2))
    import_logs([tmp_path / "log.jsonl"], tmp_path / "run", PLAIN)
    (tmp_path / "run/notes.txt").write_text("mine")
    os.replace(tmp_path / "run", tmp_path / replaced_folder("run"))
    (tmp_path / import_folder("run")).mkdir()
    import_logs([tmp_path / "log.jsonl"], tmp_path / "run", PLAIN)
    assert (tmp_path / "run/notes.txt").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.jsonl", "run"]


@pytest.mark.parametrize("what", ["a file", "a run", "a foreign import.json"])
def test_nothing_but_an_import_is_replaced(what: str, tmp_path: Path):
    (tmp_path / "log.jsonl").write_text(rows(1))
    out = tmp_path / "out"
    if what == "a file":
        out.write_text("precious")
    else:
        out.mkdir()
        (out / ("metrics.jsonl" if what == "a run" else "import.json")).write_text('{"step": 9}')
    with pytest.raises(UserError, match="is no import of logs"):
        import_logs([tmp_path / "log.jsonl"], out, PLAIN)
    assert out.is_file() or '"step": 9' in next(out.iterdir()).read_text()


def test_two_runs_in_one_log_are_not_mixed(tmp_path: Path):
    log = tmp_path / "log.jsonl"
    log.write_text(rows(0, 10, 20, 30, loss=9.0) + rows(0, 10, loss=5.0))
    record = import_logs([log], tmp_path / "last", PLAIN)
    assert [p["last_step"] for p in record.parts] == [30, 10]
    assert (record.part, steps_of(tmp_path / "last")) == (2, [0, 10])
    import_logs([log], tmp_path / "first", ImportOptions(picture=False, part=1))
    assert steps_of(tmp_path / "first") == [0, 10, 20, 30]
    assert set(read_run(tmp_path / "first").training.column("loss")) == {9.0}


def test_a_session_that_goes_back_and_on_is_the_same_run(tmp_path: Path):
    log = tmp_path / "log.jsonl"
    log.write_text(rows(0, 10, 20, loss=9.0) + rows(20, 30, loss=5.0))
    record = import_logs([log], tmp_path / "run", PLAIN)
    assert len(record.parts) == 1
    assert steps_of(tmp_path / "run") == [0, 10, 20, 30]
    events = [row["event"] for row in read_json_lines(RunPaths(tmp_path / "run").events)]
    # Steps 0, 10, 20, 20, 30 do not go back; 10, 20, 10 do.
    assert events == ["started", "stopped"]
    log.write_text(rows(0, 10, 20, loss=9.0) + rows(10, 30, loss=5.0))
    record = import_logs([log], tmp_path / "run", PLAIN)
    assert (len(record.parts), record.logged_again) == (1, 1)
    assert read_run(tmp_path / "run").training.column("loss").tolist() == [9.0, 5.0, 9.0, 5.0]
    events = [row["event"] for row in read_json_lines(RunPaths(tmp_path / "run").events)]
    assert events == ["started", "resumed", "stopped"]


def test_training_and_validation_in_files_of_their_own_are_one_run(tmp_path: Path):
    train = "".join(json.dumps({"step": s, "loss": 4.0, "lr": 1e-3}) + "\n" for s in (0, 5, 10))
    (tmp_path / "train.jsonl").write_text(train)
    held_out = "".join(json.dumps({"step": s, "val_loss": 5.0, "lr": 9.0}) + "\n" for s in (0, 10))
    (tmp_path / "val.jsonl").write_text(held_out)
    import_logs([tmp_path], tmp_path / "run", PLAIN)
    run = read_run(tmp_path / "run")
    assert run.training.column("lr").tolist() == [1e-3] * 3
    assert run.validation["validation"].step.tolist() == [0, 10]


def test_the_real_instruction_log_holds_two_runs(shared_data: Path, tmp_path: Path):
    log = shared_data / "logs/fgpt/instruct_training_metrics.jsonl"
    raw = [json.loads(row) for row in log.read_text().splitlines()]
    border = next(i for i in range(1, len(raw)) if raw[i]["step"] == 0)
    for part, wanted in enumerate((raw[:border], raw[border:]), start=1):
        import_logs([log], tmp_path / f"run{part}", ImportOptions(picture=False, part=part))
        run = read_run(tmp_path / f"run{part}")
        assert run.training.column("loss").tolist() == [row["train_loss"] for row in wanted]
        held_out = run.validation["validation"].column("val_loss").tolist()
        assert held_out == [row["val_loss"] for row in wanted]
        assert "held-out" in build_report(tmp_path / f"run{part}")
    samples = shared_data / "logs/fgpt/sample_outputs_20251220_1602.jsonl"
    import_logs([samples], tmp_path / "samples", PLAIN)
    texts = [json.loads(row)["decoded_output"] for row in samples.read_text("utf-8").splitlines()]
    assert [sample.text for sample in read_run(tmp_path / "samples").samples] == texts


def test_a_folder_with_all_kinds_of_files(tmp_path: Path):
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "log.jsonl").write_text(rows(1, 2))
    (logs / "more.jsonl.gz").write_bytes(gzip.compress(rows(3, 4).encode()))
    (logs / "ckpt.pt").write_bytes(b"PK\x03\x04" + b"\x00" * 100)
    (logs / "empty.log").write_text("")
    (logs / "notes.md").write_text("\n# Plans\n")
    (logs / ".hidden.jsonl").write_text(rows(9))
    record = import_logs([logs], logs / "run", PLAIN)
    assert steps_of(logs / "run") == [1, 2, 3, 4]
    assert [(Path(s.file).name, s.why, s.text) for s in record.skipped] == [
        ("ckpt.pt", "no known log", "(not text)"),
        ("empty.log", "is empty", ""),
        ("notes.md", "no known log", "# Plans"),
    ]
    import_logs([logs], logs / "run")  # does not read itself
    assert steps_of(logs / "run") == [1, 2, 3, 4]


def test_damaged_lines_are_counted_and_the_first_twenty_listed(tmp_path: Path):
    log = tmp_path / "log.jsonl"
    log.write_text(
        rows(1) + '{"step": 2, "train_l\n' * 30 + rows(3) + '{"step": 4, "train_loss": 1.'
    )
    record = import_logs([log], tmp_path / "run", PLAIN)
    assert (record.damaged, len(record.not_read)) == (31, 20)
    assert (record.not_read[0].line, record.not_read[-1].line) == (2, 21)
    assert steps_of(tmp_path / "run") == [1, 3]
    damaged = gzip.compress(rows(*range(1000)).encode())
    (tmp_path / "cut.gz").write_bytes(damaged[: len(damaged) // 2])
    record = import_logs([tmp_path / "cut.gz"], tmp_path / "run", PLAIN)
    assert 0 < record.steps < 1000
    assert "compressed file is damaged" in record.not_read[-1].why


def test_text_of_powershell(tmp_path: Path):
    (tmp_path / "log.txt").write_bytes("0 val 10.9500\r\n0 train 10.949870\r\n".encode("utf-16"))
    import_logs([tmp_path / "log.txt"], tmp_path / "run", PLAIN)
    assert read_run(tmp_path / "run").training.column("loss").tolist() == [10.94987]


def test_tokens_that_only_the_person_knows(tmp_path: Path):
    (tmp_path / "log.jsonl").write_text(rows(10, 20))
    import_logs(
        [tmp_path / "log.jsonl"],
        tmp_path / "run",
        ImportOptions(picture=False, tokens_per_step=1000),
    )
    run = read_run(tmp_path / "run")
    assert run.training.column("tokens").tolist() == [10_000, 20_000]
    assert run.validation["validation"].column("tokens").tolist() == [10_000, 20_000]


_MEASURE = """
import resource, sys
from pathlib import Path
from fromscratch.logs.importing import import_logs
import fromscratch.logs.picture, matplotlib.figure
log, out = Path(sys.argv[1]), Path(sys.argv[2])
import_logs([log], out / "small")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open(log, "ab") as file:
    block = b"".join(b"an epoch of chatter that no format knows %d\\n" % i for i in range(20000))
    for _ in range(15):
        file.write(block)
import_logs([log], out / "large")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024, log.stat().st_size)
assert "torch" not in sys.modules
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_log(tmp_path: Path):
    log = tmp_path / "log.txt"
    log.write_text("".join(f"{i} train {3 + i % 7:.6f}\n" for i in range(8000)))
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, log, tmp_path],
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    grown, size = map(int, done.stdout.split())
    assert size > 13e6
    assert grown < 6e6


def test_an_endless_line_is_read_in_pieces(tmp_path: Path):
    (tmp_path / "log").write_bytes(b"x" * (3 * lines.LONGEST_LINE + 5) + b"\n" + b"next\n")
    found = list(lines.lines(tmp_path / "log"))
    assert [(one.number, bool(one.problem)) for one in found] == [(1, True), (2, False)]
    assert found[1].text == "next"


def test_nothing_readable_lists_what_was_found_and_what_could_be(tmp_path: Path):
    (tmp_path / "notes.md").write_text("# Plans\n")
    with pytest.raises(UserError) as error:
        import_logs([tmp_path], tmp_path / "run", PLAIN)
    assert "notes.md no known log (it begins: # Plans)" in error.value.what
    assert error.value.fix is not None
    for name in ("rangeflow", "nanogpt", "build-nanogpt", "jsonl", "tensorboard", "trainer-state"):
        assert name in error.value.fix
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="read as nanogpt has no row"):
        import_logs([tmp_path / "notes.md"], tmp_path / "run", ImportOptions(format="nanogpt"))
    assert [p.name for p in tmp_path.iterdir()] == ["notes.md"]
