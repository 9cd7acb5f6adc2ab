"""The objective over pairs: equal to TRL's on the same weights, and to one pair at a time."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fromscratch.chat.rendering import Rendered
from fromscratch.checkpoint.bundle import write_model
from fromscratch.data.batches import IGNORE, ValidationSet
from fromscratch.data.examples import Examples
from fromscratch.data.preference_rows import PairBatch, PairRows
from fromscratch.evaluate.preference import evaluate_pairs, log_probs_of
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.tokenizer.build import bytes_tokenizer
from fromscratch.train.preference import PreferenceObjective, answers_of, pair_loss
from tests.data.pairs import write_pairs

CONTEXT, BETA = 24, 0.3


def model_of(seed: int, **options: Any) -> GPT:
    """A tiny model whose weights are large enough to have opinions."""
    config = ModelConfig(
        family="gpt2",
        n_layer=2,
        n_head=2,
        d_model=16,
        context=CONTEXT + 1,
        vocab_size=257,
        **options,
    )
    model = GPT(config, seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6.0)
    return model.train()


def sides(n: int = 7, seed: int = 0) -> list[tuple[Rendered, Rendered]]:
    """Pairs of all lengths; some answers are one token long, some sides fill the context."""
    draw = torch.Generator().manual_seed(seed)

    def words(length: int) -> list[int]:
        found: list[int] = torch.randint(0, 257, (length,), generator=draw).tolist()
        return found

    def side(prompt: list[int], length: int) -> Rendered:
        return Rendered(prompt + words(length), [False] * len(prompt) + [True] * length)

    made = []
    for number in range(n):
        prompt = words(1 + number)
        most = CONTEXT + 1 - len(prompt)
        lengths = (1, most) if number == 2 else torch.randint(1, most + 1, (2,), generator=draw)
        chosen, rejected = (side(prompt, int(length)) for length in lengths)
        made.append((chosen, rejected))
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those pairs, as they lie on the disk."""
    return write_pairs(tmp_path_factory.mktemp("pairs"), sides())


@pytest.fixture
def rows(folder: Path) -> PairRows:
    return PairRows(Examples(folder), "train", CONTEXT, padding_id=256)


def held_out(rows: PairRows) -> ValidationSet:
    return ValidationSet("validation", rows, bytes_tokenizer().bytes_per_id, None)


def all_of(rows: PairRows) -> PairBatch:
    return rows.batch(torch.arange(len(rows)).numpy())


def test_the_log_probabilities_are_those_of_the_softmax(rows: PairRows) -> None:
    """Against a loop over tokens in float64."""
    model, batch = model_of(0).double(), all_of(rows)
    with torch.no_grad():
        answers = answers_of(model, batch)
    logits = model(batch.ids)[..., :257].detach()
    for row in range(len(batch.ids)):
        total, n = 0.0, 0
        for at, target in enumerate(batch.targets[row].tolist()):
            if target != IGNORE:
                total += float(logits[row, at].log_softmax(-1)[target])
                n += 1
        sums = answers.rejected if row % 2 else answers.chosen
        counts = answers.rejected_tokens if row % 2 else answers.chosen_tokens
        assert float(sums[row // 2]) == pytest.approx(total, rel=1e-12)
        assert int(counts[row // 2]) == n


@pytest.mark.parametrize("name", ["dpo", "orpo"])
def test_a_pair_does_not_depend_on_its_batch(rows: PairRows, name: Any) -> None:
    """All together, padded; one at a time, unpadded: the same loss and gradient."""
    model = model_of(1).double()
    rows.reference = log_probs_of(model_of(2).double(), rows, batch_size=3).double()
    objective = PreferenceObjective(pair_loss(name, beta=BETA))
    whole = all_of(rows)

    def gradients(batches: list[PairBatch]) -> tuple[float, list[Tensor]]:
        model.zero_grad()
        total = 0.0
        for batch in batches:
            loss = objective(model, batch)
            loss.backward()
            total += loss.item()
        return total, [p.grad.clone() for p in model.parameters() if p.grad is not None]

    together = gradients([whole])
    seen = objective.take()
    alone = gradients([whole.rows(i, i + 1).without_padding() for i in range(len(rows))])
    assert alone[0] == pytest.approx(together[0], rel=1e-12)
    for one, other in zip(alone[1], together[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    # What it saw beside the loss is the same as well, and is what an evaluation finds.
    assert objective.take() == pytest.approx(seen, rel=1e-12)
    evaluated = evaluate_pairs(model, held_out(rows), objective.loss, batch_size=3).pairs
    assert evaluated.by_name() == pytest.approx(seen, rel=1e-12)
    assert evaluated.loss == pytest.approx(together[0], rel=1e-12)
    assert evaluated.n_pairs == len(rows)


def test_a_model_has_no_reward_over_itself(rows: PairRows) -> None:
    """Before the first update: loss ln 2 for each pair, and no answer preferred."""
    model = model_of(1, dropout=0.2)
    rows.reference = log_probs_of(model, rows, batch_size=2)
    assert model.training
    sums = evaluate_pairs(model, held_out(rows), pair_loss("dpo", beta=BETA), batch_size=2).pairs
    assert sums.loss / sums.n_pairs == pytest.approx(0.6931472, abs=1e-5)
    assert sums.means()["margin"] == pytest.approx(0.0, abs=1e-4)


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[GPT, Any]]:
    """Two of our models, and each again as transformers loads it from the checkpoint we write."""
    transformers = pytest.importorskip("transformers")
    found = []
    for seed in (1, 2):
        model, folder = model_of(seed), Path(tmp_path_factory.mktemp("model"))
        write_model(folder, model.config, model.state_dict(), bytes_tokenizer())
        found.append((model, transformers.AutoModelForCausalLM.from_pretrained(folder)))
    return found


@pytest.mark.slow
def test_dpo_is_that_of_trl(rows: PairRows, twins: list[tuple[GPT, Any]], tmp_path: Path) -> None:
    """Its own trainer on transformers' reading of our checkpoints: loss, rewards, gradient."""
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    (ours, theirs), (reference, their_reference) = twins
    theirs.train()
    trainer = trl.DPOTrainer(
        model=theirs,
        ref_model=their_reference,
        args=trl.DPOConfig(
            output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", beta=BETA
        ),
        train_dataset=datasets.Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}]),
        processing_class=_their_tokenizer(),
    )
    # Theirs has all chosen rows first, then all rejected ones.
    flat = [side for column in zip(*sides(), strict=True) for side in column]
    filled = [side.ids + [0] * (CONTEXT + 1 - len(side.ids)) for side in flat]
    masks = [side.supervised + [False] * (CONTEXT + 1 - len(side.ids)) for side in flat]
    loss = trainer.compute_loss(
        theirs,
        {
            "input_ids": torch.tensor(filled),
            "attention_mask": torch.tensor(
                [[at < len(side.ids) for at in range(CONTEXT + 1)] for side in flat]
            ).long(),
            "completion_mask": torch.tensor(masks).long(),
        },
    )
    loss.backward()

    rows.reference = log_probs_of(reference, rows, batch_size=4)
    objective = PreferenceObjective(pair_loss("dpo", beta=BETA))
    total = objective(ours, all_of(rows)) / len(rows)
    total.backward()
    assert total.item() == pytest.approx(loss.item(), abs=1e-5)
    logged, means = (
        trainer._metrics["train"],
        {name: total / len(rows) for name, total in objective.take().items()},
    )
    assert means["margin"] == pytest.approx(logged["rewards/margins"][0], abs=1e-4)
    assert means["reward_chosen"] == pytest.approx(logged["rewards/chosen"][0], abs=1e-4)
    assert means["accuracy"] == pytest.approx(logged["rewards/accuracies"][0])
    assert 0 < means["accuracy"] < 1, "the test could not tell"
    table = theirs.transformer.wte.weight.grad
    assert ours.embed.weight.grad is not None
    torch.testing.assert_close(ours.embed.weight.grad, table, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_odds_ratio_is_that_of_trl(rows: PairRows) -> None:
    """ORPO's second term; the first, finetuning's loss, TRL takes over prompts as well."""
    pytest.importorskip("trl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
        from trl.experimental.orpo import ORPOTrainer
    answers = answers_of(model_of(1), all_of(rows))
    chosen, rejected = (
        answers.chosen / answers.chosen_tokens,
        answers.rejected / answers.rejected_tokens,
    )
    itself = types.SimpleNamespace(beta=BETA, accelerator=types.SimpleNamespace(device="cpu"))
    theirs, their_chosen, their_rejected, *_ = ORPOTrainer.odds_ratio_loss(itself, chosen, rejected)
    ours = pair_loss("orpo", beta=BETA)(answers, None)
    torch.testing.assert_close(ours.loss, -chosen - theirs, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.chosen_reward, their_chosen)
    torch.testing.assert_close(ours.rejected_reward, their_rejected)


def _their_tokenizer() -> Any:
    """For the trainer to be made at all: what it compares comes as ids."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = models.WordLevel({"a": 0, "b": 1, "c": 2, "end": 3}, unk_token="a")
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(words), eos_token="end", pad_token="end"
    )
