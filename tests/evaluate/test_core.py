"""CORE from a bundle made here, against a plain reading of its rules, one question at a time."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
import torch
import yaml
from jinja2 import Template

from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.cli.eval_tasks import task_records
from fromscratch.evaluate.core import answer_task
from fromscratch.evaluate.core_bundle import read_bundle
from fromscratch.foundation.errors import UserError
from tests.evaluate.benchmark_models import WHICH, bundle_of, loud, plainly

CONTEXT = 80
TASKS = {
    "choices": ("multiple_choice", 2, 25.0, "\nAnswer: "),
    "plain": ("multiple_choice", 0, 50.0, " "),
    "schemas": ("schema", 1, 50.0, " "),
    "last words": ("language_modeling", 3, 0.0, "="),
}
WORDS = ["ab", "ba", "abc", "cab", "a", "b", "c", "bb", "cc", "aa"]


def questions(kind: str, n: int) -> list[dict[str, object]]:
    draw = random.Random(kind)

    def text() -> str:  # fmt: skip
        return " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 8)))

    if kind == "multiple_choice":
        return [
            {"query": text(), "choices": [text() for _ in range(4)], "gold": i % 4}
            for i in range(n)
        ]
    if kind == "schema":
        return [
            {"context_options": [text(), text()], "continuation": text(), "gold": i % 2}
            for i in range(n)
        ]
    return [{"context": f" {text()}  ", "continuation": draw.choice("aab")} for _ in range(n)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("eval_bundle")
    (root / "eval_data").mkdir()
    listed, chances = [], ["Eval Task,Task Category,Random baseline"]
    for label, (kind, shots, chance, delimiter) in TASKS.items():
        uri = f"{label}.jsonl"
        rows = questions(kind, 14)
        (root / "eval_data" / uri).write_text("".join(json.dumps(row) + "\n" for row in rows))
        entry = {
            "label": label, "icl_task_type": kind, "dataset_uri": uri, "num_fewshot": [shots],
        }  # fmt: skip
        listed.append(entry | ({} if delimiter == " " else {"continuation_delimiter": delimiter}))
        chances.append(f"{label},some,{chance}")
    (root / "core.yaml").write_text(yaml.safe_dump({"icl_tasks": listed}))
    (root / "eval_meta_data.csv").write_text("\n".join(chances) + "\n")
    return root


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    model = loud("modern", context=CONTEXT, tie_embeddings=False, head_bias=True)
    assert model.head is not None
    with torch.no_grad():  # so that the last word is the most likely one now and then
        model.head.bias[ord("a")] += 20
    return bundle_of(model)


SOLVED = {
    "multiple_choice": "{{ q.query }}{{ d }}{{ q.choices[q.gold] }}",
    "schema": "{{ q.context_options[q.gold] }}{{ d }}{{ q.continuation }}",
    "language_modeling": "{{ q.context | trim }}{{ d }}{{ q.continuation }}",
}


def reference(bundle: ModelBundle, folder: Path, label: str, limit: int | None) -> list[bool]:
    """Which questions are answered rightly, by the rules as nanochat's code states them."""
    kind, shots, _, delimiter = TASKS[label]
    rows = [json.loads(x) for x in (folder / "eval_data" / f"{label}.jsonl").open()]
    random.Random(1337).shuffle(rows)
    rows = rows[:limit]
    solved = Template(SOLVED[kind])
    right = []
    for number, row in enumerate(rows):
        others = [i for i in range(len(rows)) if i != number]
        drawn = random.Random(1234 + number).sample(others, shots) if shots else []
        before = "".join(solved.render(q=rows[i], d=delimiter) + "\n\n" for i in drawn)
        if kind == "multiple_choice":
            texts = [f"{before}{row['query']}{delimiter}{c}" for c in row["choices"]]
        elif kind == "schema":
            ends = f"{delimiter}{row['continuation']}"
            texts = [f"{before}{c}{ends}" for c in row["context_options"]]
        else:
            texts = [f"{before}{str(row['context']).strip()}{delimiter}"]
            texts = [texts[0].strip(), texts[0] + str(row["continuation"])]
        ids = [[bundle.tokenizer.eot_id, *bundle.tokenizer.encode(text)] for text in texts]
        right.append(answer(bundle, kind, ids, row.get("gold")))
    return right


def answer(bundle: ModelBundle, kind: str, ids: list[list[int]], gold: object) -> bool:
    shortest = min(map(len, ids))
    if kind == "language_modeling":
        assert ids[1][: len(ids[0])] == ids[0]
        return plainly(
            bundle.model, ids[1][-CONTEXT:], len(ids[0]) - max(0, len(ids[1]) - CONTEXT)
        )[1]
    if kind == "multiple_choice":
        same = next((i for i in range(shortest) if len({x[i] for x in ids}) > 1), shortest)
        starts = [same for _ in ids]
    else:
        same = next((i for i in range(shortest) if len({x[-1 - i] for x in ids}) > 1), shortest)
        starts = [len(x) - same for x in ids]
    losses = []
    for x, start in zip(ids, starts, strict=True):
        dropped = max(0, len(x) - CONTEXT)
        n = len(x) - start
        logprob, _ = plainly(bundle.model, x[dropped:], max(1, start - dropped))
        losses.append(-logprob / n if n else math.inf)
    return losses.index(min(losses)) == gold


@pytest.mark.parametrize("label", TASKS)
@pytest.mark.parametrize("limit", [None, 6])
def test_each_question_is_answered_as_the_rules_say(bundle, folder, label, limit):
    (task,) = [task for task in read_bundle(folder).tasks if task.label == label]
    right = answer_task(bundle, task, batch_tokens=300, limit=limit)
    assert right == reference(bundle, folder, label, limit)
    assert len(right) == (limit or 14)
    assert limit or 0 < sum(right) < 14, "both answers are met with"


def test_core_is_the_mean_of_what_is_better_than_chance(bundle, folder):
    records = task_records(
        bundle, WHICH, tasks=[], hellaswag=None, core=folder, limit=None, batch_size=4, shots=None
    )
    assert [record.data.name for record in records] == [*TASKS, "CORE"]
    centered = []
    for record, (_, shots, chance, _) in zip(records, TASKS.values(), strict=False):
        acc = record.metrics["acc"].value
        assert acc == sum(reference(bundle, folder, record.data.name, None)) / 14
        centered.append((acc - chance / 100) / (1 - chance / 100))
        assert record.metrics["centered"].value == pytest.approx(centered[-1])
        assert record.settings["shots"] == shots
    core = records[-1].metrics["centered"]
    assert core.value == pytest.approx(sum(centered) / 4)
    errors = [record.metrics["centered"].stderr for record in records[:-1]]
    assert core.stderr == pytest.approx(math.sqrt(sum(e * e for e in errors)) / 4)
    # Of 4 tasks, which are not CORE's 22: said beside the published number.
    assert core.reference["GPT-2 124M (all 22 tasks, whole)"] == 0.1139


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("core.yaml", None, ["core.yaml", "cannot be read", "eval_bundle"]),
        ("core.yaml", "a: [", ["core.yaml", "is not YAML"]),
        ("core.yaml", "a: 1", ["icl_tasks"]),
        ("core.yaml", "icl_tasks: [{label: x}]", ["lacks", "dataset_uri"]),
        ("eval_meta_data.csv", "Eval Task,Random baseline\nchoices,25\n", ["baseline for plain"]),
        ("eval_meta_data.csv", "Eval Task,Random baseline\nchoices,many\n", ["line 2"]),
        ("eval_data/plain.jsonl", '{"query": "a"}', ["plain.jsonl line 1", "choices"]),
        ("eval_data/plain.jsonl", '{"query', ["plain.jsonl line 1", "not JSON"]),
        ("eval_data/plain.jsonl", '{"query": "a", "choices": ["b"], "gold": 1}', ["gold = 1"]),
        ("eval_data/plain.jsonl", "", ["no questions"]),
    ],
)
def test_a_bundle_that_is_none_is_refused_with_the_place(folder, file, content, said):
    path = folder / file
    kept = path.read_text()
    try:
        path.unlink()
        if content is not None:
            path.write_text(content)
        with pytest.raises(UserError) as caught:
            read_bundle(folder)
        for words in said:
            assert words in str(caught.value)
    finally:
        path.write_text(kept)


def test_examples_must_be_others_than_the_question(bundle, folder):
    with pytest.raises(UserError, match=r"last words: 3 examples.*its 3 questions") as caught:
        task_records(
            bundle, WHICH, tasks=[], hellaswag=None, core=folder, limit=3, batch_size=4, shots=None
        )
    assert "--limit 4" in str(caught.value)
