"""The micro-batch that is found: the right one, by real trials, and without a trace in the run."""

import contextlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import read_json_lines
from fromscratch.plan.memory import divisors
from fromscratch.runs.assemble import new_run
from fromscratch.runs.climb import best_of, climb, fast_enough
from fromscratch.runs.micro_batch import settle_micro_batch
from fromscratch.runs.pick_up import open_run
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.recipe_files import load_recipe
from fromscratch.runs.trials import Trial, Trials
from fromscratch.tokenizer.build import chars_tokenizer

RECIPE = """
[model]
family = "gpt2"
n_layer = 2
n_head = 2
d_model = 32
context = 32
dropout = 0.1
[data]
path = "text"
tokenizer = "bytes"
val_fraction = 0.2
[train]
steps = 5
tokens_per_step = 256
device = "cpu"
[eval]
every = 2
[sample]
every = 2
prompts = ["line "]
max_new_tokens = 4
[checkpoint]
every = 3
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")


def silent(event: object) -> None:
    pass


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe and its text, in a folder of their own."""
    (tmp_path / "text").mkdir()
    for i in range(60):
        (tmp_path / f"text/{i}.txt").write_text(f"line {i} of a text that repeats itself\n" * 5)
    (tmp_path / "tiny.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tiny(*overrides: str) -> Recipe:
    return load_recipe("tiny.toml", overrides)


# --- which is taken -------------------------------------------------------------------------------


def made(n: int, speed: float, *, fits: bool = True) -> Trial:
    """A trial as one might come out."""
    problem = None if fits else "out of memory"
    return Trial("fp32", n, 1.0, speed if fits else 0.0, 1.0, 1, 0.1, True, "d", problem, not fits)


@given(windows=st.integers(1, 3000), room=st.integers(0, 4000))
def test_the_largest_that_fits_is_found_however_close(windows: int, room: int):
    candidates = divisors(windows)
    trials = climb(candidates, lambda n: made(n, 1.0, fits=n <= room), lambda _: False)
    chosen = best_of(trials, largest=True)
    expected = max((n for n in candidates if n <= room), default=None)
    assert (None if chosen is None else chosen.micro_batch) == expected
    tried = [t.micro_batch for t in trials]
    assert len(tried) == len(set(tried)), "none is tried twice"


def test_of_equally_fast_ones_a_gpu_takes_the_largest_and_a_cpu_the_smallest():
    trials = [made(1, 50), made(2, 99), made(4, 100), made(8, 98.5), made(16, 90)]
    trials.append(made(32, 0, fits=False))
    largest, smallest = best_of(trials, largest=True), best_of(trials, largest=False)
    assert largest is not None
    assert smallest is not None
    assert (largest.micro_batch, smallest.micro_batch) == (8, 2)
    assert best_of([made(1, 0, fits=False)], largest=True) is None


def test_a_climb_ends_where_larger_ones_are_no_faster():
    speed = {1: 50.0, 2: 100.0, 4: 101.0, 8: 99.0, 16: 300.0}
    trials = climb(list(speed), lambda n: made(n, speed[n]), fast_enough)
    assert [t.micro_batch for t in trials] == [1, 2, 4, 8]


# --- by real trials -------------------------------------------------------------------------------


def test_a_run_with_auto_is_the_run_with_its_number():
    automatic = new_run(tiny("train.micro_batch=auto"), Path("automatic"), report=silent)
    found = automatic.recipe.train.micro_batch
    assert isinstance(found, int)
    assert 8 % found == 0
    assert f"micro_batch = {found}" in automatic.paths.recipe.read_text()
    assert automatic.train()
    by_hand = new_run(tiny(f"train.micro_batch={found}"), Path("by-hand"), report=silent)
    assert by_hand.train()
    weights = by_hand.state.model.state_dict()
    for name, value in automatic.state.model.state_dict().items():
        assert torch.equal(value, weights[name]), name

    def losses(session) -> list[object]:
        rows = list(read_json_lines(session.paths.metrics))
        return [(r["step"], r.get("loss"), r.get("val_loss")) for r in rows]

    assert losses(automatic) == losses(by_hand)
    (note,) = [e for e in read_json_lines(automatic.paths.events) if e["event"] == "micro_batch"]
    assert note["message"].startswith(f"{found} windows at a time")
    assert "tokens/s" in note["message"]
    started = [e for e in read_json_lines(automatic.paths.events) if e["event"] == "started"]
    assert started[0]["peak"]["from"] == "a timed matrix product"
    assert not [p for p in Path().iterdir() if p.name.startswith(".")], "no scratch folder is left"


@linux
def test_nothing_goes_on_when_the_program_that_tries_is_killed(place: Path):
    """Of a search that is killed, neither the other process nor its folder stays behind."""
    program = subprocess.Popen(
        [
            sys.executable, "-m", "fromscratch", "train", "tiny.toml", "--run", "new",
            "train.micro_batch=auto", "train.tokens_per_step=1048576", "model.n_layer=8",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    scratch = place / ".new.trial"
    assert eventually(scratch.exists)
    program.kill()
    program.wait()
    assert eventually(lambda: not scratch.exists())
    assert eventually(lambda: not workers_on(scratch))


def eventually(holds: Callable[[], bool]) -> bool:
    for _ in range(1200):
        if holds():
            return True
        time.sleep(0.1)
    return False


def workers_on(scratch: Path) -> list[Path]:
    """Processes that have a file below the folder open, or work in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(scratch) in str(link.readlink()) for link in (process / "fd").iterdir()):
                found.append(process)
    return found


def test_a_resume_can_find_it_anew():
    first = new_run(tiny("train.micro_batch=1"), Path("run"), report=silent)
    first.config = first.config.__class__(**(vars(first.config) | {"steps": 3}))
    first.train()
    again = open_run(Path("run"), ["train.micro_batch=auto"], report=silent)
    found = again.recipe.train.micro_batch
    assert isinstance(found, int)
    assert f"micro_batch = {found}" in Path("run/recipe.toml").read_text()
    assert again.train()
    events = list(read_json_lines(again.paths.events))
    assert [e["step"] for e in events if e["event"] == "micro_batch"] == [3]


@linux
def test_what_does_not_fit_is_said_and_what_fits_is_tried_after_it():
    # A model of 12 MB, with optimiser and gradients 50: 300 are enough for it, not for 4,096 rows.
    recipe = tiny(
        "model.d_model=256", "model.d_ff=4096", "model.context=64", "train.tokens_per_step=524288"
    )
    with Trials(recipe, Path("scratch"), allowed=300 * 2**20) as trials:
        large = trials.attempt(4096)
        assert large.out_of_memory, large.problem
        small = trials.attempt(1)
        assert small.problem is None or small.peak_bytes > 300 * 2**20
        assert small.tokens_per_s > 0
    assert not Path("scratch").exists()


@linux
def test_a_fixed_one_that_does_not_fit_is_refused_before_the_first_step(place: Path):
    limit = 1_200 * 2**20  # of what the program may take; torch alone has some 300 MB
    done = subprocess.run(
        [
            sys.executable, "-m", "fromscratch", "train", "tiny.toml", "--run", "new",
            "model.d_model=256", "model.d_ff=4096", "model.context=64",
            "train.tokens_per_step=524288", "train.micro_batch=4096",
        ],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "train.micro_batch = 4096 does not fit into the memory of cpu" in done.stderr
    assert "train.micro_batch=auto" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place / "new").exists()
    assert not (place / ".new.trial").exists()


@linux
@pytest.mark.slow
def test_what_does_not_fit_any_more_is_refused_before_a_resume_goes_on(place: Path):
    """R39: nor does a resume find out hours later; the run stays where it stood."""
    shape = ["model.d_model=256", "model.d_ff=4096", "model.context=64", "sample.every=0"]
    run = new_run(tiny(*shape, "train.tokens_per_step=64", "train.micro_batch=1", "train.steps=1"),
                  Path("run"), report=silent)  # fmt: skip
    assert run.train()
    before = Path("run/recipe.toml").read_bytes(), Path("run/metrics.jsonl").read_bytes()
    limit = 1_200 * 2**20
    done = subprocess.run(
        [
            sys.executable, "-m", "fromscratch", "resume", "run", "train.steps=2",
            "train.tokens_per_step=524288", "train.micro_batch=4096",
        ],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "train.micro_batch = 4096 does not fit into the memory of cpu" in done.stderr
    assert (Path("run/recipe.toml").read_bytes(), Path("run/metrics.jsonl").read_bytes()) == before


@linux
def test_a_trial_validates_samples_and_saves():
    """R39: what of them cannot be done is the trial's problem, and not that of the run's night."""
    recipe = tiny("train.micro_batch=1")
    (folder,) = new_run(recipe, Path("run"), report=silent).data.folders.values()
    letters = Path("letters")
    letters.mkdir()
    chars_tokenizer(["abc"]).save(letters)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Trials(recipe, Path("scratch")) as trials:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # too little for the weights
        try:
            timed = trials.attempt(1)  # starts the process, which keeps the limit
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert timed.problem is None
        assert timed.val_tokens_per_s > 0
        trials.tokenizer = letters  # which cannot spell the recipe's prompt
        assert "'l'" in str(trials.attempt(1).problem)
        trials.tokenizer = folder
        assert "could not be saved" in str(trials.attempt(1).problem)


def test_with_several_processes_it_divides_the_share_of_each(tmp_path: Path):
    session = new_run(tiny("train.micro_batch=1"), Path("run"), report=silent)
    (folder,) = session.data.folders.values()
    heard: list[str] = []
    settled = settle_micro_batch(
        tiny("train.micro_batch=auto"), Path("other"), folder, say=heard.append, ranks=4
    )
    assert settled.recipe.micro_batch in (1, 2)  # of the two windows that each has
    assert [line.split(":")[0] for line in heard] == ["micro-batch 1", "micro-batch 2"]


def test_a_recipe_with_auto_keeps_its_word_in_toml():
    recipe = tiny("train.micro_batch=auto")
    assert 'micro_batch = "auto"' in recipe.to_toml()
    assert json.loads(recipe.model_dump_json())["train"]["micro_batch"] == "auto"
    assert recipe.with_micro_batch(4).micro_batch == 4
    with pytest.raises(UserError, match="Valid: 1, 2, 4, 8"):
        recipe.with_micro_batch(3)
