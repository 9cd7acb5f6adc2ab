"""The first hour of a newcomer, stage by stage, with the wall time of each.

Types what the README and the tutorial say, one command after the other, in an empty folder: a try,
a text of one's own, the doctor, a run that is killed twice and resumed, an evaluation, finetuning,
a chat, the server, an export, a report. Any command that fails ends it.

    python benchmarks/first_hour.py TEXT INSTRUCTIONS.json [--minutes 2] [--steps 600]
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

PORT = 8137
VOCABULARY = 4096


class Hour:
    """Commands in a folder, and how long each stage took."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stages: list[tuple[str, float, str]] = []

    def words(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "fromscratch", *arguments]

    def run(self, *arguments: str) -> str:
        """Runs a command to its end, and gives what it said."""
        done = subprocess.run(
            self.words(*arguments),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def killed(self, *arguments: str, when: Callable[[], bool]) -> None:
        """Starts a command, and kills it as a lost terminal does, only harder."""
        process = subprocess.Popen(
            self.words(*arguments),
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not when():
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def command(self, name: str, word: str, *arguments: str) -> None:
        """A stage of one command; of what it says, the last line with `word` in it is shown."""
        self.stage(name, lambda: last_line(self.run(*arguments), word))

    def stage(self, name: str, work: Callable[[], str]) -> None:
        """Times a stage, and prints it."""
        begin = time.perf_counter()
        said = work()
        seconds = time.perf_counter() - begin
        self.stages.append((name, seconds, said))
        print(f"| {name} | {seconds:.0f} s | {said} |", flush=True)


def step_of(run: Path) -> int:
    """The newest checkpoint's step."""
    found = [int(p.name.removeprefix("step-")) for p in run.glob("checkpoints/step-????????")]
    return max(found, default=0)


def last_line(said: str, word: str) -> str:
    """The last line with a word in it, as it stands."""
    return next((line.strip() for line in reversed(said.splitlines()) if word in line), "")


def asked(folder: Hour, run: str) -> str:
    """Starts the server, asks it one question, and ends it."""
    server = subprocess.Popen(
        folder.words("serve", run, "--port", str(PORT)),
        cwd=folder.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    body = {"messages": [{"role": "user", "content": "What is a cat?"}], "max_tokens": 16}
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        for _ in range(200):
            try:
                with urllib.request.urlopen(request, timeout=60) as reply:
                    return str(json.load(reply)["usage"]["completion_tokens"]) + " tokens answered"
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the server did not answer")
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()


def main() -> None:
    """Walks the hour."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("instructions", type=Path)
    parser.add_argument("--minutes", default="2")
    parser.add_argument("--steps", type=int, default=600)
    chosen = parser.parse_args()
    text, questions = str(chosen.text.resolve()), str(chosen.instructions.resolve())
    steps, every = chosen.steps, chosen.steps // 6
    with tempfile.TemporaryDirectory() as place:
        hour, runs = Hour(Path(place)), Path(place) / "runs"
        on_mine = [
            "try", "data.path=prepared/mine", f"data.tokenizer=bpe:{VOCABULARY}",
            f"model.vocab_size={VOCABULARY}", "model.context=256", "train.tokens_per_step=3072",
            f"train.steps={steps}", f"checkpoint.every={every}",
        ]  # fmt: skip
        print("| stage | wall time | what it said |\n|---|---|---|")
        hour.command("try", "now", "try", "--minutes", chosen.minutes)
        made = ["--out", "prepared/mine", "--tokenizer", f"bpe:{VOCABULARY}"]
        hour.command("own text", "training ", "prepare", text, *made)
        hour.command("doctor", "checks", "doctor", *on_mine)

        def kill_twice() -> str:
            run = runs / "mine"
            hour.killed("train", *on_mine, "--run", "runs/mine", when=lambda: step_of(run) >= every)
            first = step_of(run)
            hour.killed("resume", "runs/mine", when=lambda: step_of(run) >= 3 * every)
            return f"killed after the checkpoints of steps {first} and {step_of(run)}"

        hour.stage("train, killed twice", kill_twice)
        hour.command("resume", "val loss", "resume", "runs/mine")
        hour.command("doctor on the run", "checks", "doctor", "runs/mine")
        on_text = ["--data", text, "--documents", "passage"]
        hour.command("eval", chosen.text.stem, "eval", "runs/mine", *on_text)
        taught = ["--from", "runs/mine", f"data.path={questions}", "train.epochs=1"]
        hour.command("finetune", "val loss", "train", "sft-fgpt", *taught, "--run", "runs/chat")
        hour.command("chat", "", "chat", "runs/chat", "--prompt", "What is a cat?")
        hour.stage("serve", lambda: asked(hour, "runs/chat"))
        hour.command("export", "logits", "export", "runs/chat", "--to", "hf", "--out", "my-model")
        hour.command("report", "html", "report", "runs/mine", "--out", "page.html")
        total = sum(seconds for _, seconds, _ in hour.stages)
        print(f"| all | {total / 60:.1f} min | |")


if __name__ == "__main__":
    main()
