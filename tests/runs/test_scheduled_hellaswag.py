"""HellaSwag on schedule: found before anything is spent, the same however a run is interrupted."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fromscratch.checkpoint.bundle import load_bundle
from fromscratch.evaluate.hellaswag import HellaSwag
from fromscratch.evaluate.hellaswag_items import choose, fingerprint, read_hellaswag
from fromscratch.evaluate.multiple_choice import answer_items, tally_of
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import read_json_lines
from fromscratch.foundation.names import RunPaths
from fromscratch.runs import session as session_module
from fromscratch.runs.assemble import new_run
from fromscratch.runs.pick_up import open_run
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.recipe_files import load_recipe
from fromscratch.track.mirror import history_of, numbers_of

N_ITEMS, CHOSEN = 40, 36  # two rounds of them
TINY = [
    "model.n_layer=1",
    "model.n_head=2",
    "model.d_model=16",
    "model.d_ff=32",
    "model.context=48",
    "model.vocab_size=257",
    "model.padded_vocab=264",
    "data.tokenizer=bytes",
    "data.val_fraction=0.2",
    "train.steps=6",
    "train.tokens_per_step=192",
    "train.micro_batch=2",
    "train.device=cpu",
    "train.precision=fp32",
    "schedule.warmup_steps=1",
    "eval.every=0",
    "sample.every=0",
    "checkpoint.every=2",
    "eval.hellaswag_every=2",
    f"eval.hellaswag_items={CHOSEN}",
    "eval.hellaswag=set.jsonl",
]


def silent(event: object) -> None:
    pass


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("material")
    (folder / "text").mkdir()
    for i in range(60):
        (folder / "text" / f"{i}.txt").write_text(f"line {i} of a text that repeats itself\n" * 4)
    rows = [
        {
            "activity_label": "A", "ctx_a": f"line {i}", "ctx_b": "", "ctx": f"line {i}",
            "endings": [f"of {w} {i}" for w in ("a text", "b", "that", "itself ") for _ in (0,)],
            "label": i % 4,
        }
        for i in range(N_ITEMS)
    ]  # fmt: skip
    (folder / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(material, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def recipe(*more: str) -> Recipe:
    return load_recipe("minigpt-124m", ["data.source=[]", "data.path=text", *TINY, *more])


def scores(run: str) -> list[dict[str, Any]]:
    """The rows without what depends on the clock."""
    rows = [r for r in read_json_lines(RunPaths(Path(run)).metrics) if "hellaswag_acc" in r]
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]


def test_rows_say_what_the_checkpoint_answers():
    # The micro-batch is found by a dry run in another process, which answers a few items, too.
    asked = recipe("eval.hellaswag_style=harness", "train.micro_batch=auto")
    assert new_run(asked, Path("run"), report=silent).train()
    rows = scores("run")
    assert [row["step"] for row in rows] == [0, 2, 4, 6]
    bundle = load_bundle(Path("run/checkpoints/step-00000006"))
    items = choose(read_hellaswag("set.jsonl"), CHOSEN)
    data = HellaSwag(items, "harness", bundle.tokenizer, "", N_ITEMS)
    result = tally_of(answer_items(bundle.model, data.encoded, batch_tokens=100))
    assert rows[-1] == {
        "step": 6,
        "tokens": rows[-1]["tokens"],
        "hellaswag_acc": result.acc,
        "hellaswag_acc_norm": result.acc_norm,
        "hellaswag_n": CHOSEN,
        "hellaswag_style": "harness",
    }
    events = list(read_json_lines(RunPaths(Path("run")).events))
    (about,) = [event["hellaswag"] for event in events if event["event"] == "started"]
    assert about["sha256"] == fingerprint(items)
    # Trackers show them under names of their own.
    shown = [numbers_of(e.row) for e in history_of(RunPaths(Path("run"))) if e.step == 6]
    (ours,) = [numbers for numbers in shown if "hellaswag/acc_norm" in numbers]
    assert ours["hellaswag/acc"] == result.acc
    assert not any(name.startswith("train/hellaswag") for numbers in shown for name in numbers)


def interrupt_at(patch: pytest.MonkeyPatch, question: int) -> None:
    """Has the n-th question whether to stop, in all, come after a SIGTERM."""
    answer, seen = session_module.tally, 0

    def tally(*a: Any, should_stop: Callable[[], bool], **k: Any) -> Any:
        def asked() -> bool:
            nonlocal seen
            seen += 1
            if seen == question:
                signal.raise_signal(signal.SIGTERM)
            return should_stop()

        return answer(*a, should_stop=asked, **k)

    patch.setattr(session_module, "tally", tally)


def test_an_interruption_while_it_answers_loses_and_doubles_nothing(
    monkeypatch: pytest.MonkeyPatch,
):
    question = 4  # the second of the two rounds at step 2
    assert new_run(recipe(), Path("whole"), report=silent).train()
    with monkeypatch.context() as patch:
        interrupt_at(patch, question)
        assert not new_run(recipe(), Path("run"), report=silent).train()
    step = 2 * ((question - 1) // 2)
    assert [row["step"] for row in scores("run")] == list(range(0, step, 2)), "half of it is none"
    # The recipe has the whole path: a run may be resumed from anywhere.
    elsewhere = Path("elsewhere")
    elsewhere.mkdir()
    run = Path("run").resolve()
    monkeypatch.chdir(elsewhere)
    assert open_run(run, report=silent).train()
    monkeypatch.chdir(run.parent)
    assert scores("run") == scores("whole")
    # And nothing of the training depends on it.
    assert new_run(recipe("eval.hellaswag_every=0"), Path("without"), report=silent).train()
    weights = {
        (Path(name) / "checkpoints/step-00000006/model.safetensors").read_bytes()
        for name in ("run", "whole", "without")
    }
    assert len(weights) == 1


OF_CHARACTERS = ["model.vocab_size=26", "model.padded_vocab=32"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("eval.hellaswag=gone.jsonl", ["eval.hellaswag", "gone.jsonl", "hellaswag_every=0"]),
        ("data.tokenizer=chars", ["eval.hellaswag", "tokenizer cannot say", "character"]),
    ],
)
def test_what_cannot_be_asked_is_said_before_anything_is_spent(override: str, said: list[str]):
    with pytest.raises(UserError) as caught:
        new_run(recipe(override, *OF_CHARACTERS), Path("run"), report=silent)
    for words in said:
        assert words in str(caught.value)
    assert not Path("run").exists()
    assert override.startswith("data") or not Path("prepared").exists(), "nor is text prepared"
