"""Folders for transformers, and the card that tells where the model comes from."""

import json

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from fromscratch.chat.conversations import Message
from fromscratch.chat.rendering import prompt_ids
from fromscratch.checkpoint.bundle import load_bundle, save_model
from fromscratch.evaluate.records import (
    EvalRecord,
    EvaluatedData,
    EvaluatedModel,
    Metric,
    append_record,
)
from fromscratch.export.to_hf import export_hf
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import append_json_line
from fromscratch.foundation.names import RunPaths, step_folder
from tests.export.making import bundle

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", ["gpt2", "modern"])
def test_a_folder_is_the_model(family, dtype, tmp_path):
    model = bundle(family, chat="chatml", padded_vocab=320, context=96)
    made = export_hf("made", model, tmp_path / "out", dtype=dtype)
    assert made.reader.relative < 1e-5
    assert (made.rounding.largest == 0) == (dtype == "float32")
    stored = load_file(tmp_path / "out/model.safetensors")
    assert {t.dtype for t in stored.values()} == {DTYPES[dtype]}
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert theirs.dtype == DTYPES[dtype]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    asked = (Message("user", "What is <|im_start|>, and what is \u00e9?"),)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": asked[0].content}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=False,
    )
    assert ids[0].tolist() == prompt_ids(model.template, model.tokenizer, asked)
    n = model.model.config.vocab_size
    with torch.no_grad():
        ours, reference = model.model(ids)[..., :n], theirs.float()(ids).logits
    tolerance = {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.2}[dtype]
    torch.testing.assert_close(reference, ours, atol=tolerance, rtol=0)


def test_what_cannot_be_exported_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="norm_placement"):
        export_hf("x", bundle("gpt2", norm_placement="post"), tmp_path / "out")
    model = bundle("gpt2")
    with torch.no_grad():
        model.model.blocks[0].mlp.up.weight[0, 0] = 1e5
    with pytest.raises(UserError, match="too large for float16"):
        export_hf("x", model, tmp_path / "out", dtype="float16")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("")
    with pytest.raises(UserError, match="there already"):
        export_hf("x", model, tmp_path / "mine")
    assert [p.name for p in tmp_path.rglob("*")] == ["mine", "file"]


RECIPE = """
name = "tiny"
[model]
family = "gpt2"
n_layer = 2
n_head = 4
d_model = 64
context = 48
vocab_size = 300
[data]
tokenizer = "somewhere/secret/tokenizer"
[[data.source]]
name = "web"
path = "hf:HuggingFaceFW/fineweb-edu:sample-10BT"
weight = 3.0
[[data.source]]
name = "own"
path = "/home/somebody/secret/letters"
[train]
steps = 6
"""


@pytest.fixture
def run(tmp_path):
    """A run folder as training leaves it, with a model that was evaluated."""
    paths = RunPaths(tmp_path / "run")
    folder = paths.checkpoints / step_folder(6)
    folder.mkdir(parents=True)
    model = bundle("gpt2")
    save_model(folder, model.model, model.tokenizer)
    (folder / "state.json").write_text(json.dumps({"step": 6, "tokens": 768}))
    paths.recipe.write_text(RECIPE)
    for step in (2, 4, 6):
        row = {"step": step, "tokens": 128 * step, "loss": 5 - step / 3, "seconds": 600.0 * step}
        append_json_line(paths.metrics, row)
    append_json_line(
        paths.metrics, {"step": 6, "val_loss": 3.25, "val_bpb": 1.125, "val_tokens": 4096}
    )
    started = {"event": "started", "step": 0, "recipe": "tiny", "device": "NVIDIA A100-SXM4-80GB"}
    append_json_line(paths.events, started | {"data": {"train_tokens": 123456, "documents": 77}})
    for sha256, value in ((load_bundle(folder).sha256, 0.3125), ("another", 0.99)):
        append_record(
            paths.evals,
            EvalRecord(
                kind="multiple_choice",
                model=EvaluatedModel("run", sha256),
                data=EvaluatedData("hellaswag", "x"),
                metrics={"acc_norm": Metric(value, 0.015, 1000, {"GPT-2 124M": 0.2955})},
            ),
        )
    return folder


def test_the_card_says_what_the_run_says_and_nothing_else(run, tmp_path):
    model = load_bundle(run)
    export_hf(run, model, tmp_path / "out", name="me/moby", licence="mit", price=2.0, watts=400.0)
    text = (tmp_path / "out/README.md").read_text()
    card = ModelCard(text)  # the hub's own reader
    assert card.data.license == "mit"
    assert card.data.library_name == "transformers"
    assert card.data.datasets == ["HuggingFaceFW/fineweb-edu"]
    (result,) = card.data.eval_results
    assert (result.dataset_name, result.metric_type) == ("hellaswag", "acc_norm")
    assert result.metric_value == 0.3125
    total = sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(run).parameters())
    assert f"{total:,} parameters" in text
    for said in (
        "768 tokens",
        "step 6",
        "hf:HuggingFaceFW/fineweb-edu:sample-10BT",
        "123,456 tokens to train on",
        "1.125",
        "3.250",
        "(n = 1,000)",
        "GPT-2 124M: 0.2955",
        "of other checkpoints: 1.",
        "Cost: $2.00",
        "Energy: 0.400 kWh",
        "from_pretrained(name)",
        'name = "me/moby"',
        "letters",
    ):
        assert said in text, said
    assert "secret" not in text  # where things lie on this machine
    assert "0.99" not in text
    assert (tmp_path / "out/training.png").read_bytes().startswith(b"\x89PNG")


def test_the_card_of_a_finetuned_model_names_its_base(run, tmp_path):
    recipe = run.parents[1] / "recipe.toml"
    for named, said in (
        ("org/base", "made from org/base (weights with sha256 `abcdef`) by supervised finetuning"),
        ("/home/somebody/secret/base", "made from base (weights"),
    ):
        text = RECIPE.replace("steps = 6", 'steps = 6\nobjective = "sft"')
        base = f'[base]\nmodel = "{named}"\nsha256 = "abcdef"\n'
        recipe.write_text(text + base)
        out = tmp_path / ("hub" if named == "org/base" else "here")
        export_hf(run, load_bundle(run), out)
        card = (out / "README.md").read_text()
        assert said in card
        assert "from nothing" not in card
        assert "secret" not in card
        assert "tokens a parameter" not in card  # of finetuning alone, which says nothing
        assert ModelCard(card).data.base_model == ("org/base" if named == "org/base" else None)


def test_the_card_of_a_model_without_a_run(tmp_path):
    export_hf("made", bundle(), tmp_path / "out")
    text = (tmp_path / "out/README.md").read_text()
    assert ModelCard(text).data.license is None
    assert "Nobody has chosen a licence" in text
    assert "## Training" not in text
    assert "These weights were not evaluated" in text
    assert not (tmp_path / "out/training.png").exists()
