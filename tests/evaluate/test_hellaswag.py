"""HellaSwag from files and the hub, and its completion style against a plain loop."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.data.hub import HubDataset, Patience
from fromscratch.data.sources import Copies
from fromscratch.evaluate.hellaswag import HellaSwag, hellaswag_record
from fromscratch.evaluate.hellaswag_items import (
    HellaSwagItem,
    choose,
    fingerprint,
    read_hellaswag,
)
from fromscratch.evaluate.hellaswag_references import references
from fromscratch.evaluate.multiple_choice import answer_items
from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.tokenizer import Tokenizer
from tests.data.hub_server import HubServer
from tests.evaluate.benchmark_models import WHICH, bundle_of, huggingface_gpt2, loud

ROW = {
    "ind": 24,
    "activity_label": "Roof shingle removal",
    "ctx_a": "A man is sitting on a roof.",
    "ctx_b": "he",
    "ctx": "A man is sitting on a roof. he",
    "split": "val",
    "label": 3,
    "endings": ["is using wrap.", "is ripping tiles.", "is holding a cube.", "starts pulling."],
}


def rows(n: int) -> list[dict[str, object]]:
    return [ROW | {"ctx_a": f"Roof {i}.", "label": i % 4} for i in range(n)]


def lines(some: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in some)


def parquet(some: list[dict[str, object]]) -> bytes:
    """As the hub has it: labels are texts, and there are more columns."""
    out = io.BytesIO()
    labelled = [row | {"label": str(row["label"]), "source_id": "x"} for row in some]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(labelled), out)
    return out.getvalue()


def test_the_same_items_from_json_lines_and_parquet(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text(lines(rows(9)))
    (tmp_path / "b.parquet").write_bytes(parquet(rows(9)))
    items = read_hellaswag(str(tmp_path / "a.jsonl"))
    assert items == read_hellaswag(str(tmp_path / "b.parquet"))
    assert [item.label for item in items] == [i % 4 for i in range(9)]
    assert items[5].ctx_a == "Roof 5."
    assert items[5].endings == tuple(ROW["endings"])


@pytest.fixture
def with_hellaswag(hub: HubServer) -> HubServer:
    hub.add(
        "Rowan/hellaswag",
        {
            "data/train-00000-of-00001.parquet": parquet(rows(3)),
            "data/validation-00000-of-00001.parquet": parquet(rows(7)),
            "data/test-00000-of-00001.parquet": parquet(rows(5)),
            "README.md": b"---\n---\n",
        },
    )
    return hub


class OfThatHub(Copies):
    """HF_ENDPOINT counts only before the library is imported: here the address is handed over."""

    def __init__(self, hub: HubServer, folder: Path) -> None:
        super().__init__(folder)
        object.__setattr__(self, "hub", hub)

    def open(self, spec: str) -> HubDataset:
        patience = Patience(attempts=2, first_pause=0.01)
        endpoint = self.hub.endpoint
        return HubDataset(
            spec, folder=self.folder, keep_local=10**9, endpoint=endpoint, patience=patience
        )


def test_from_the_hub_comes_the_validation_set(with_hellaswag: HubServer, tmp_path: Path):
    copies = OfThatHub(with_hellaswag, tmp_path)
    items = read_hellaswag("hf:Rowan/hellaswag", copies=copies)
    (tmp_path / "a.jsonl").write_text(lines(rows(7)))
    assert items == read_hellaswag(str(tmp_path / "a.jsonl"))
    named = read_hellaswag("hf:Rowan/hellaswag:data/test*", copies=copies)
    assert len(named) == 5
    with pytest.raises(UserError, match="Rowan/hellaswagg"):
        read_hellaswag("hf:Rowan/hellaswagg", copies=copies)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"text": "a"}\n', ["line 1", "no item of HellaSwag"]),
        (lines(rows(1)) + '{"ctx', ["line 2", "is not JSON"]),
        (lines([ROW | {"label": ""}]), ["line 1", 'the label ""', "validation set"]),
        (lines([ROW | {"label": 4}]), ["line 1", 'the label "4"']),
        (lines([ROW | {"endings": ["one"]}]), ["line 1", "endings"]),
        ("\n", ["no items"]),
        (None, ["cannot be read"]),
        ("PAR1 and no more", ["not readable Parquet"]),
    ],
)
def test_what_is_not_hellaswag_is_refused_with_its_place(tmp_path: Path, content, said):
    path = tmp_path / "set.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError) as caught:
        read_hellaswag(str(path))
    for words in ["set.jsonl", *said]:
        assert words in str(caught.value)


@given(n=st.integers(1, 60), first=st.integers(1, 60), second=st.integers(1, 60))
def test_a_subset_is_fixed_and_a_larger_one_holds_it(n: int, first: int, second: int):
    items = [HellaSwagItem("a", str(i), "", "", ("x", "y"), 0) for i in range(n)]
    few, many = (choose(items, k) for k in sorted((first, second)))
    assert len(few) == min(n, first, second)
    assert set(few) <= set(many) <= set(items)
    assert choose(items, first) == choose(list(items), first)
    assert (fingerprint(few) == fingerprint(many)) == (few == many)
    assert choose(items, 0) == choose(items, None) == items


def test_references_of_fewer_items_say_that_they_are_of_all():
    assert references("completion", "acc_norm", 10_042)["GPT-2 124M"] == 0.2955
    assert references("completion", "acc_norm", 600)["GPT-2 124M (all 10,042 items)"] == 0.2955
    assert references("harness", "acc_norm", 10_042)["GPT-2 124M"] == 0.3114


@pytest.mark.slow
def test_the_completion_style_is_that_of_a_plain_loop(
    tmp_path: Path, gpt2: Tokenizer, shared_data: Path
):
    """One item at a time through transformers, encoded by tiktoken: as its authors describe it."""
    import tiktoken
    from transformers import GPT2LMHeadModel

    bundle = huggingface_gpt2(tmp_path, gpt2, context=256)
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path)
    encoding = tiktoken.get_encoding("gpt2")
    items = read_hellaswag(str(shared_data / "hellaswag" / "hellaswag_val_600.jsonl"))[40:60]
    data = HellaSwag(items, "completion", gpt2, "file", 600)
    answers = answer_items(bundle.model, data.encoded, batch_tokens=1000)
    for item, answer in zip(items, answers, strict=True):
        sums, means = [], []
        for ending in item.endings:
            before, after = encoding.encode(item.ctx), encoding.encode(f" {ending}")
            ids = torch.tensor([before + after])
            with torch.no_grad():
                logits = theirs(ids).logits[0, len(before) - 1 : -1]
            losses = F.cross_entropy(logits, torch.tensor(after), reduction="none")
            sums.append(float(losses.sum()))
            means.append(float(losses.mean()))
        assert answer.logprobs == pytest.approx([-s for s in sums], abs=2e-3)
        assert answer.chosen == sums.index(min(sums))
        assert answer.chosen_norm == means.index(min(means))


def test_a_record_says_what_was_scored(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text(lines(rows(12)))
    items = read_hellaswag(str(tmp_path / "a.jsonl"))
    bundle = bundle_of(loud(context=40))
    data = HellaSwag(choose(items, 8), "harness", bundle.tokenizer, "a.jsonl", 12)
    record = hellaswag_record(bundle.model, WHICH, data, batch_tokens=100)
    assert record.data.sha256 == fingerprint(choose(items, 8))
    assert record.settings["items"].startswith("8 of 12")
    assert "10,042" in record.settings["items"]
    assert set(record.metrics) == {"acc", "acc_norm"}
    assert record.metrics["acc"].stderr is not None
