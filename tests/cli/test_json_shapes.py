"""`--json` prints what is declared, on standard output, and nothing else there."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.main import get_command

from fromscratch.cli.json_shapes import SHAPES, check_output
from fromscratch.cli.main import app
from fromscratch.cli.verb_group import all_verbs

ROOT = Path(__file__).parents[2]


def test_every_verb_with_json_has_a_declared_shape():
    verbs = all_verbs(get_command(app))
    printing = {n for n, v in verbs.items() if any("--json" in p.opts for p in v.params)}
    assert printing == set(SHAPES)


# Verbs that no other test of this folder asks for JSON; the conftest holds them against the shape.
CHEAP = [
    ["env"],
    ["plan", "tiny.toml", "--gpu", "rtx3090", "--hours", "1"],
    ["prepare", "text", "--out", "shaped", "--tokenizer", "bytes", "--overwrite"],
    ["tokenizer", "compare", "text", "--candidates", "bytes"],
    ["generate", "run", "The ", "--max-new-tokens", "3", "-n", "2", "--logprobs", "1"],
    ["chat", "run", "--prompt", "The ", "--max-new-tokens", "3"],
    ["eval", "run", "--limit-documents", "2"],
    ["logs", "import", "run/metrics.jsonl", "--out", "shaped-run"],
    ["export", "run", "--to", "hf", "--out", "shaped-model"],
]


@pytest.mark.parametrize("arguments", CHEAP, ids=lambda a: " ".join(a[:2]))
def test_output_has_its_shape(arguments: list[str], fromscratch: Callable, place: Path):
    answer = fromscratch(*arguments, "--json")
    assert answer.code == 0, answer.err
    verb = " ".join(arguments[: 2 if arguments[0] in ("tokenizer", "logs") else 1])
    check_output(verb, answer.out)
    for folder in ("shaped", "shaped-run", "shaped-model"):
        shutil.rmtree(place / folder, ignore_errors=True)


def test_a_mistake_under_json_is_a_message_as_ever(fromscratch: Callable):
    answer = fromscratch("plan", "try", "optim.lrr=1", "--json")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: ")


def test_the_page_names_every_key():
    page = (ROOT / "docs/command-line.md").read_text(encoding="utf-8")
    told = {
        verb: re.findall(r"`(\w+)`", keys)
        for verb, keys in re.findall(r"^\| `([a-z ]+)` \| (.*) \|$", page, re.MULTILINE)
        if verb in SHAPES
    }
    for verb, shape in SHAPES.items():
        found = json.dumps(shape.model_json_schema())
        schema = json.loads(found)
        parts = schema.get("anyOf") or [schema.get("items", schema)]
        parts = [schema["$defs"][p["$ref"].split("/")[-1]] if "$ref" in p else p for p in parts]
        assert told[verb] == list(dict.fromkeys(k for p in parts for k in p["properties"])), verb
