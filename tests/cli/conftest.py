"""A command line that is really run, and a little prepared data for it."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fromscratch.cli.json_shapes import SHAPES, check_output
from tests.forking.forks import PLAIN, Answer, Forks


def alone(*arguments: str, cwd: Path, **environment: str) -> Answer:
    """Runs a command in a process that imports what it needs."""
    done = subprocess.run(
        [sys.executable, "-m", "fromscratch", *arguments],
        cwd=cwd,
        env=os.environ | PLAIN | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def hold_against_its_shape(arguments: Sequence[str], answer: Answer) -> None:
    """What is printed with --json is JSON of the declared shape, and nothing else."""
    if "--json" not in arguments:
        return
    if answer.code == 2:
        assert answer.out == "", "a mistake is told on standard error"
        return
    verb = " ".join(arguments[: 2 if arguments[0] in ("data", "tokenizer", "logs") else 1])
    if verb in SHAPES and answer.out:
        check_output(verb, answer.out)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Path:
    """A folder with text, data prepared from it with two tokenizers, and a finished tiny run."""
    root = tmp_path_factory.mktemp("place")
    (root / "text").mkdir()
    for i in range(120):
        (root / f"text/{i}.txt").write_text(f"The number {i} is followed by {i + 1}.\n" * 20)
    for tokenizer in ("bytes", "bpe:300"):
        folder = f"data-{tokenizer.replace(':', '-')}"
        made = forks.run(
            "prepare", "text", "--out", folder, "--tokenizer", tokenizer,
            "--val-fraction", "0.1", cwd=root,
        )  # fmt: skip
        assert made.code == 0, made.err
    (root / "tiny.toml").write_text(TINY)
    done = forks.run("train", "tiny.toml", "--run", "run", cwd=root)
    assert done.code == 0, done.err
    return root


@pytest.fixture(scope="session")
def fromscratch(place: Path, forks: Forks) -> Callable[..., Answer]:
    """Runs the command line in `place`."""

    def call(*arguments: str, **environment: str) -> Answer:
        if environment:  # some of it is read while importing
            answer = alone(*arguments, cwd=place, **environment)
        else:
            answer = forks.run(*arguments, cwd=place)
        hold_against_its_shape(arguments, answer)
        return answer

    return call


TINY = """
[model]
family = "modern"
n_layer = 1
n_head = 2
d_model = 16
context = 32

[data]
path = "data-bytes"
tokenizer = "bytes"

[train]
steps = 6
tokens_per_step = 128
micro_batch = 2

[eval]
every = 3

[sample]
every = 3
prompts = ["The "]
max_new_tokens = 5

[checkpoint]
every = 2
"""
