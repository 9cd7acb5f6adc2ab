"""Many tasks give the bytes of one process, also when a task, or all of them, are killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hub_material import lines, wait_for
from hub_server import HubServer

from fromscratch.data.cluster import Cluster, Queued, prepare_in_tasks
from fromscratch.data.options import PrepareOptions
from fromscratch.data.prepare import prepare
from fromscratch.data.processes import Died, Say, run_in_processes
from fromscratch.data.watching import Advance, Remark
from fromscratch.foundation.errors import UserError
from tests.data.preparing import files, settings, texts

pytest.importorskip(
    "datatrove", reason="datatrove is not installed: pip install 'fromscratch[cluster]'"
)

# So small that a task takes a second or two, most of it spent forcing shards to the disk.
SMALL = {"shard_tokens": 3_000}


def times(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}


class Killer:
    """A listener to progress that kills the process of a task, once it has written something."""

    def __init__(self, part: Path) -> None:
        self.part = part
        self.killed = False

    def __call__(self, event: Advance | Remark) -> None:
        if self.killed or not (self.part / "progress.json").exists():
            return
        wait_for(lambda: documents_written(self.part) > 0)
        (process,) = multiprocessing.active_children()
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        self.killed = True


def documents_written(part: Path) -> int:
    journal = json.loads((part / "progress.json").read_text())
    return sum(source["documents"] for source in journal["sources"])


def test_the_bytes_of_one_process(tmp_path: Path) -> None:
    sources = texts(tmp_path / "texts", 60)
    for options in (settings(dedup="near"), settings(tokenizer="bpe:300"), settings()):
        clean = prepare(sources, tmp_path / "clean", options, overwrite=True)
        # The second one replaces data, the last one uses fewer processes than there are tasks.
        cluster = Cluster(3, workers=2) if options == settings() else Cluster(2)
        made = prepare_in_tasks(sources, tmp_path / "data", options, cluster, overwrite=True)
        assert not isinstance(made, Queued)
        assert files(tmp_path / "data") == files(tmp_path / "clean")
        assert (made.manifest, made.skipped) == (clean.manifest, clean.skipped)
        assert [path.name for path in tmp_path.iterdir() if "parts" in path.name] == []


@pytest.mark.slow
def test_a_killed_task_is_noticed_and_gone_on_with(tmp_path: Path) -> None:
    sources = texts(tmp_path / "texts", 300)
    options = settings(**SMALL)
    prepare(sources, tmp_path / "clean", options)
    data, parts = tmp_path / "data", tmp_path / "data-parts"
    cluster = Cluster(2, workers=1)
    killer = Killer(parts / "part-00001")
    with pytest.raises(UserError, match=r"Task 1 of 2 was killed \(SIGKILL\)"):
        prepare_in_tasks(sources, data, options, cluster, watch=killer)
    assert killer.killed
    assert not data.exists()
    assert (parts / "part-00000/part.json").exists()
    assert not (parts / "part-00001/part.json").exists()
    before, written = times(parts / "part-00000"), documents_written(parts / "part-00001")
    seen: list[int] = []
    kept: list[dict[str, int]] = []

    def look(event: Advance | Remark) -> None:
        if isinstance(event, Advance) and event.stage == "tokens":
            seen.append(event.documents)
            kept.append(times(parts / "part-00000"))

    prepare_in_tasks(sources, data, options, cluster, watch=look)
    assert files(data) == files(tmp_path / "clean")
    assert seen[0] > written > 0, "what the killed task had committed was not done again"
    assert all(k == before for k in kept), "the task that was done was not done again"
    assert not parts.exists()


@pytest.mark.slow
def test_everything_killed_leaves_no_process_and_goes_on(tmp_path: Path) -> None:
    sources = texts(tmp_path / "texts", 300)
    options = settings(**SMALL)
    prepare(sources, tmp_path / "clean", options)
    command = [
        *(sys.executable, "-m", "fromscratch", "prepare", *(source.spec for source in sources)),
        *("--out", "data", "--tokenizer", "bytes", "--documents", "file", "--val-fraction", "0.1"),
        *("--shard-tokens", "3000", "--parts", "2", "--workers", "2", "--json"),
    ]
    journals = [tmp_path / f"data-parts/part-0000{i}/progress.json" for i in range(2)]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE) as running:
        wait_for(lambda: all(journal.exists() for journal in journals))
        running.kill()
    assert not (tmp_path / "data").exists()
    # A task that was still at work would hold the lock of its part.
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "data") == files(tmp_path / "clean")
    held_out = json.loads(done.stdout)["val"]["documents"]
    assert 30 < held_out < 90


def test_a_mistake_in_a_task_is_one_sentence_and_mended_text_starts_over(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sources = texts(tmp_path / "texts", 40)
    bad = tmp_path / "texts/two/0039.txt"
    bad.write_bytes(b"Stra\xdfe " * 100)
    with pytest.raises(UserError, match=r"0039\.txt, byte 4: not UTF-8") as caught:
        prepare_in_tasks(sources, tmp_path / "data", settings(), Cluster(2))
    assert "--on-bad skip" in str(caught.value)
    assert "Traceback" not in capfd.readouterr().err
    bad.write_text("mended")
    prepare_in_tasks(sources, tmp_path / "data", settings(), Cluster(2))
    prepare(sources, tmp_path / "clean", settings())
    assert files(tmp_path / "data") == files(tmp_path / "clean")


@pytest.mark.slow
def test_all_tasks_read_the_commit_of_the_first_time(tmp_path: Path, hub: HubServer) -> None:
    def content(word: str) -> dict[str, bytes]:
        return {f"train-{i}.jsonl": lines([f"{word} {i} {j}" for j in range(40)]) for i in range(4)}

    repo = hub.add("a/b", content("old"))
    (first,) = repo.commits
    environment = os.environ | {"HF_ENDPOINT": hub.endpoint}
    command = [sys.executable, "-m", "fromscratch", "prepare", "hf:a/b", "--tokenizer", "bytes"]
    command += ["--hub-cache", "copies", "--val-fraction", "0.2", "--out"]
    subprocess.run([*command, "clean"], cwd=tmp_path, env=environment, check=True)
    command += ["data", "--parts", "2"]
    plan = tmp_path / "data-parts/plan.json"
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as running:
        wait_for(lambda: plan.exists() and "origins" in plan.read_text())
        running.kill()
    assert not (tmp_path / "data").exists()
    repo.commit(content("new"))
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    manifest = json.loads((tmp_path / "data/manifest.json").read_text())
    assert manifest["sources"][0]["spec"] == f"hf:a/b@{first}"
    assert files(tmp_path / "data") == files(tmp_path / "clean")


def test_tasks_without_work_are_told(tmp_path: Path) -> None:
    sources = texts(tmp_path / "texts", 1)
    options = settings(val_fraction=0.0, allow_no_validation=True)
    made = prepare_in_tasks(sources, tmp_path / "data", options, Cluster(4))
    assert not isinstance(made, Queued)
    assert made.notes[-1][0] == "--parts 4"
    assert "1 of them had nothing to do" in made.notes[-1][1]
    prepare(sources, tmp_path / "clean", options)
    assert files(tmp_path / "data") == files(tmp_path / "clean")


def test_another_s_folder_is_not_touched(tmp_path: Path) -> None:
    sources = texts(tmp_path / "texts", 10)
    (tmp_path / "data-parts").mkdir()
    (tmp_path / "data-parts/thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"data-parts.* holds something else"):
        prepare_in_tasks(sources, tmp_path / "data", settings(), Cluster(2))
    assert files(tmp_path / "data-parts") == {"thesis.txt": b"mine"}


# --- Slurm ----------------------------------------------------------------------------------------

# What a cluster does with a job array, on this machine: one task after the other, unless one fails;
# a job only after those that it depends on have ended well. Arguments are written down.
SBATCH = """#!/usr/bin/env python3
import json, os, pathlib, re, subprocess, sys
*options, script = sys.argv[1:]
place = pathlib.Path(os.environ["SLURM_STAND_IN"])
text = pathlib.Path(script).read_text()
directives = re.findall(r"^#SBATCH --(.*)$", text, re.M)
job = len(list(place.glob("job-*.json"))) + 1
given = dict(re.findall(r"--([a-z]+)=(\\S+)", " ".join(options)))
codes = []
for kind, before in re.findall(r"(\\w+):(\\d+)", given.get("dependency", "")):
    codes += json.loads((place / f"job-{before}.json").read_text())["codes"]
ran = not any(codes)
codes = []
first, last = re.search(r"^#SBATCH --array=(\\d+)-(\\d+)", text, re.M).groups()
for task in range(int(first), int(last) + 1) if ran else []:
    if str(task) == os.environ.get("SLURM_STAND_IN_FAILS"):
        codes.append(1)
        continue
    environment = os.environ | {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_NODELIST": "here"}
    environment |= dict(pair.split("=") for pair in given.get("export", "").split(",")[1:])
    done = subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True)
    codes.append(done.returncode)
    (place / f"job-{job}-{task}.txt").write_text(done.stdout + done.stderr)
note = {"directives": directives, "codes": codes, "ran": ran, "options": options}
(place / f"job-{job}.json").write_text(json.dumps(note))
print("Submitted batch job", job)
"""
SRUN = '#!/bin/bash\nwhile [[ $1 == -* ]]; do [[ $1 == -n ]] && shift; shift; done\nexec "$@"\n'
SCONTROL = '#!/bin/bash\necho "${@: -1}"\n'


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands that stand in for Slurm's; returns where they note what they were asked."""
    place = tmp_path / "slurm"
    place.mkdir()
    for name, content in (("sbatch", SBATCH), ("srun", SRUN), ("scontrol", SCONTROL)):
        (place / name).write_text(content)
        (place / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_STAND_IN", str(place))
    return place


@pytest.mark.slow
def test_slurm_gets_an_array_of_tasks_and_a_job_that_joins_them(
    tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = texts(tmp_path / "texts", 40)
    cluster = Cluster(
        3,
        executor="slurm",
        cores=2,
        memory=6_000_000_000,
        partition="cpu",
        time="4:00:00",
        sbatch={"account": "me"},
    )

    def queue() -> list[dict[str, object]]:
        queued = prepare_in_tasks(sources, tmp_path / "data", settings(), cluster)
        assert isinstance(queued, Queued)
        jobs = (queued.tasks_job, queued.joining_job)
        return [json.loads((slurm / f"job-{job}.json").read_text()) for job in jobs]

    monkeypatch.setenv("SLURM_STAND_IN_FAILS", "1")
    tasks, joining = queue()
    expected = {"array=0-2", "partition=cpu", "time=4:00:00", "account=me", "cpus-per-task=2"}
    assert {*expected, "mem-per-cpu=3G", "job-name=data-prepare"} <= set(tasks["directives"])
    assert (tasks["codes"], joining["ran"]) == ([0, 1, 0], False)
    assert not (tmp_path / "data").exists()

    monkeypatch.delenv("SLURM_STAND_IN_FAILS")
    tasks, joining = queue()
    assert "array=0-0" in tasks["directives"], "only what was not done"
    assert (tasks["codes"], joining["codes"]) == ([0], [0])
    prepare(sources, tmp_path / "clean", settings())
    assert files(tmp_path / "data") == files(tmp_path / "clean")
    assert not list((tmp_path / "data-parts").glob("part-*"))


# --- Ray ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ray_does_the_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # it would write into the home folder
    sources = texts(tmp_path / "texts", 40)
    cluster = Cluster(3, executor="ray", workers=2, memory=500_000_000)
    ray.init(num_cpus=2, include_dashboard=False)
    try:
        prepare_in_tasks(sources, tmp_path / "data", settings(), cluster)
    finally:
        ray.shutdown()
    prepare(sources, tmp_path / "clean", settings())
    assert files(tmp_path / "data") == files(tmp_path / "clean")


# --- processes ------------------------------------------------------------------------------------


def _three_kinds_of_end(number: int, say: Say) -> None:
    say(f"call {number}")
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 2:
        raise UserError("Wrong.", fix="Mend it.")
    if number == 3:
        signal.pause()


@pytest.mark.parametrize("end", [1, 2])
def test_the_first_trouble_ends_all_processes(end: int) -> None:
    heard: list[tuple[int, object]] = []
    with pytest.raises((Died, UserError)) as caught:
        run_in_processes(
            _three_kinds_of_end,
            [0, 3, end],
            at_once=2,
            hear=lambda number, said: heard.append((number, said)),
        )
    if end == 1:
        assert caught.value == Died(1, -signal.SIGKILL)
    else:
        assert isinstance(caught.value, UserError)
        assert (caught.value.what, caught.value.fix) == ("Wrong.", "Mend it.")
    assert (0, "call 0") in heard
    assert multiprocessing.active_children() == []


PROGRAM = """
import os, signal, time
from fromscratch.data.processes import run_in_processes

def call(number, say):
    say(os.getpid())
    time.sleep(600)

if __name__ == "__main__":
    run_in_processes(call, [0, 1], at_once=2, hear=lambda number, pid: print(pid, flush=True))
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into Linux's /proc")
def test_processes_end_with_the_program_that_was_killed(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        children = [int(running.stdout.readline()) for _ in range(2)]
        assert all(is_alive(child) for child in children)
        running.kill()
    wait_for(lambda: not any(is_alive(child) for child in children), 20)


def is_alive(process: int) -> bool:
    try:
        # Of a process without a parent, the system's first one may be slow to take note.
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        (Cluster(0), "--parts 0"),
        (Cluster(2, workers=-1), "--workers -1"),
        (Cluster(2, "slurm", partition="cpu"), "--slurm-time"),
        (Cluster(2, "slurm", partition="cpu", time="1:00"), "sbatch is not on this machine"),
    ],
)
def test_what_no_cluster_can_do(
    tmp_path: Path, cluster: Cluster, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError) as caught:
        prepare_in_tasks(texts(tmp_path / "t", 3), tmp_path / "x", PrepareOptions(), cluster)
    assert message in str(caught.value)
    assert not (tmp_path / "x-parts").exists()


def test_a_missing_package_is_named_with_its_command() -> None:
    code = (
        "import sys; sys.modules['datatrove'] = None\n"
        "from fromscratch.cli.main import main\n"
        "main(['prepare', 'stdlib:json', '--out', 'nowhere', '--parts', '2'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert "pip install 'fromscratch[cluster]'" in result.stderr
