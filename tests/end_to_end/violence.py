"""Kills training processes without warning, and starts them again, until they have finished.

A `Victim` is a run that is trained by real processes. Its plan is a list of ways to kill; each is
carried out on a new process (`train` first, `resume` from then on), and one more is left alone.
Instants are drawn from a seeded generator; what the process is doing is watched on disk, so that
the kills land where they are meant to however fast the machine is. A process that finishes before
its turn is not counted, and whoever asks for more kills starts another victim.
"""

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from command import start

from tests.forking.forks import Forks, Process

Running = Process | subprocess.Popen[bytes]
PATIENCE = 240.0
"""Seconds after which a process that does nothing is taken for a failure."""


class Victim:
    """One run, trained by processes that get killed.

    Args:
        folder: Where processes start; the recipe is in it.
        recipe: Its file name.
        run: The run folder.
        seed: Of the instants.
        forks: Where processes come from that need not be killed while they load libraries.
    """

    def __init__(self, folder: Path, recipe: str, run: Path, seed: int, forks: Forks) -> None:
        self.folder = folder
        self.forks = forks
        self.recipe = recipe
        self.run = run
        self.draw = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.said: list[str] = []

    def suffer(self, plan: list[str]) -> None:
        """Carries out the plan, then lets the run finish."""
        ways: dict[str, Callable[[Running], bool]] = {
            "first instants": self._first_instants,
            "before the first checkpoint": self._before_first_checkpoint,
            "before the first step": self._before_first_step,
            "training": self._training,
            "writing": self._writing,
        }
        for way in plan:
            process = self._start(loading=way == "first instants")
            try:
                landed = ways[way](process)
            finally:
                process.kill()
                process.wait()
            # A process that had ended by itself has not been killed.
            if process.returncode == -signal.SIGKILL:
                self.kills[way if landed else "elsewhere"] += 1
            else:
                assert process.returncode == 0, self._why(process)
                return
        process = self._start()
        assert process.wait(PATIENCE) == 0, self._why(process)

    # --- ways to kill: each returns once the instant has come -------------------------------------

    def _first_instants(self, process: Running) -> bool:
        """Anywhere while Python starts, libraries load, data and run are opened."""
        with suppress(subprocess.TimeoutExpired):
            process.wait(self.draw.uniform(0.0, 2.0))
        return True

    def _before_first_checkpoint(self, process: Running) -> bool:
        """The run folder is there, a checkpoint is not."""
        self._until(process, lambda: self.run.is_dir())
        self._pause(0.05)
        return not any(self._folders(""))

    def _before_first_step(self, process: Running) -> bool:
        """The session says that it begins: the first step is not done, or has just been."""
        sessions = self._count("events.jsonl", '"started"')
        self._until(process, lambda: self._count("events.jsonl", '"started"') > sessions)
        return True

    def _training(self, process: Running) -> bool:
        """Some steps on: more than nothing, so that the whole comes to an end."""
        self._before_first_step(process)
        have, more = self._count("metrics.jsonl", '"loss"'), self.draw.randint(2, 9)
        self._until(process, lambda: self._count("metrics.jsonl", '"loss"') >= have + more)
        self._pause(0.04)
        return True

    def _writing(self, process: Running) -> bool:
        """A checkpoint is being written: stopped first, to see that the kill will land in it."""
        self._before_first_step(process)
        while process.poll() is None:
            self._until(process, lambda: any(self._folders(".tmp")), nap=0.0)
            self._pause(0.006)
            process.send_signal(signal.SIGSTOP)
            if any(self._folders(".tmp")):
                return True
            process.send_signal(signal.SIGCONT)
        return False

    # --- watching ---------------------------------------------------------------------------------

    def _until(self, process: Running, happened: Callable[[], bool], nap: float = 0.001) -> None:
        begin = time.monotonic()
        while process.poll() is None and not happened():
            assert time.monotonic() - begin < PATIENCE, "nothing happens"
            time.sleep(nap)

    def _pause(self, longest: float) -> None:
        time.sleep(self.draw.uniform(0.0, longest))

    def _folders(self, suffix: str) -> Iterator[str]:
        for path in (self.run / "checkpoints").glob(f"step-*{suffix}"):
            yield path.name

    def _count(self, file: str, text: str) -> int:
        with suppress(FileNotFoundError):
            return (self.run / file).read_text("utf-8", errors="replace").count(text)
        return 0

    # --- processes --------------------------------------------------------------------------------

    def _start(self, *, loading: bool = False) -> Running:
        """As a person would: resume where there is a run, else start one."""
        log = self.run.with_suffix(f".{len(self.said)}.log")
        self.said.append(str(log))
        words = ["train", self.recipe, "--run", str(self.run)]
        if (self.run / "recipe.toml").is_file():
            words = ["resume", str(self.run)]
        with open(log, "wb") as stderr:
            if loading:
                return start(*words, cwd=self.folder, stderr=stderr)
            return self.forks.start(*words, cwd=self.folder, stderr=stderr)

    def _why(self, process: Running) -> str:
        return f"exit code {process.returncode}: {Path(self.said[-1]).read_text()[-3000:]}"
