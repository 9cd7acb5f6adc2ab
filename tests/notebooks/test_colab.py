"""The notebook for Colab: run from top to bottom, killed while it trains, and run once more.

Only Colab's own module is stood in for. The text is the embedded one, the model small.
"""

from __future__ import annotations

import contextlib
import html
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

from fromscratch.checkpoint.store import CheckpointStore
from fromscratch.cli.main import app

HERE = Path(__file__).parent
NOTEBOOK = HERE.parents[1] / "notebooks" / "colab.ipynb"
SMALL = (
    "model.n_layer=1 model.n_head=2 model.d_model=16 model.d_ff=64 model.context=64 "
    "model.vocab_size=257 model.padded_vocab=0 train.tokens_per_step=128 train.micro_batch=2 "
    "schedule.warmup_steps=2 eval.every=0 eval.tokens=256 sample.every=0 checkpoint.every=5"
)
SMALL_TALK = (
    "chat.packing=true train.tokens_per_step=128 train.micro_batch=1 train.epochs=1 "
    "eval.every=0 sample.every=0"
)


def read() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_committed_without_outputs():
    notebook = read()
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


class Place:
    """A machine with a Drive that outlives it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        pairs = [{"instruction": f"Say {i}.", "input": "", "output": f"{i}"} for i in range(20)]
        (root / "pairs.json").write_text(json.dumps(pairs))
        self.run = root / "drive" / "MyDrive" / "fromscratch" / "runs" / "minigpt-124m"

    def notebook(self, *, steps: int) -> nbformat.NotebookNode:
        """The notebook with other settings, written below its own as a person would."""
        notebook = read()
        (at,) = (n for n, cell in enumerate(notebook.cells) if cell.id == "settings")
        settings = {
            "DRIVE": str(self.root / "drive"),
            "TEXT": "stdlib",
            "TOKENIZER": "bytes",
            "STEPS": steps,
            "MORE": SMALL,
            "CONVERSATIONS": str(self.root / "pairs.json"),
            "MORE_OF_TALK": SMALL_TALK,
            "BEGINNING": "import os",
            "QUESTION": "Say 7.",
        }
        text = "\n".join(f"{name} = {value!r}" for name, value in settings.items())
        notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(text))
        return notebook

    def machine(self, name: str) -> Path:
        """A new machine's own disk: nothing is left of the one before."""
        folder = self.root / name
        folder.mkdir()
        return folder


def execute(
    notebook: nbformat.NotebookNode,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    until: Callable[[], bool] | None = None,
) -> dict[str, str]:
    """Runs all cells; with `until`, everything is killed as soon as it holds.

    Returns:
        What each cell printed and displayed, by the cell's id.
    """
    path = [str(HERE / "colab_shim"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    # As on Colab, where what pip installs is on the path; here the environment need not be active.
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setenv("PATH", programs)
    client = NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    with client.setup_kernel():
        kernel = psutil.Process(client.km.provisioner.pid)
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.02):
                if until is not None and until():
                    # A machine that is taken away takes everything at once.
                    for process in [kernel, *kernel.children(recursive=True)]:
                        with contextlib.suppress(psutil.NoSuchProcess):
                            os.kill(process.pid, signal.SIGKILL)
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            for number, cell in enumerate(notebook.cells):
                client.execute_cell(cell, number)
        finally:
            over.set()
            watcher.join()
    return {cell.id: shown(cell) for cell in notebook.cells if cell.cell_type == "code"}


def shown(cell: nbformat.NotebookNode) -> str:
    parts = []
    for output in cell.outputs:
        data = output.get("data", {})
        parts += [output.get("text", ""), data.get("text/html", ""), data.get("text/plain", "")]
    return "".join(parts)


@pytest.mark.long
def test_a_session_is_killed_and_the_next_one_goes_on(tmp_path, monkeypatch):
    place = Place(tmp_path)
    metrics = place.run / "metrics.jsonl"

    def trained() -> int:
        with contextlib.suppress(OSError):
            rows = [json.loads(line) for line in metrics.read_text().split("\n")[:-1]]
            return max((row["step"] for row in rows), default=0)
        return 0

    def saved() -> int:
        return max(CheckpointStore(place.run / "checkpoints").steps(), default=0)

    endless = place.notebook(steps=1_000_000)
    with pytest.raises(DeadKernelError):
        execute(endless, place.machine("first"), monkeypatch, until=lambda: saved() >= 10)
    stood_at = trained()
    assert stood_at >= 10
    begin = time.monotonic()
    while lock_is_held(place.run) and time.monotonic() - begin < 30:
        time.sleep(0.05)

    # The same cells on another machine; nobody waits for a million steps.
    second = execute(place.notebook(steps=stood_at + 5), place.machine("second"), monkeypatch)
    assert "Mounted at" in second["install"]
    assert "train.precision" in second["install"]
    assert not (tmp_path / "second" / "unpacking" / "text").exists()
    assert "Prepared data" not in second["text"], "it was fetched, not prepared again"
    assert "from step " in second["train"], second["train"]
    resumed = int(second["train"].split("from step ")[1].split()[0].replace(",", ""))
    assert 10 <= resumed <= stood_at
    assert f"finished {stood_at + 5} steps" in second["train"]
    page = html.unescape(second["report"])
    assert "<iframe srcdoc=" in page
    assert "minigpt-124m" in page.split("<iframe srcdoc=")[1]
    assert "import os" in second["write"]
    assert "finished" in second["talk"]
    assert "let it write" not in second["talk"]
    assert second["chat"].strip()
    assert second["flush"].strip() == "unmounted"
    for name, said in second.items():
        assert "error:" not in said, (name, said)
        assert "Traceback" not in said, (name, said)


def lock_is_held(run: Path) -> bool:
    from filelock import FileLock, Timeout

    try:
        with FileLock(run / "run.lock", timeout=0):
            return False
    except Timeout:
        return True


def test_every_verb_that_it_names_is_there():
    names = {command.name for command in app.registered_commands}
    names |= {group.name for group in app.registered_groups}
    lines = [
        line.strip()
        for cell in read().cells
        if cell.cell_type == "code"
        for line in cell.source.split("\n")
        if line.strip().startswith("!fromscratch")
    ]
    assert len(lines) > 5
    assert {line.split()[1] for line in lines} <= names
