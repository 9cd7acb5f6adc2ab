"""Rows of examples: what stands where, and that packing changes nothing but the speed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fromscratch.chat.conversations import messages_of
from fromscratch.data.batches import IGNORE, Batch, TrainingData, TrainingSource
from fromscratch.data.example_rows import ExampleRows
from fromscratch.data.examples import Examples
from fromscratch.data.make_examples import ExampleSettings, make_examples
from fromscratch.data.sources import Reading, Source
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.tokenizer.build import bytes_tokenizer
from fromscratch.tokenizer.special import with_special_tokens
from fromscratch.train.objectives import next_token_loss

CONTEXT = 48
N = 23


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    folder = tmp_path_factory.mktemp("examples")
    draw = np.random.default_rng(0)
    records = [
        {"prompt": "p" * int(draw.integers(0, 14)), "completion": "abc"[i % 3] * int(n)}
        for i, n in enumerate(draw.integers(0, 20, N))
    ]
    (folder / "records.json").write_text(json.dumps(records))
    tokenizer = with_special_tokens(
        bytes_tokenizer(), ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
    )
    settings = ExampleSettings(template="default", context=CONTEXT, split="order", val_fraction=0.0)
    source = Source("made", str(folder / "records.json"), Reading(record=messages_of))
    make_examples(source, folder / "out", tokenizer, settings, watch=lambda _: None)
    return Examples(folder / "out")


def rows_of(examples: Examples, *, packing: bool) -> ExampleRows:
    return ExampleRows(examples, "train", CONTEXT, packing=packing, padding_id=256)


def all_of(rows: ExampleRows) -> Batch:
    return rows.batch(np.arange(len(rows)), cut=0, eot_id=None)


def targets_of(examples: Examples, number: int) -> list[int]:
    ids, learned = examples.read(number)
    return ids[1:][learned[1:]].tolist()


@pytest.mark.parametrize("packing", [True, False])
def test_every_learned_token_is_a_target_once_after_the_token_before_it(
    examples: Examples, packing: bool
):
    batch = all_of(rows_of(examples, packing=packing))
    expected = sorted(
        (int(a), int(b))
        for number in range(N)
        for ids, learned in [examples.read(number)]
        for a, b, is_learned in zip(ids, ids[1:], learned[1:], strict=False)
        if is_learned
    )
    at = batch.targets != IGNORE
    found = zip(batch.ids[at].tolist(), batch.targets[at].tolist(), strict=True)
    assert sorted(found) == expected


def test_a_packed_row_has_a_segment_for_each_example(examples: Examples):
    rows = rows_of(examples, packing=True)
    batch = all_of(rows)
    assert batch.segments is not None
    assert len(rows) < N
    for number in range(len(rows)):
        lengths = (examples.lengths(rows.packed.row(number)) - 1).tolist()
        _, counts = batch.segments[number].unique_consecutive(return_counts=True)
        padding = CONTEXT - sum(lengths)
        assert counts.tolist() == [*lengths, *([padding] if padding else [])]


def model_of(dtype: torch.dtype, family: str) -> GPT:
    config = ModelConfig(
        family=family, n_layer=2, n_head=2, d_model=16, context=CONTEXT, vocab_size=261,
        init="normal", init_std=0.2, tie_embeddings=True,
    )  # fmt: skip
    return GPT(config, seed=1).to(dtype)


def double_loss(model: GPT, batch: Batch) -> torch.Tensor:
    """The loss by torch's own cross entropy."""
    logits = model(batch.ids, segments=batch.segments)
    return F.cross_entropy(
        logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE, reduction="sum"
    )


def gradients(model: GPT, batches: list[Batch], loss) -> torch.Tensor:
    model.zero_grad()
    for batch in batches:
        loss(model, batch).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("family", ["gpt2", "modern"])
def test_gradients_of_packed_padded_and_one_at_a_time_are_the_same(examples: Examples, family: str):
    """In float64 to its rounding, and in float32 to 1e-5 of the float64 ones."""
    packed = all_of(rows_of(examples, packing=True))
    padded = all_of(rows_of(examples, packing=False))
    alone = []
    for number in range(N):
        ids, learned = examples.read(number)
        targets = np.where(learned[1:], ids[1:], IGNORE)
        alone.append(Batch(torch.from_numpy(ids[None, :-1]), torch.from_numpy(targets[None])))
    exact = model_of(torch.float64, family)
    reference = gradients(exact, alone, double_loss)
    scale = reference.abs().max()
    assert scale > 0.1
    for batches in (
        [packed],
        [padded],
        [padded.without_padding()],
        [packed.rows(0, 3), packed.rows(3, 99)],
    ):
        found = gradients(exact, batches, double_loss)
        assert (found - reference).abs().max() < 1e-12 * scale
    single = model_of(torch.float32, family)
    for batches in ([packed], [padded.without_padding()], alone):
        found = gradients(single, batches, next_token_loss).double()
        assert (found - reference).abs().max() < 1e-5 * scale


def test_an_example_in_a_packed_row_does_not_see_the_others(examples: Examples):
    """Another example's text changes no loss but its own (R52)."""
    rows = rows_of(examples, packing=True)
    number = int(np.argmax(np.diff(rows.packed.starts)))
    batch = rows.batch(np.array([number]), cut=0, eot_id=None)
    assert batch.segments is not None
    model = model_of(torch.float64, "modern")
    before = model(batch.ids, segments=batch.segments)
    changed = batch.ids.clone()
    # By its length, not by the segments: where they are wrong this must fail.
    length = int(examples.lengths(rows.packed.row(number))[0]) - 1
    first = torch.arange(CONTEXT) < length
    assert 0 < length < CONTEXT
    changed[0, first] = 33
    after = model(changed, segments=batch.segments)
    assert torch.equal(before[0, ~first], after[0, ~first])
    assert not torch.equal(before[0, first], after[0, first])


@pytest.mark.parametrize("packing", [True, False])
def test_the_order_is_a_function_of_the_position_alone(examples: Examples, packing: bool):
    def data() -> TrainingData:
        source = TrainingSource("made", 1.0, rows_of(examples, packing=packing), "print")
        return TrainingData([source], seed=5, eot_id=None)

    n = len(rows_of(examples, packing=packing))
    whole = data().batch(0, 3 * n)
    epochs = [whole.targets[i * n : (i + 1) * n] for i in range(3)]
    for epoch in epochs:  # each is all rows
        assert sorted(epoch[epoch != IGNORE].tolist()) == sorted(
            token for number in range(N) for token in targets_of(examples, number)
        )
    assert not torch.equal(epochs[0], epochs[1])
    again = data()
    pieces = [again.batch(at, 5) for at in range(0, 3 * n - 5, 5)][::-1]
    assert torch.equal(
        torch.cat([piece.ids for piece in pieces[::-1]]), whole.ids[: 5 * len(pieces)]
    )
    # Narrower by micro-batch, the same targets.
    parts = again.micro_batches(0, 6, 2)
    assert [p.n_targets for p in parts] == [whole.rows(i, i + 2).n_targets for i in (0, 2, 4)]
    if not packing:
        assert min(part.ids.shape[1] for part in parts) <= CONTEXT
