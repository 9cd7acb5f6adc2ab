"""Preference files as pairs of examples: one side each, what tells nothing left out, all forms."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fromscratch.chat.preferences import preference_of
from fromscratch.data.batches import IGNORE
from fromscratch.data.examples import Examples, ExamplesManifest
from fromscratch.data.make_examples import ExampleSettings, make_examples
from fromscratch.data.preference_rows import PairRows
from fromscratch.data.reading import Reading
from fromscratch.data.sources import Source
from fromscratch.data.watching import unwatched
from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.build import bytes_tokenizer
from fromscratch.tokenizer.tokenizer import Tokenizer

REAL = "preferences/instruction_data_with_preference.json"


def prepared(
    path: Path, folder: Path, tokenizer: Tokenizer | None = None, **settings: Any
) -> ExamplesManifest:
    source = Source("pairs", str(path), Reading(record=preference_of)).listed()
    chosen = ExampleSettings(template="alpaca", pairs=True, **settings)
    return make_examples(source, folder, tokenizer or bytes_tokenizer(), chosen, watch=unwatched)


def record(question: str, chosen: str = "yes", rejected: str = "no") -> dict[str, str]:
    return {"instruction": question, "chosen": chosen, "rejected": rejected}


def written(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(records))
    return path


def test_the_real_file(shared_data: Path, gpt2: Tokenizer, tmp_path: Path) -> None:
    """Nothing is lost but the six ties, and no question is on both sides."""
    manifest = prepared(shared_data / REAL, tmp_path, gpt2, val_fraction=0.1)
    assert (manifest.records, manifest.ties, manifest.skipped, manifest.dropped) == (1100, 6, 0, 0)
    assert manifest.copies_across == 0 < manifest.copies
    examples = Examples(tmp_path)
    sides = {side: PairRows(examples, side, 1024, padding_id=0) for side in ("train", "val")}
    assert len(sides["train"]) + len(sides["val"]) == 1094
    records = json.loads((shared_data / REAL).read_text("utf-8"))
    answers = Counter((r["chosen"], r["rejected"]) for r in records if r["chosen"] != r["rejected"])
    for rows in sides.values():
        batch = rows.batch(np.arange(len(rows)))
        for pair in range(len(rows)):
            texts = []
            for row in (2 * pair, 2 * pair + 1):
                learned = batch.targets[row][batch.targets[row] != IGNORE].tolist()
                assert learned[-1] == gpt2.eot_id
                texts.append(gpt2.decode(learned[:-1]))
            answers[texts[0], texts[1]] -= 1
    assert set(answers.values()) == {0}


def test_all_pairs_of_a_question_are_on_one_side(tmp_path: Path) -> None:
    records = [record(f"question {n % 20}", f"yes {n}") for n in range(200)]
    prepared(written(tmp_path / "pairs.json", records), tmp_path / "out", val_fraction=0.3)
    examples = Examples(tmp_path / "out")
    questions = []
    for side in ("train", "val"):
        rows = PairRows(examples, side, 1024, padding_id=0)
        texts = [
            bytes_tokenizer().decode([i for i in row.tolist() if i])
            for row in rows.batch(np.arange(len(rows))).ids[::2]
        ]
        assert len(texts) > 0
        questions.append({text.split("### Response")[0] for text in texts})
    assert not questions[0] & questions[1]
    assert len(questions[0] | questions[1]) == 20


def test_each_side_has_limits_of_its_own(tmp_path: Path) -> None:
    """R54; the pair goes when either of its answers is too long."""
    records = [
        record("a", "yes" * 30),
        record("b", rejected="no" * 50),
        record("c" * 300),
        *(record(f"{n}", "yes" * 30, "n" * 90) for n in range(8)),
    ]
    path = written(tmp_path / "pairs.json", records)
    manifest = prepared(
        path, tmp_path / "out", max_answer_tokens=91, max_prompt_tokens=300, val_fraction=0.0
    )
    assert (manifest.answer_too_long, manifest.prompt_too_long) == (1, 1)
    assert manifest.sides["train"].examples == 2 * 9
    with pytest.raises(UserError, match=r"chat\.max_answer_tokens \(91\)"):
        prepared(path, tmp_path / "refused", max_answer_tokens=91, too_long="refuse")


def test_parquet_with_messages(tmp_path: Path) -> None:
    """As the hub has them: columns that nobody needs are not read."""

    def turns(*contents: str) -> list[dict[str, str]]:
        roles = ("user", "assistant")
        return [{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)]

    rows = [
        {"prompt": f"{n}", "chosen": turns(f"{n}", "yes"), "rejected": turns(f"{n}", "no"), "x": n}
        for n in range(5)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    manifest = prepared(tmp_path / "pairs.parquet", tmp_path / "out", val_fraction=0.0)
    assert manifest.sides["train"].examples == 10
    pq.write_table(
        pa.Table.from_pylist([{"prompt": "a", "completion": "b"}]), tmp_path / "b.parquet"
    )
    with pytest.raises(UserError, match="no columns of preferences; it has prompt, completion"):
        prepared(tmp_path / "b.parquet", tmp_path / "other")


def test_finetuning_data_is_no_preference_data(tmp_path: Path) -> None:
    path = written(tmp_path / "sft.json", [{"instruction": "a", "output": "b"}])
    with pytest.raises(UserError, match="record 1: is no preference: its fields are instruction"):
        prepared(path, tmp_path / "out")
