"""Generation as a whole and each of its samplers against transformers'."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from fromscratch.checkpoint.bundle import load_model
from fromscratch.generate.batch import Request, complete
from fromscratch.generate.engine import generate_ids, generate_tokens
from fromscratch.generate.sampling import Sampler, SamplingOptions, distribution
from fromscratch.tokenizer.build import bytes_tokenizer

GREEDY = SamplingOptions(temperature=0.0)
VOCAB = 257
GPT2 = GPT2Config(
    vocab_size=VOCAB, n_layer=2, n_head=2, n_embd=32, n_positions=96, initializer_range=0.2
)
QWEN3 = Qwen3Config(
    vocab_size=VOCAB, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    hidden_size=32, intermediate_size=48, head_dim=8, max_position_embeddings=96,
    initializer_range=0.2, tie_word_embeddings=False,
)  # fmt: skip


@pytest.fixture(scope="module", params=["gpt2", "qwen3"])
def both(request, tmp_path_factory):
    """The same weights here and there."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(5)
    theirs = GPT2LMHeadModel(GPT2) if request.param == "gpt2" else Qwen3ForCausalLM(QWEN3)
    theirs.eval().save_pretrained(folder)
    return load_model(folder).eval(), theirs


def continued(theirs, prompt, n_new, **options):
    out = theirs.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=n_new, min_new_tokens=n_new, do_sample=False, pad_token_id=0, **options,
    )  # fmt: skip
    return out[0, len(prompt) :].tolist()


PROMPTS = [[7], list(range(40, 57)), [3] * 8, list(range(200, 260, 2))]
PROMPTS[3] = [i % VOCAB for i in PROMPTS[3]]


def test_greedy_ids_are_theirs(both):
    ours, theirs = both
    for prompt in PROMPTS:
        new = list(generate_ids(ours, prompt, max_new_tokens=50, options=GREEDY))
        assert new == continued(theirs, prompt, 50)


def test_greedy_ids_with_a_repetition_penalty_are_theirs(both):
    ours, theirs = both
    options = SamplingOptions(temperature=0.0, repetition_penalty=1.4)
    for prompt in PROMPTS:
        new = list(generate_ids(ours, prompt, max_new_tokens=40, options=options))
        assert new == continued(theirs, prompt, 40, repetition_penalty=1.4)


def test_a_batch_of_prompts_gives_their_ids(both):
    ours, theirs = both
    requests = [Request(prompt, 30, GREEDY) for prompt in PROMPTS]
    for prompt, done in zip(PROMPTS, complete(ours, bytes_tokenizer(), requests), strict=True):
        assert [token.id for token in done.tokens] == continued(theirs, prompt, 30)


@torch.no_grad()
def test_log_probabilities_are_those_of_a_full_forward_pass(both):
    ours, theirs = both
    prompt, options = [9, 8, 7], SamplingOptions(0.7, 5, 0.9, 3, repetition_penalty=1.2)
    outputs = list(
        generate_tokens(ours, prompt, max_new_tokens=25, options=options, top_logprobs=4)
    )
    ids = [output.id for output in outputs]
    logits = theirs(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
    expected = logits.log_softmax(-1)
    for output, row in zip(outputs, expected, strict=True):
        assert output.logprob == pytest.approx(row[output.id].item(), abs=1e-4)
        best = row.topk(4)
        assert [i for i, _ in output.top_logprobs] == best.indices.tolist()
        assert [p for _, p in output.top_logprobs] == pytest.approx(best.values.tolist(), abs=1e-4)


def test_without_being_asked_no_log_probabilities_are_computed(both):
    [output] = generate_tokens(both[0], [1], max_new_tokens=1, options=GREEDY)
    assert (output.logprob, output.top_logprobs) == (None, ())


# --- each sampler ---------------------------------------------------------------------------------


def some_logits(seed: int, vocab: int = 300) -> torch.Tensor:
    return 3 * torch.randn(2, vocab, generator=torch.Generator().manual_seed(seed))


WARPERS = [
    ({"min_p": 0.05}, [MinPLogitsWarper(0.05)]),
    ({"min_p": 0.9}, [MinPLogitsWarper(0.9)]),
    ({"top_k": 3, "min_p": 0.2}, [TopKLogitsWarper(3), MinPLogitsWarper(0.2)]),
    ({"top_p": 0.8, "min_p": 0.03}, [TopPLogitsWarper(0.8), MinPLogitsWarper(0.03)]),
    (
        {"temperature": 1.7, "top_k": 40, "top_p": 0.9, "min_p": 0.02},
        [
            TemperatureLogitsWarper(1.7),
            TopKLogitsWarper(40),
            TopPLogitsWarper(0.9),
            MinPLogitsWarper(0.02),
        ],
    ),
]


@pytest.mark.parametrize(("options", "warpers"), WARPERS, ids=lambda v: str(v)[:40])
@pytest.mark.parametrize("vocab", [50, 20_000])
def test_distributions_are_those_of_their_warpers(options, warpers, vocab):
    for seed in range(5):
        logits = expected = some_logits(seed, vocab)
        for warper in warpers:
            expected = warper(torch.zeros(2, 1, dtype=torch.long), expected)
        ours = distribution(logits, SamplingOptions(**({"temperature": 1.0, "top_k": 0} | options)))
        torch.testing.assert_close(ours, expected.softmax(-1), atol=1e-6, rtol=1e-4)


def changed(logits: torch.Tensor, options: SamplingOptions, prompt: list[int]) -> torch.Tensor:
    return Sampler(options, prompt)._changed(logits)


@pytest.mark.parametrize("penalty", [1.3, 0.6])
def test_the_repetition_penalty_is_theirs(penalty):
    logits, prompt = some_logits(1)[0], [5, 9, 5, 200, 17]
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([prompt]), logits[None])[0]
    ours = changed(logits, SamplingOptions(repetition_penalty=penalty), prompt)
    assert torch.equal(ours, expected)


def test_logit_bias_is_their_sequence_bias_of_one_token():
    logits, bias = some_logits(2)[0], {3: 4.5, 250: -2.0}
    theirs = SequenceBiasLogitsProcessor([[[token], value] for token, value in bias.items()])
    expected = theirs(torch.tensor([[1, 2]]), logits[None])[0]
    torch.testing.assert_close(changed(logits, SamplingOptions(logit_bias=bias), []), expected)
