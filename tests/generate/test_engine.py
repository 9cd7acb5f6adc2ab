"""Cached generation against a loop that computes everything anew for each token."""

import pytest
import torch

from fromscratch.foundation.errors import UserError
from fromscratch.generate.engine import continue_text, generate_ids, generate_text, window_start
from fromscratch.generate.sampling import SamplingOptions, next_token
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.tokenizer.build import bytes_tokenizer

CONTEXT, VOCAB = 12, 23
GREEDY = SamplingOptions(temperature=0.0)


def build(**options):
    shape = {"n_layer": 2, "n_head": 4, "d_model": 24, "context": CONTEXT, "vocab_size": VOCAB}
    loud = {"init": "normal", "init_std": 0.3, "padded_vocab": options.get("vocab_size", VOCAB) + 9}
    return GPT(ModelConfig(**(shape | loud | options)), seed=1).eval()


@pytest.fixture(
    params=[
        {"family": "gpt2"},
        {"family": "gpt2", "positions": "sinusoidal", "norm_placement": "post"},
        {"family": "modern"},
        {"family": "modern", "n_kv_head": 2, "tie_embeddings": True},
    ],
    ids=str,
)
def model(request):
    return build(**request.param)


@torch.no_grad()
def uncached(model, prompt, n_new, options):
    """No cache; when the window is full its older half is dropped."""
    context = model.config.context
    generator = torch.Generator().manual_seed(options.seed)
    tokens, start = list(prompt), 0
    for _ in range(n_new):
        while len(tokens) - start > context:
            start += max(1, context // 2)
        logits = model(torch.tensor([tokens[start:]]))[:, -1]
        tokens.append(int(next_token(logits, options, generator)))
    return tokens[len(prompt) :]


def cached(model, prompt, n_new, options=GREEDY, **more):
    return list(generate_ids(model, prompt, max_new_tokens=n_new, options=options, **more))


# --- the same tokens ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_prompt", [1, 5, 11, 12, 13, 40])
@pytest.mark.parametrize(
    "options",
    [GREEDY, SamplingOptions(1.0, 0, 1.0, 3), SamplingOptions(0.7, 8, 0.9, 4)],
    ids=["greedy", "sampled", "truncated"],
)
def test_cached_tokens_equal_uncached_ones_far_past_the_context(model, n_prompt, options):
    prompt = [(7 * i + 3) % VOCAB for i in range(n_prompt)]
    n_new = 4 * CONTEXT
    assert cached(model, prompt, n_new, options) == uncached(model, prompt, n_new, options)


@pytest.mark.parametrize("context", [1, 2, 3])
def test_the_smallest_contexts_slide_too(context):
    model = build(context=context)
    assert cached(model, [1], 9) == uncached(model, [1], 9, GREEDY)


@pytest.mark.parametrize("context", [1, 2, 3, 12, 1024])
def test_the_window_is_full_enough_and_never_too_long(context):
    for n_tokens in range(1, 5 * context + 2):
        seen = n_tokens - window_start(n_tokens, context)
        assert seen <= context
        assert seen >= min(n_tokens, context - max(1, context // 2) + 1)


def test_a_seed_means_one_text(model):
    def text(seed):
        return cached(model, [1, 2], 30, SamplingOptions(1.0, 0, 1.0, seed))

    assert text(5) == text(5)
    assert text(5) != text(6)


def test_the_global_generator_is_left_alone(model):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    cached(model, [1], 5, SamplingOptions(1.0, 0, 1.0, 1))
    assert torch.equal(torch.rand(3), expected)


# --- what is never said ---------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt2", "modern"])
def test_padding_ids_are_never_generated(family):
    model = build(family=family, padded_vocab=64, tie_embeddings=False)
    with torch.no_grad():
        model.head.weight[VOCAB:] = 50 * model.head.weight[:1]  # often the largest by far
    ids = cached(model, [0], 1_000, SamplingOptions(1000.0, 0, 1.0, 2))
    assert set(ids) == set(range(VOCAB))
    assert max(cached(model, [0], 200)) < VOCAB


def test_a_stop_id_ends_the_text_and_is_not_in_it(model):
    whole = cached(model, [1, 2, 3], 30)
    stop = whole[7]
    first = whole.index(stop)
    assert cached(model, [1, 2, 3], 30, stop_ids=(stop,)) == whole[:first]


@pytest.mark.parametrize("prompt", [[], [VOCAB], [-1], [0, VOCAB + 3]])
def test_a_prompt_that_cannot_be_is_refused(model, prompt):
    with pytest.raises(UserError):
        cached(model, prompt, 1)


# --- the model's mode -----------------------------------------------------------------------------


def test_dropout_is_off_and_the_mode_comes_back():
    model = build(family="gpt2", dropout=0.5)
    expected = cached(model, [1, 2], 20)
    model.train()
    assert cached(model, [1, 2], 20) == expected
    assert model.training
    stream = generate_ids(model, [1, 2], max_new_tokens=20, options=GREEDY)
    assert [next(stream), next(stream)] == expected[:2]
    stream.close()
    assert model.training


def test_training_goes_on_after_generation():
    model = build().train()
    cached(model, [1, 2], 20)
    model(torch.tensor([[1, 2, 3]])).logsumexp(-1).sum().backward()
    assert model.embed.weight.grad.isfinite().all()


# --- text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["plain", "héllo", "日本語のテキスト", "a😀b👩‍👩‍👧c", "\u202eéé́"])
def test_a_stream_gives_whole_characters_as_soon_as_they_are_whole(text):
    tokenizer = bytes_tokenizer()
    pieces = list(tokenizer.decode_stream(tokenizer.encode(text)))
    assert pieces == list(text)


def test_a_stream_that_ends_inside_a_character_says_so():
    tokenizer = bytes_tokenizer()
    ids = tokenizer.encode("ab😀")[:-1]
    assert "".join(tokenizer.decode_stream(ids)) == tokenizer.decode(ids) == "ab\ufffd"


@pytest.mark.parametrize("seed", range(5))
def test_streamed_text_is_the_text_of_the_ids(seed):
    tokenizer = bytes_tokenizer()
    model = build(vocab_size=tokenizer.vocab_size)
    options = SamplingOptions(1.0, 0, 1.0, seed)
    pieces = continue_text(model, tokenizer, "né", max_new_tokens=60, options=options)
    eot = (tokenizer.eot_id,)
    ids = cached(model, tokenizer.encode("né"), 60, options, stop_ids=eot)
    assert len(ids) > 0
    assert "".join(pieces) == tokenizer.decode(ids)


def test_an_empty_prompt_starts_a_document():
    tokenizer = bytes_tokenizer()
    model = build(vocab_size=tokenizer.vocab_size)
    pieces = continue_text(model, tokenizer, "", max_new_tokens=20, options=GREEDY)
    eot = (tokenizer.eot_id,)
    assert "".join(pieces) == tokenizer.decode(cached(model, [256], 20, stop_ids=eot))


# --- pieces with a reason -------------------------------------------------------------------------


def pieces_of(model, tokenizer, **more):
    return list(generate_text(model, tokenizer, [65], max_new_tokens=60, **more))


@pytest.mark.parametrize("seed", range(4))
def test_a_text_ends_before_its_stop_string_and_says_so(seed):
    tokenizer = bytes_tokenizer()
    model, options = build(vocab_size=tokenizer.vocab_size), SamplingOptions(1.0, 0, 1.0, seed)
    whole = pieces_of(model, tokenizer, options=options)
    text = "".join(piece.text for piece in whole)
    stop = text[9:12]
    cut = pieces_of(model, tokenizer, options=options, stop=["never in there", stop])
    assert "".join(piece.text for piece in cut) == text[: text.index(stop)]
    assert [piece.finish for piece in cut[:-1]] == [None] * (len(cut) - 1)
    assert cut[-1].finish == "stop"
    told = [piece.token.id for piece in cut if piece.token]
    assert told == [piece.token.id for piece in whole if piece.token][: len(told)]


def test_a_text_of_as_many_tokens_as_asked_for_says_length():
    tokenizer = bytes_tokenizer()
    model = build(vocab_size=tokenizer.vocab_size)
    plain = pieces_of(model, tokenizer, options=GREEDY, stop_ids=())
    ids = [piece.token.id for piece in plain if piece.token]
    assert plain[-1].finish == "length"
    assert len(ids) == 60
    # An id that ends it just there: it was the model that stopped.
    stopped = pieces_of(model, tokenizer, options=GREEDY, stop_ids=(ids[5],))
    assert stopped[-1].finish == "stop"
    assert len(stopped) - 1 == ids.index(ids[5])


def test_a_bias_for_a_token_that_is_not_there_is_refused(model):
    with pytest.raises(UserError, match="logit_bias names the token 23"):
        cached(model, [1], 1, SamplingOptions(logit_bias={VOCAB: 1.0}))


def test_a_forbidden_token_never_comes(model):
    greedy = cached(model, [1, 2], 20)
    forbidden = {token: float("-inf") for token in greedy}
    options = SamplingOptions(1.0, 0, 1.0, 0, logit_bias=forbidden)
    assert set(cached(model, [1, 2], 200, options)).isdisjoint(greedy)
