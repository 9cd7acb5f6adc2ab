"""Tasks of one's own for lm-evaluation-harness, as files: the kinds that it knows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

WORDS = [
    "red",
    "green",
    "blue",
    "seven",
    "eleven",
    "over",
    "under",
    "because",
    "river",
    "stone",
    "music",
    "letter",
]


def write_tasks(folder: Path, hellaswag_lines: Sequence[str] = ()) -> Path:
    """A folder with the tasks local_choices, local_text, local_answers, and local_hellaswag."""
    folder.mkdir()
    questions = []
    for i in range(12):
        question = " ".join(WORDS[(i * 5 + j) % 12] for j in range(3 + 4 * (i % 4)))
        choices = [" ".join(WORDS[(i + 3 * k + j) % 12] for j in range(1 + k)) for k in range(4)]
        questions.append({"question": question, "choices": choices, "gold": i % 4})
    _task(
        folder, "local_choices", questions,
        output_type="multiple_choice",
        doc_to_text="Question: {{question}}\nAnswer:",
        doc_to_target="gold",
        doc_to_choice="{{choices}}",
        metric_list=[_metric("acc", "mean", True), _metric("acc_norm", "mean", True)],
        fewshot_split="test",
    )  # fmt: skip
    texts = [{"text": " ".join(WORDS[(i + j * j) % 12] for j in range(n))} for i, n in
             enumerate((3, 40, 200))]  # fmt: skip
    _task(
        folder, "local_text", texts,
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{text}}",
        metric_list=[
            _metric("word_perplexity", "weighted_perplexity", False),
            _metric("byte_perplexity", "weighted_perplexity", False),
            _metric("bits_per_byte", "bits_per_byte", False),
        ],
        num_fewshot=0,
    )  # fmt: skip
    long = [{"question": " ".join(WORDS * n), "answer": "red"} for n in (1, 1, 2, 9, 12)]
    _task(
        folder, "local_answers", [*questions[:6], *long],
        output_type="generate_until",
        doc_to_text="{{question}}",
        doc_to_target="{{answer if answer else 'red'}}",
        generation_kwargs={"until": ["\n", "e"], "max_gen_toks": 14},
        metric_list=[_metric("exact_match", "mean", True)],
        num_fewshot=0,
    )  # fmt: skip
    if hellaswag_lines:
        _the_harness_s_own_hellaswag(folder, hellaswag_lines)
    return folder


def _metric(name: str, aggregation: str, higher: bool) -> dict[str, Any]:
    return {"metric": name, "aggregation": aggregation, "higher_is_better": higher}


def _data(folder: Path, name: str, split: str) -> dict[str, Any]:
    return {
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {split: str(folder / f"{name}.jsonl")},
            "cache_dir": str(folder / "cache"),
        },
    }


def _task(folder: Path, name: str, rows: Sequence[dict[str, Any]], **keys: Any) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    task = {"task": name, "test_split": "test"} | _data(folder, name, "test") | keys
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(task | {"metadata": {"version": 3.0}}))


def _the_harness_s_own_hellaswag(folder: Path, lines: Sequence[str]) -> None:
    """Its YAML and its Python as installed; only the data is a local file's."""
    import lm_eval

    name = "local_hellaswag"
    (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    theirs = Path(lm_eval.__file__).parent / "tasks" / "hellaswag"
    (folder / "utils.py").write_text((theirs / "utils.py").read_text())
    kept = [
        line
        for line in (theirs / "hellaswag.yaml").read_text().splitlines()
        if not line.startswith(("task:", "dataset_", "training_split:"))
    ]
    added = yaml.safe_dump({"task": name, "num_fewshot": 0} | _data(folder, name, "validation"))
    (folder / f"{name}.yaml").write_text("\n".join(kept) + "\n" + added)
