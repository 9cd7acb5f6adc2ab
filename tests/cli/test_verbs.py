"""The verbs, really run."""

import json
import shutil
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

VERBS = ["try", "plan", "prepare", "tokenizer train", "tokenizer compare",
         "tokenizer inspect", "train", "resume", "generate", "chat", "report", "data show",
         "data merge", "doctor", "bench", "eval", "judge", "watch"]  # fmt: skip


def test_help_lists_every_verb(fromscratch: Callable):
    answer = fromscratch("--help")
    assert answer.code == 0
    for verb in VERBS:
        assert re.search(rf"^  {verb.split()[0]} ", answer.out, re.MULTILINE), verb


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, fromscratch: Callable):
    answer = fromscratch(*verb.split(), "--help")
    assert answer.code == 0
    assert f"Example: fromscratch {verb.split()[0]}" in answer.out


@pytest.mark.parametrize("arguments", [["--help"], ["plan", "modern-124m", "--json"]])
def test_planning_and_help_do_not_load_torch(arguments: list[str]):
    code = (
        "import sys\n"
        "from fromscratch.cli.main import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        "sys.stderr.write(str('torch' in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "False"


def test_making_text_does_not_load_torch_s_compiler(place: Path):
    """It takes longer to import than a small model takes to load, and nothing of it is used."""
    code = (
        "import sys, torch\n"
        "from fromscratch.cli.main import main\n"
        "from fromscratch.model.config import ModelConfig\n"
        "from fromscratch.model.gpt import GPT\n"
        "shape = dict(n_layer=1, n_head=2, d_model=16, context=8, vocab_size=32, family='gpt2')\n"
        "for positions in ('learned', 'sinusoidal', 'rope'):\n"
        "    with torch.device('meta'):\n"
        "        GPT(ModelConfig(**shape, positions=positions))\n"
        "try:\n    main(['generate', 'run', '--max-new-tokens', '2'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "sys.stderr.write(str('torch._dynamo' in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=True
    )
    assert done.stderr.endswith("False")


def test_plan_prints_json_with_the_contract_s_keys(fromscratch: Callable):
    plan = json.loads(fromscratch("plan", "minigpt-124m", "--json").out)
    assert {
        "recipe", "parameters", "tokens_per_step", "steps", "total_tokens", "flops_per_token",
        "chinchilla_tokens", "checkpoint_bytes",
    } <= plan.keys()  # fmt: skip
    parameters = plan["parameters"]
    assert (parameters["total"], plan["steps"]) == (124_475_904, 953)
    assert (parameters["decayed_tensors"], parameters["decayed"]) == (50, 124_354_560)
    assert (parameters["not_decayed_tensors"], parameters["not_decayed"]) == (98, 121_344)
    assert plan["total_tokens"] == 953 * 524_288


def test_plan_for_people_names_the_recipe_and_how_to_start_it(fromscratch: Callable):
    answer = fromscratch("plan", "rangeflow-124m")
    assert answer.code == 0
    assert "124,439,808 parameters" in answer.out
    assert "start with: fromscratch train rangeflow-124m" in answer.out


def test_a_run_resumes_where_it_ended_and_goes_on(fromscratch: Callable, place: Path):
    answer = fromscratch("train", "tiny.toml", "--run", "longer")
    assert answer.code == 0, answer.err
    assert "finished 6 steps" in answer.out
    assert "has done all its 6 steps" in fromscratch("resume", "longer").out
    answer = fromscratch("resume", "longer", "train.steps=8")
    assert answer.code == 0, answer.err
    rows = [json.loads(line) for line in (place / "longer/metrics.jsonl").open()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5, 6, 7, 8]
    events = [json.loads(line) for line in (place / "longer/events.jsonl").open()]
    assert any(e["event"] == "recipe_changed" and "train.steps=8" in e["message"] for e in events)


def test_generate_continues_and_repeats_itself_with_a_seed(fromscratch: Callable):
    call = ["generate", "run", "The ", "--max-new-tokens", "12", "--seed", "3"]
    first = fromscratch(*call)
    assert first.code == 0, first.err
    assert first.out.startswith("The ")
    assert fromscratch(*call).out == first.out
    named = json.loads(fromscratch(*call, "--json").out)
    assert first.out == named["prompt"] + named["text"] + "\n"
    assert re.fullmatch("[0-9a-f]{64}", named["sha256"])


def test_report_writes_a_page_and_a_picture(fromscratch: Callable, place: Path):
    answer = fromscratch("report", "run", "--picture", "picture.png")
    assert answer.code == 0, answer.err
    assert "bits per byte" in (place / "run/report.html").read_text(encoding="utf-8")
    assert (place / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_tokenizer_train_and_inspect(fromscratch: Callable, place: Path):
    call = ["tokenizer", "train", "text", "--vocab-size", "280", "--out"]
    assert fromscratch(*call, "tok-a").code == 0
    assert fromscratch(*call, "tok-b").code == 0
    look = ["tokenizer", "inspect", "--text", "number 12", "--json"]
    one, two = (json.loads(fromscratch(*look, folder).out) for folder in ("tok-a", "tok-b"))
    assert one == two
    assert one["vocab_size"] == 280
    assert "tokens" in fromscratch("tokenizer", "inspect", "tok-a", "--text", "number").out


@pytest.mark.slow
def test_try_on_one_s_own_text(fromscratch: Callable, place: Path):
    own = place / "own"  # other tests read the folder that is there
    shutil.copytree(place / "text", own)
    (own / "picture.jpg").write_bytes(b"\xff\xd8\x00")
    answer = fromscratch("try", "--data", "own", "--minutes", "0.02", "--run", "mine")
    assert answer.code == 0, answer.err
    assert "1 files were skipped" in answer.out
    for row in ("uniform", "unigram", "gzip -9", "xz -9", "at the start", "now"):
        assert row in answer.out
    for command in ("fromscratch generate mine", "fromscratch resume mine", "fromscratch try"):
        assert command in answer.out
    assert (place / "mine/report.html").is_file()
    assert "\x1b[" not in answer.out + answer.err, "no colours in a pipe"


def test_a_run_s_best_checkpoint_opens_in_transformers_as_it_is(place: Path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from fromscratch.checkpoint.bundle import load_bundle

    best = place / "run/checkpoints/best"
    theirs = AutoModelForCausalLM.from_pretrained(best).eval()
    tokenizer = AutoTokenizer.from_pretrained(best)
    ours = load_bundle(place / "run")
    ids = tokenizer("The number 7", return_tensors="pt").input_ids
    assert ids[0].tolist() == ours.tokenizer.encode("The number 7")
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, ours.model(ids), atol=1e-4, rtol=0)
    text = theirs.generate(ids, max_new_tokens=8, do_sample=False)[0]
    assert tokenizer.decode(text).startswith("The number 7")
