"""A place with prepared data, and instants at which something happens to a run."""

import contextlib
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# What the tests of this folder share lies beside them, and pytest puts no folder on the path.
sys.path.insert(0, str(Path(__file__).parent))
import instants
from command import call

WORDS = tuple("abcdefghijklmnop"[i:] for i in range(16))

RECIPE = """
name = "interrupted"

[model]
family = "gpt2"
n_layer = 2
n_head = 2
d_model = 32
context = 32
dropout = 0.1

[data]
tokenizer = "bytes"

[[data.source]]
name = "prose"
path = "prose"
weight = 2

[[data.source]]
name = "lists"
path = "lists"

[optim]
lr = 0.003

[schedule]
warmup_steps = 3

[train]
steps = 24
tokens_per_step = 256
micro_batch = 2

[eval]
every = 4

[sample]
every = 6
prompts = ["the ", "a "]
max_new_tokens = 6

[checkpoint]
every = 5
keep_last = 2
"""


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kinds of text, each as text and prepared with the bytes tokenizer, and a recipe."""
    root = tmp_path_factory.mktemp("place")
    draw = random.Random(0)
    for name, end in (("prose", ". "), ("lists", "\n- ")):
        (root / f"{name}-text").mkdir()
        for i in range(40):
            words = [draw.choice(WORDS) for _ in range(12)]
            (root / f"{name}-text" / f"{i}.txt").write_text(f"{i}{end}" + end.join(words))
        made = call(
            "prepare", root / f"{name}-text", "--out", root / name,
            "--tokenizer", "bytes", "--val-fraction", "0.15", "--documents", "file",
        )  # fmt: skip
        assert made.code == 0, made.err
    (root / "recipe.toml").write_text(RECIPE)
    return root


@pytest.fixture(scope="session")
def reference(place: Path) -> Path:
    """The run of RECIPE that nothing ever happened to."""
    with contextlib.chdir(place):
        done = call("train", "recipe.toml", "--run", "reference")
    assert done.code == 0, done.err
    return place / "reference"


@pytest.fixture
def run(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the test's own run of RECIPE goes."""
    monkeypatch.chdir(place)
    return tmp_path / "run"


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int, Callable[[], None]], None]:
    """`instants.at`, undone after the test."""

    def arrange(what: str, number: int, action: Callable[[], None]) -> None:
        instants.at(monkeypatch, what, number, action)

    return arrange
