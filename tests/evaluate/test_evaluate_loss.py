"""Nats, perplexity and bits per byte against a float64 reference, window by window."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fromscratch.data.batches import IGNORE, ValidationSet, Windows
from fromscratch.data.options import PrepareOptions
from fromscratch.data.prepare import prepare
from fromscratch.data.shards import TokenStream
from fromscratch.data.sources import Source
from fromscratch.evaluate.loss import LossTotals, evaluate_loss
from fromscratch.foundation.errors import Interrupted
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.tokenizer.tokenizer import load_tokenizer

CONTEXT = 32


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> ValidationSet:
    """About 3,000 tokens of real text in many scripts, an own BPE's."""
    base = tmp_path_factory.mktemp("held-out")
    (base / "texts").mkdir()
    for i in range(40):
        text = f"Text {i}: na\u00efve caf\u00e9s, \u4f60\u597d \U0001f600!\n" * (1 + i % 5)
        (base / "texts" / f"{i:02}.txt").write_text(text, encoding="utf-8")
    options = PrepareOptions(
        tokenizer="bpe:280", val_fraction=0.5, documents="file", shard_tokens=700
    )
    made = prepare([Source("texts", str(base / "texts"))], base / "data", options)
    tokenizer = load_tokenizer(base / "data")
    stream = TokenStream(base / "data", made.manifest.select("val"))
    assert len(made.manifest.select("val")) > 1
    assert len(stream) % CONTEXT, "the last window is to be a short one"
    return ValidationSet("v", Windows(stream, CONTEXT), tokenizer.bytes_per_id, None)


def model(family: str, *, dropout: float = 0.0) -> GPT:
    config = ModelConfig(
        family=family,  # type: ignore[arg-type]
        n_layer=2,
        n_head=2,
        d_model=16,
        context=CONTEXT,
        vocab_size=280,
        padded_vocab=320,
        dropout=dropout,
        init="normal",
        init_std=0.2,
    )
    return GPT(config, seed=2)


@torch.no_grad()
def reference(gpt: GPT, data: ValidationSet, folder: Path | None = None) -> tuple[float, int, int]:
    """The same numbers from the token files, one window at a time, in float64."""
    double = copy.deepcopy(gpt).double().eval()
    stream = np.concatenate(
        [np.load(data.windows.stream.folder / s.file) for s in data.windows.stream.shards]
    ).astype(np.int64)
    tokenizer = load_tokenizer(data.windows.stream.folder)
    nats, n_targets, n_bytes = 0.0, 0, 0
    for start in range(0, len(stream), CONTEXT):
        targets = stream[start : start + CONTEXT]
        before = stream[start - 1] if start else stream[-1]
        ids = np.concatenate([[before], targets[:-1]])
        logits = double(torch.from_numpy(ids)[None])[0].numpy()[:, : gpt.config.vocab_size]
        for row, target in zip(logits, targets, strict=True):
            highest = row.max()
            nats += highest + math.log(math.fsum(np.exp(row - highest))) - row[target]
            n_bytes += len(tokenizer.decode_bytes([int(target)]))
        n_targets += len(targets)
    return nats, n_targets, n_bytes


@pytest.mark.parametrize("family", ["gpt2", "modern"])
def test_equals_the_float64_reference(held_out: ValidationSet, family: str) -> None:
    gpt = model(family)
    nats, n_targets, n_bytes = reference(gpt, held_out)
    totals = evaluate_loss(gpt, held_out, batch_size=5)
    assert totals.n_targets == n_targets == len(held_out.windows.stream)
    assert totals.n_bytes == n_bytes
    assert totals.nats == pytest.approx(nats, rel=1e-6)
    assert totals.loss == pytest.approx(nats / n_targets, rel=1e-6)
    assert totals.perplexity == pytest.approx(math.exp(nats / n_targets), rel=1e-5)
    assert totals.bits_per_byte == pytest.approx(nats / math.log(2) / n_bytes, rel=1e-6)


def test_bytes_are_those_of_the_held_out_text(held_out: ValidationSet) -> None:
    totals = evaluate_loss(model("modern"), held_out, batch_size=8)
    assert totals.n_bytes == sum(s.bytes for s in held_out.windows.stream.shards)
    documents = sum(s.documents for s in held_out.windows.stream.shards)
    assert totals.n_targets > documents  # and the end-of-texts count as targets, not as bytes
    eot = load_tokenizer(held_out.windows.stream.folder).eot_id
    assert held_out.bytes_per_id[eot] == 0


def test_does_not_depend_on_the_batch_size(held_out: ValidationSet) -> None:
    gpt = model("modern")
    results = [evaluate_loss(gpt, held_out, batch_size=b) for b in (1, 3, 16, 1000)]
    assert len({(r.n_targets, r.n_bytes) for r in results}) == 1
    for result in results[1:]:
        assert result.nats == pytest.approx(results[0].nats, rel=1e-7)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_comes_back(held_out: ValidationSet, training: bool) -> None:
    gpt = model("gpt2", dropout=0.5).train(training)
    plain = evaluate_loss(model("gpt2"), held_out, batch_size=8)
    state = torch.get_rng_state()
    first = evaluate_loss(gpt, held_out, batch_size=8)
    assert torch.equal(torch.get_rng_state(), state)  # a resumed run draws what it would have
    assert first == evaluate_loss(gpt, held_out, batch_size=8) == plain
    assert gpt.training == training
    assert all(m.training == training for m in gpt.modules())
    assert all(p.grad is None for p in gpt.parameters())


def test_stopping_gives_the_mode_back_too(held_out: ValidationSet) -> None:
    gpt = model("modern").train()
    asked = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 2

    with pytest.raises(Interrupted):
        evaluate_loss(gpt, held_out, batch_size=4, should_stop=stop)
    assert gpt.training


def test_a_part_is_the_same_part_every_time(held_out: ValidationSet) -> None:
    part = ValidationSet("v", held_out.windows, held_out.bytes_per_id, None, max_tokens=200)
    gpt = model("modern")
    totals = evaluate_loss(gpt, part, batch_size=2)
    assert 200 <= totals.n_targets < 200 + CONTEXT
    assert evaluate_loss(gpt, part, batch_size=2) == totals
    assert evaluate_loss(gpt, part, batch_size=7).n_bytes == totals.n_bytes
    # The mean over the part is that of its windows in the reference.
    chosen = zip(*held_out.windows.read(part.chosen()), strict=True)
    double = copy.deepcopy(gpt).double().eval()
    nats = 0.0
    with torch.no_grad():
        for ids, targets in chosen:
            kept = targets != IGNORE
            logp = double(torch.from_numpy(ids)[None])[0].log_softmax(-1).numpy()
            nats -= logp[np.arange(CONTEXT)[kept], targets[kept]].sum()
    assert totals.nats == pytest.approx(nats, rel=1e-6)


def test_documents_that_do_not_see_each_other_are_evaluated_so(held_out: ValidationSet) -> None:
    eot = load_tokenizer(held_out.windows.stream.folder).eot_id
    masked = ValidationSet("v", held_out.windows, held_out.bytes_per_id, eot)
    gpt = model("modern")
    with_mask = evaluate_loss(gpt, masked, batch_size=4)
    without = evaluate_loss(gpt, held_out, batch_size=4)
    assert with_mask.n_bytes == without.n_bytes
    assert with_mask.nats != pytest.approx(without.nats, rel=1e-6)


def test_a_model_that_knows_nothing_has_the_uniform_loss(held_out: ValidationSet) -> None:
    gpt = model("modern")
    with torch.no_grad():
        assert gpt.head is not None
        gpt.head.weight.zero_()
    # Over the real ids: padding takes no probability.
    assert evaluate_loss(gpt, held_out, batch_size=4).loss == pytest.approx(math.log(280), rel=1e-6)


def test_units() -> None:
    totals = LossTotals(nats=1000 * math.log(2), n_targets=500, n_bytes=2000)
    assert totals.loss == pytest.approx(2 * math.log(2))
    assert totals.perplexity == pytest.approx(4.0)
    assert totals.bits_per_byte == pytest.approx(0.5)
    assert LossTotals(1e9, 1, 1).perplexity == math.inf
    assert math.isnan(LossTotals(1.0, 1, 0).bits_per_byte)
