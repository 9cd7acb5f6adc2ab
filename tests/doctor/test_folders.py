"""The doctor on prepared data, examples, runs and models: each spoilt in one way."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fromscratch.chat.conversations import messages_of
from fromscratch.chat.template import template_named
from fromscratch.checkpoint.bundle import save_model
from fromscratch.data.examples import Examples
from fromscratch.data.make_examples import ExampleSettings, make_examples
from fromscratch.data.options import PrepareOptions
from fromscratch.data.prepare import prepare
from fromscratch.data.sources import Reading, Source
from fromscratch.doctor.checks import all_checks, compare_runs, examine_folder
from fromscratch.doctor.data_checks import LOOKED_AT, DataSubject
from fromscratch.doctor.example_tokens import first_example
from fromscratch.doctor.finding import Finding
from fromscratch.doctor.regrets import REGRETS
from fromscratch.logs.importing import import_logs
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.runs.assemble import new_run
from fromscratch.runs.recipe_files import load_recipe
from fromscratch.tokenizer.build import bytes_tokenizer
from fromscratch.tokenizer.special import with_special_tokens
from tests.random_weights import randomise


def found(folder: Path) -> list[Finding]:
    return examine_folder(folder).findings


def ids(folder: Path) -> list[str]:
    return [f"{finding.id} {finding.severity}" for finding in found(folder)]


def test_every_check_is_of_a_regret_that_is_written_down() -> None:
    known = {regret.id for regret in REGRETS}
    assert {check.id for check in all_checks()} <= known
    assert len({check.id for check in all_checks()}) >= 25


# --- prepared text --------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Healthy data: long documents, enough of them held out."""
    folder = tmp_path / "text"
    folder.mkdir()
    for i in range(130):
        words = " ".join(f"w{(i * 7919 + j * j) % 997}" for j in range(300))
        (folder / f"{i}.txt").write_text(f"Text {i}. {words}")
    options = PrepareOptions(tokenizer="bytes", val_fraction=0.15, documents="file")
    return prepare([Source("text", str(folder))], tmp_path / "data", options).folder


def test_healthy_data_has_nothing_to_regret(data: Path) -> None:
    assert found(data) == []


def test_a_shard_that_lost_its_end_is_refused(data: Path) -> None:
    shard = data / "train-00000.npy"
    shard.write_bytes(shard.read_bytes()[:-2])
    (finding,) = found(data)
    assert (finding.id, finding.severity) == ("R11", "refused")
    assert str(shard) in finding.what


def test_data_that_was_never_finished_is_refused(data: Path) -> None:
    (data / "manifest.json").unlink()
    (data / "INCOMPLETE").write_text("fromscratch prepare text --out data\n")
    (finding,) = found(data)
    assert (finding.id, finding.severity) == ("R10", "refused")
    assert "interrupted before it finished" in finding.what


def test_text_that_changed_since_is_named(data: Path, tmp_path: Path) -> None:
    later = time.time() + 60
    for name in ("3.txt", "77.txt"):
        os.utime(tmp_path / "text" / name, (later, later))
    (finding,) = found(data)
    assert finding.id == "R13"
    assert "3.txt and 1 more was written after this data was prepared" in finding.what


def test_nothing_held_out_and_chat_markers_as_text(tmp_path: Path) -> None:
    folder = tmp_path / "text"
    folder.mkdir()
    for i in range(40):
        (folder / f"{i}.txt").write_text(f"<|user|>What is {i}?<|assistant|>It is {i}. " * 90)
    options = PrepareOptions(
        tokenizer="bytes", val_fraction=0.0, allow_no_validation=True, documents="file"
    )
    data = prepare([Source("text", str(folder))], tmp_path / "data", options).folder
    assert ids(data) == ["R04 warned", "R49 warned"]


def test_so_much_text_is_read_and_no_more(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    real = DataSubject(data).manifest

    def count(folder: Path, options: object) -> object:
        read.append(options.most_tokens)  # type: ignore[attr-defined]
        return real_audit(folder, options)  # type: ignore[arg-type]

    import fromscratch.doctor.data_checks as module

    real_audit = module.audit
    monkeypatch.setattr(module, "audit", count)
    assert found(data) == []
    assert read == [LOOKED_AT], "all checks of the text share one look"
    assert real.shards


# --- conversations --------------------------------------------------------------------------------

TEMPLATE = template_named("default")


def examples(tmp_path: Path, records: list[dict], **settings: object) -> Path:
    (tmp_path / "talk.json").write_text(json.dumps(records))
    folder = tmp_path / "examples"
    make_examples(
        Source("talk", str(tmp_path / "talk.json"), Reading(record=messages_of)),
        folder,
        with_special_tokens(bytes_tokenizer(), TEMPLATE.special_tokens),
        ExampleSettings(template="default", context=256, **settings),  # type: ignore[arg-type]
        watch=lambda event: None,
    )
    return folder


def talk(n: int, answer: str = "It is so, and so it is.") -> list[dict]:
    return [{"prompt": f"Is {i} so?", "completion": f"{answer} {i}"} for i in range(n)]


def test_healthy_conversations(tmp_path: Path) -> None:
    assert found(examples(tmp_path, talk(60), val_fraction=0.2)) == []


def test_no_example_held_out(tmp_path: Path) -> None:
    assert ids(examples(tmp_path, talk(20), val_fraction=0.0)) == ["R04 warned"]


def test_a_stop_token_that_is_not_learned(tmp_path: Path) -> None:
    folder = examples(tmp_path, talk(60), val_fraction=0.2)
    tokens = np.load(folder / "ids.npy")
    learned = np.load(folder / "learned.npy")
    tokenizer = with_special_tokens(bytes_tokenizer(), TEMPLATE.special_tokens)
    learned[tokens == tokenizer.special_ids["<|end|>"]] = False
    np.save(folder / "learned.npy", learned)
    (finding,) = found(folder)
    assert finding.id == "R50"
    assert "<|end|>" in finding.what


def test_answers_of_a_letter_after_pages(tmp_path: Path) -> None:
    records = [{"prompt": f"{i} " + "word " * 40, "completion": "y"} for i in range(60)]
    assert ids(examples(tmp_path, records, val_fraction=0.2)) == ["R51 warned"]


def test_many_that_are_too_long(tmp_path: Path) -> None:
    records = [*talk(50), *talk(20, "long " * 100)]
    (finding,) = found(examples(tmp_path, records, val_fraction=0.2))
    assert finding.id == "R54"
    assert "20 of 70 examples (29%) are too long and left out: 20 by the context" in finding.what
    assert finding.fix == "give shorter examples, or a model of more context"


def test_an_example_is_shown_token_by_token_with_its_mask(tmp_path: Path) -> None:
    folder = examples(tmp_path, [{"prompt": "Hi", "completion": "Yo"}] * 2, split="order",
                      val_fraction=0.0)  # fmt: skip
    shown = first_example(Examples(folder))
    by_hand = [
        (False, ("<|user|>", "H", "i", "<|end|>", "<|assistant|>")),
        (True, ("Y", "o", "<|end|>")),
    ]
    assert [(s.learned, s.tokens) for s in shown] == by_hand


# --- models ---------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    config = ModelConfig(family="gpt2", n_layer=1, n_head=2, d_model=16, context=16, vocab_size=257)
    folder = tmp_path / "model"
    folder.mkdir()
    save_model(folder, randomise(GPT(config)), bytes_tokenizer())
    return folder


def spoil_a_shape(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["transformer.wpe.weight"] = torch.zeros(8, 16)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def lose_a_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["transformer.h.0.mlp.c_fc.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def only_a_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def a_pickle_beside(folder: Path) -> None:
    (folder / "training_args.bin").write_bytes(b"\x80\x04.")


def code_to_run(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "modeling.py--Model"}
    (folder / "config.json").write_text(json.dumps(config))


def a_template_of_others(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = "{{ messages[0].content }}"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def a_template_without_its_tokens(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["fromscratch_chat_template"] = "chatml"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (spoil_a_shape, "R48 refused"),
        (lose_a_tensor, "R48 refused"),
        (only_a_pickle, "R56 refused"),
        (a_pickle_beside, "R56 warned"),
        (code_to_run, "R56 warned"),
        (a_template_of_others, "R53 warned"),
        (a_template_without_its_tokens, "R49 warned"),
    ],
)
def test_a_spoilt_model(model: Path, spoil: Callable[[Path], None], expected: str) -> None:
    assert found(model) == []
    spoil(model)
    assert ids(model)[:1] == [expected]


# --- runs -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps, stopped before its end."""
    root = tmp_path_factory.mktemp("runs")
    text = root / "text.txt"
    text.write_text("\n\n".join(f"Paragraph {i} says {i * i} and more." for i in range(200)))
    options = PrepareOptions(tokenizer="bytes", documents="paragraph", val_fraction=0.1)
    data = prepare([Source("text", str(text))], root / "data", options).folder
    recipe = load_recipe(
        "try",
        [
            f"data.path={data}", "data.tokenizer=bytes", "model.vocab_size=257", "model.context=32",
            "model.n_layer=1", "model.n_head=2", "model.d_model=16", "model.d_ff=32",
            "train.steps=4", "train.tokens_per_step=128", "train.micro_batch=4", "sample.every=0",
            "train.device=cpu",
        ],
    )  # fmt: skip
    new_run(recipe, root / "run", report=lambda event: None).train()
    return root / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run", symlinks=True))


def of_the_run(run: Path) -> list[str]:
    """Without what is said of its recipe and data, which are tiny."""
    return [f"{f.id} {f.severity}" for f in found(run) if f.id != "R15" and f.about == str(run)]


def test_a_run_that_ended_well(run: Path) -> None:
    assert of_the_run(run) == []


def test_a_run_is_looked_at_with_its_recipe_and_its_data(run: Path, finished: Path) -> None:
    """Its paragraphs have 30 tokens and its windows 32: no window holds many of them."""
    others = {(f.id, Path(f.about).name) for f in found(run) if f.about != str(run)}
    assert others == {("R47", "try"), ("R04", "data"), ("R15", "data")}
    assert "R52 warned" in ids(finished.parent / "data"), "by itself, windows of 1,024 are meant"


def test_a_run_whose_checkpoints_are_gone_is_refused(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    assert of_the_run(run)[0] == "R40 refused"


def test_a_run_whose_recipe_was_edited(run: Path) -> None:
    recipe = run / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("clip = 1.0", "clip = 2.0"))
    assert of_the_run(run) == ["R37 warned"]


def event(run: Path, **content: object) -> None:
    with open(run / "events.jsonl", "a") as file:
        file.write(json.dumps({"time": "2026-01-01T00:00:00+00:00", **content}) + "\n")


def test_what_a_run_went_through(run: Path) -> None:
    event(run, event="consumed_data", step=0, message="it was trained on 9 windows of this before")
    event(run, event="skipped_step", step=2, message="loss is nan")
    event(run, event="rolled_back", step=3, message="to step 2")
    event(run, event="stopped", step=3)
    assert of_the_run(run) == ["R26 warned", "R03 warned", "R42 warned"]
    (refused,) = (f for f in found(run) if f.id == "R26")
    assert "refused updates: 1; ways back to a checkpoint: 1" in refused.what


def test_a_stopped_run_whose_data_is_gone_is_refused(run: Path, finished: Path) -> None:
    event(run, event="stopped", step=3)
    moved = finished.parent / "data-moved"
    (finished.parent / "data").rename(moved)
    try:
        assert of_the_run(run)[0] == "R13 refused"
    finally:
        moved.rename(finished.parent / "data")


def test_runs_on_other_text_are_not_compared_by_their_loss(run: Path, finished: Path) -> None:
    assert compare_runs([run, finished]).findings == []
    events = run / "events.jsonl"
    events.write_text(events.read_text().replace('"tokenizer": "bytes"', '"tokenizer": "gpt2"'))
    (finding,) = compare_runs([run, finished]).findings
    assert finding.id == "R44"
    assert "different tokenizers" in finding.what
    assert f"fromscratch eval {run} {finished} --data TEXT" in finding.fix


def test_the_logs_of_a_real_run_show_what_its_author_regretted(
    shared_data: Path, tmp_path: Path
) -> None:
    """rangeflow: nothing held out, text switched without a word, a schedule changed by hand."""
    folder = tmp_path / "rangeflow"
    import_logs([shared_data / "logs" / "rangeflow"], folder)
    findings = {finding.id: finding.what for finding in found(folder)}
    assert list(findings) == ["R04", "R01", "R37"]
    assert "within a few steps of 13,720" in findings["R01"]
    assert "at step 15,600" in findings["R37"]
