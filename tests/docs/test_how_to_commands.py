"""The commands of the tutorial and of docs/how-to/ are run, in their order, as they stand.

What needs a GPU trains a model of the same kind in small, on a CPU; what needs the hub meets a
server on this machine that speaks its protocol. The tables below say what is replaced.
"""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from pathlib import Path

import pytest
from test_commands import newcomer as newcomer
from test_commands import run_page
from typed_commands import PAGES, blocks, save_files

from tests.data.hub_material import parquet
from tests.data.hub_server import HubServer
from tests.export.upload_server import TOKEN, UploadServer
from tests.forking.client import begin
from tests.forking.forks import PLAIN, Forks, Process

SMALL = (
    "model.n_layer=2 model.n_head=2 model.d_model=16 model.d_ff=32 model.context=64 "
    "data.tokenizer=bytes model.vocab_size=257 model.padded_vocab=0 train.tokens_per_step=128 "
    "train.steps=4 train.micro_batch=1 train.precision=fp32 eval.tokens=512 eval.every=0 "
    "sample.every=0 schedule.warmup_steps=1"
)
"""Put before what a page says, which therefore holds."""
NARROW = "model.n_layer=1 model.n_head=2 model.d_model=16 model.d_ff=32 model.vocab_size=257"
SHORTER = {
    "model.n_layer=4 model.d_model=256 model.d_ff=1024": "model.n_layer=1",
    "train modern-124m": f"train modern-124m {SMALL}",
    "train minigpt-124m": f"train minigpt-124m {SMALL}",
    "train.steps=4764": "train.steps=6",
    "train.steps=1200": "train.steps=6",
    "train.steps=2400": "train.steps=8",
    "train.steps=2000": "train.steps=4",
    "train.steps=3000": "train.steps=8",
    "from_tokens=3072000": "from_tokens=6144",
    "train.micro_batch=auto": "train.micro_batch=2",  # docs/planning.md runs that as it stands
    "optim.name=adamw8bit": "optim.name=adamw8bit optim.engine=torchao",
    "epochs = 8\n": "epochs = 0.05\n",
    "warmup_steps = 10": "warmup_steps = 1",
    "--keep-local": "--val-fraction 0.2 --keep-local",  # of so few documents
    "caffeinate -i ": "",
    "bpe:8192": "bpe:512",
    "vocab_size=8192": "vocab_size=512",
    "bpe:4096": "bpe:512",
    "vocab_size=4096": "vocab_size=512",
}


def begin_model(folder: Path, forks: Forks, *, tokenizer: str = "bytes", context: int = 64) -> None:
    """Trains a tiny model for two steps, as a run in a folder."""
    words = ["train", "try", "data.path=my-texts", f"data.tokenizer={tokenizer}", "--run", folder]
    words += ["model.n_layer=1", "model.n_head=2", "model.d_model=16", "model.d_ff=32"]
    words += [f"model.context={context}", "train.steps=2", "train.tokens_per_step=256"]
    words += ["train.micro_batch=1", "eval.tokens=512", "sample.every=0"]
    words += ["model.vocab_size=" + ("300" if "300" in tokenizer else "257")]
    made = forks.run(*map(str, words), cwd=folder.parents[1])
    assert made.code == 0, made.err


@pytest.fixture
def instructions(newcomer: Path) -> Path:
    """Forty short questions and answers."""
    records = [{"instruction": f"Say {i}", "input": "", "output": f"{i}!"} for i in range(40)]
    path = newcomer / "instructions.json"
    path.write_text(json.dumps(records))
    return path


@pytest.fixture
def fineweb(hub: HubServer, newcomer: Path, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """A hub with some files of the data set that the pages name."""
    text = "".join(path.read_text() for path in sorted((newcomer / "my-texts").iterdir()))
    pieces = [text[i : i + 600] for i in range(0, 14 * 20 * 600, 600)]
    files = {f"sample/10BT/{n:03d}_00000.parquet": parquet(pieces[n::14]) for n in range(14)}
    hub.add("HuggingFaceFW/fineweb-edu", files)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("HF_HOME", str(newcomer / ".hf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(newcomer / ".cache"))
    return hub


def how_to(name: str, place: Path) -> int:
    """Runs a page; returns the number of its commands."""
    page = f"docs/how-to/{name}.md" if name != "tutorial" else "docs/tutorial.md"
    save_files(page, place, SHORTER)
    return run_page(page, place, SHORTER)


@pytest.mark.slow
def test_the_tutorial(newcomer: Path, forks: Forks):
    """But for its first command, `try`, which the README's test runs."""
    begin_model(newcomer / "runs/try", forks, context=256)
    assert how_to("tutorial", newcomer) == 12
    assert len(json.loads((newcomer / "questions.json").read_text())) > 1_000
    assert (newcomer / "my-model/README.md").is_file()
    assert (newcomer / "talk.png").is_file()


@pytest.mark.slow
def test_the_page_about_reports(newcomer: Path, forks: Forks):
    for name in ("mine", "other"):
        begin_model(newcomer / "runs" / name, forks)
    assert how_to("read-the-report", newcomer) == 2


@pytest.mark.slow
def test_the_pages_about_one_s_own_text(newcomer: Path):
    assert how_to("own-text", newcomer) >= 6
    assert (newcomer / "runs/mine/report.html").is_file()


@pytest.mark.slow
def test_the_page_about_macs(newcomer: Path):
    assert how_to("mac", newcomer) == 3


def test_the_page_about_several_gpus(newcomer: Path):
    """What it starts on eight is run on two by the test of docs/multi-gpu.md."""
    assert how_to("several-gpus", newcomer) == 1


@pytest.mark.slow
def test_the_pages_that_need_fineweb_edu(newcomer: Path, fineweb: HubServer):
    assert how_to("fineweb-edu-overnight", newcomer) >= 6
    fetched = {Path(seen.path.partition("&name=")[2]).name for seen in fineweb.fetches()}
    assert fetched == {f"{n:03d}_00000.parquet" for n in range(4)}
    assert how_to("24gb-card", newcomer) == 5
    assert how_to("resume-on-colab", newcomer) == 6
    events = (newcomer / "runs/colab/recipe.toml").read_text()
    assert 'name = "adamw8bit"' in events


@pytest.mark.slow
def test_the_page_about_changing_the_data(newcomer: Path):
    (newcomer / "new-texts").mkdir()
    for path in sorted((newcomer / "my-texts").iterdir())[:20]:
        (newcomer / "new-texts" / path.name).write_text(path.read_text().upper())
    assert how_to("change-the-data", newcomer) == 3
    events = [json.loads(e) for e in (newcomer / "runs/old/events.jsonl").read_text().splitlines()]
    assert {"recipe_changed", "data_changed"} <= {event["event"] for event in events}
    rows = [json.loads(e) for e in (newcomer / "runs/old/metrics.jsonl").read_text().splitlines()]
    assert {"my-texts", "new"} <= {row.get("set") for row in rows}


@pytest.mark.slow
def test_the_page_about_teaching_a_model_to_answer(
    newcomer: Path, instructions: Path, forks: Forks
):
    begin_model(newcomer / "runs/base", forks)
    assert how_to("finetune", newcomer) == 3


@pytest.mark.long
def test_the_page_about_publishing(newcomer: Path, forks: Forks, monkeypatch: pytest.MonkeyPatch):
    begin_model(newcomer / "runs/mine", forks, tokenizer="bpe:300:gpt2")
    with UploadServer() as hub:
        for name, value in (
            ("HF_ENDPOINT", hub.endpoint), ("HF_TOKEN", TOKEN), ("HF_HUB_DISABLE_XET", "1"),
        ):  # fmt: skip
            monkeypatch.setenv(name, value)
        assert how_to("publish", newcomer) == 4
    assert {name: repo.private for name, repo in hub.repos.items()} == {
        "me/my-model": True,
        "me/my-space": False,
    }
    assert (newcomer / "my-model.gguf").read_bytes()[:4] == b"GGUF"


@pytest.mark.slow
def test_the_page_about_sweeps(newcomer: Path):
    fewer = {
        "sweep try": f"sweep try data.path=my-texts data.tokenizer=bytes {NARROW}",
        "0.01,0.03,0.1": "0.01,0.03",
        "0.003,0.005,0.01": "0.003,0.01",
        "768,1536,3072": "768,1536",
        "64,128,256": "64,128",
        "train.tokens=92_160": "train.tokens=3_072",
        "train.tokens=46_080": "train.tokens=3_072",
        "--trials 20": "--trials 2",
    }
    assert run_page("docs/sweep.md", newcomer, fewer) == 5
    assert (newcomer / "sweeps/batch/sweep.png").is_file()


@pytest.mark.slow
def test_the_pages_about_precision_and_trackers(newcomer: Path, monkeypatch: pytest.MonkeyPatch):
    """The data sets of the hub are one text here; wandb keeps its run on this machine."""
    small = f"train modern-124m data.path=my-texts data.val_fraction=0.1 {SMALL}"
    shorter = {
        "train modern-124m": small,
        "train rangeflow-124m": small,
        "optim.name=adamw8bit": "optim.name=adamw8bit optim.engine=torchao",
    }
    assert run_page("docs/precision.md", newcomer, shorter) == 2
    assert (newcomer / "runs/small-gpu/report.html").is_file()
    monkeypatch.setenv("WANDB_MODE", "offline")
    tracked = {"train modern-124m": f"{small} --run runs/tracked"}
    assert run_page("docs/trackers.md", newcomer, tracked) >= 1
    assert list((newcomer / "runs/tracked/tensorboard").iterdir())


UNTIL_STOPPED = [
    (page, line)
    for page in PAGES
    for block in blocks(page, "console")
    if "until-stopped" in block.words
    for line in block.text.strip().split("\n")
]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "command"), UNTIL_STOPPED)
def test_what_goes_on_until_it_is_stopped(page: str, command: str, newcomer: Path, forks: Forks):
    """It says an address, answers there, and ends by Ctrl-C without a complaint."""
    begin_model(newcomer / command.split()[-1], forks)
    reading, writing = os.pipe()
    program, *words = command.split()
    assert program == "fromscratch"
    with open(os.devnull, "r+b") as nothing:
        streams = [nothing.fileno(), writing, nothing.fileno()]
        begun = begin(
            forks.socket, words, cwd=str(newcomer), environment=os.environ | PLAIN, streams=streams
        )
    os.close(writing)
    process = Process(*begun)
    with open(reading, encoding="utf-8") as said:
        address = next(f[0] for line in said if (f := re.search(r"http://[\w.:]+/?", line)))
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert "</html>" in answer.read().decode()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
