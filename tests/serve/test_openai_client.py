"""The server through OpenAI's own client, which checks the shape of all that it is given."""

from __future__ import annotations

import asyncio

import openai
import pytest
import torch
from openai import AsyncOpenAI

from fromscratch.chat.conversations import Message
from fromscratch.chat.rendering import prompt_ids
from fromscratch.generate.engine import generate_ids
from fromscratch.generate.sampling import SamplingOptions
from tests.serve.live import FOREVER, Live
from tests.serve.parrot import CONTEXT, GREETING, LINES, STORY

HELLO = [{"role": "user", "content": "Hello"}]


def test_a_chat_answer_ends_by_itself(live: Live) -> None:
    answer = live.client().chat.completions.create(model="parrot", messages=HELLO, temperature=0)
    (choice,) = answer.choices
    assert choice.message.content == GREETING
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    assert choice.ended_by == "end_of_text"
    assert answer.usage.completion_tokens == len(GREETING.encode())
    asked = [Message("user", "Hello")]
    prompt = prompt_ids(live.bundle.template, live.bundle.tokenizer, asked)
    assert answer.usage.prompt_tokens == len(prompt)
    assert answer.usage.total_tokens == len(prompt) + len(GREETING.encode())
    assert answer.system_fingerprint == f"fs-{live.bundle.sha256[:12]}"


def test_a_stream_is_the_same_text_in_whole_characters(live: Live) -> None:
    stream = live.client().chat.completions.create(
        model="parrot", messages=HELLO, temperature=0, stream=True, logprobs=True, top_logprobs=2,
        stream_options={"include_usage": True},
    )  # fmt: skip
    pieces = list(stream)
    assert pieces[0].choices[0].delta.role == "assistant"
    said = [c.delta.content for p in pieces for c in p.choices if c.delta.content]
    assert "".join(said) == GREETING
    assert len(said) == len(GREETING), "a token of bytes is a character, or a part of one"
    tokens = [t for p in pieces for c in p.choices if c.logprobs for t in c.logprobs.content]
    assert bytes(b for t in tokens for b in t.bytes).decode() == GREETING
    assert all(len(t.top_logprobs) == 2 for t in tokens)
    ends = [c.finish_reason for p in pieces for c in p.choices if c.finish_reason]
    assert ends == ["stop"]
    assert pieces[-1].choices == []
    assert pieces[-1].usage.completion_tokens == len(GREETING.encode())
    assert all(p.usage is None for p in pieces[:-1])


def test_logprobs_are_the_model_s_own(live: Live) -> None:
    client, tokenizer, model = live.client(), live.bundle.tokenizer, live.bundle.model
    answer = client.completions.create(
        model="parrot", prompt="Once", max_tokens=12, temperature=1.3, logprobs=3, seed=5,
        frequency_penalty=1,
    )  # fmt: skip
    found = answer.choices[0].logprobs
    written = [ord(token) for token in found.tokens]
    ids = [*tokenizer.encode("Once"), *written]
    with torch.no_grad():
        expected = model(torch.tensor([ids])).log_softmax(-1)[0, len("Once") - 1 : -1]
    for place, (token, logprob) in enumerate(zip(written, found.token_logprobs, strict=True)):
        assert logprob == pytest.approx(float(expected[place, token]), abs=1e-4)
        best, at = expected[place].topk(3)
        top = found.top_logprobs[place]
        assert list(top.values()) == pytest.approx(best.tolist(), abs=1e-4)
        assert next(iter(top)) == chr(int(at[0]))
    assert found.text_offset == list(range(len(written)))


def test_a_seed_is_a_text_whoever_else_is_served(live: Live) -> None:
    options = SamplingOptions(temperature=1.0, top_k=0, seed=7)
    prompt = live.bundle.tokenizer.encode("Say ")
    alone = list(
        generate_ids(
            live.bundle.model, prompt, max_new_tokens=40, options=options,
            stop_ids=(live.bundle.tokenizer.eot_id,),
        )
    )  # fmt: skip
    ends = {i for name, i in live.bundle.tokenizer.special_ids.items() if name == "<|end|>"}
    alone = alone[: min((n for n, i in enumerate(alone) if i in ends), default=len(alone))]

    async def crowd() -> list[str]:
        async with AsyncOpenAI(
            base_url=f"http://127.0.0.1:{live.port}/v1", api_key="none", max_retries=0
        ) as client:
            asked = [
                client.completions.create(
                    model="parrot", prompt="Say ", max_tokens=40, seed=7 if i == 5 else i
                )
                for i in range(20)
            ]
            return [answer.choices[0].text for answer in await asyncio.gather(*asked)]

    texts = asyncio.run(crowd())
    assert texts[5] == live.bundle.tokenizer.decode(alone)
    assert texts[7] == texts[5]
    assert len(set(texts)) > 10


def test_several_texts(live: Live) -> None:
    client = live.client()
    one = client.completions.create(model="parrot", prompt="x", max_tokens=9, seed=3)
    answer = client.completions.create(model="parrot", prompt="x", max_tokens=9, seed=3, n=16)
    texts = [choice.text for choice in answer.choices]
    assert [choice.index for choice in answer.choices] == list(range(16))
    assert texts[0] == one.choices[0].text
    assert len(set(texts)) > 8
    assert answer.usage.prompt_tokens == 1
    stream = client.completions.create(
        model="parrot", prompt="x", max_tokens=9, seed=3, n=16, stream=True
    )
    streamed = [""] * 16
    for piece in stream:
        for choice in piece.choices:
            streamed[choice.index] += choice.text
    assert streamed == texts


def test_prompts_of_every_kind(live: Live) -> None:
    client, tokenizer = live.client(), live.bundle.tokenizer
    begun = "Once upon a time"
    rest = STORY.removeprefix(begun)
    for prompt in (begun, tokenizer.encode(begun)):
        answer = client.completions.create(
            model="parrot", prompt=prompt, temperature=0, max_tokens=100, echo=True
        )
        assert answer.choices[0].text == begun + rest
        assert answer.choices[0].finish_reason == "stop"
    for prompts in ([begun, "Once"], [tokenizer.encode(begun), tokenizer.encode("Once")]):
        answer = client.completions.create(
            model="parrot", prompt=prompts, temperature=0, max_tokens=100
        )
        assert [c.text for c in answer.choices] == [rest, STORY.removeprefix("Once")]
    empty = client.completions.create(model="parrot", prompt="", temperature=0, max_tokens=100)
    assert empty.choices[0].text == STORY, "the empty prompt begins a document"
    short = client.completions.create(model="parrot", prompt=begun, temperature=0)
    assert short.usage.completion_tokens == 16, "OpenAI's default"


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_text_and_all_behind_it_never_comes_out(live: Live, stream: bool) -> None:
    answer = live.client().chat.completions.create(
        model="parrot", messages=[{"role": "user", "content": "Count"}], temperature=0,
        stop=["seven", " four five"], stream=stream, logprobs=True,
    )  # fmt: skip
    expected = "one two three"
    assert LINES["Count"].startswith(expected)
    if not stream:
        (choice,) = answer.choices
        assert choice.message.content == expected
        assert (choice.finish_reason, choice.ended_by) == ("stop", "stop")
        assert "".join(t.token for t in choice.logprobs.content) == expected
        return
    choices = [choice for piece in answer for choice in piece.choices]
    assert "".join(c.delta.content or "" for c in choices) == expected
    assert "".join(t.token for c in choices if c.logprobs for t in c.logprobs.content) == expected
    assert choices[-1].finish_reason == "stop"


def test_settings_are_obeyed(live: Live) -> None:
    client = live.client()

    def says(**settings: object) -> str:
        answer = client.completions.create(
            model="parrot", prompt="Once upon a ", max_tokens=6, **{"temperature": 0} | settings
        )
        return answer.choices[0].text

    assert says() == "time t"
    assert says(logit_bias={str(ord("t")): -100})[0] != "t"
    assert says(logit_bias={str(ord("z")): 100}) == "zzzzzz"
    once = says(logit_bias={str(ord("z")): 40}, presence_penalty=2, frequency_penalty=2)
    assert once.startswith("z")
    for least in (1e-300, 1e-7, 1e-5):
        assert says(temperature=least, top_p=5e-324) == "time t"
        assert says(temperature=least, extra_body={"repetition_penalty": 0.01})
        assert says(temperature=least, extra_body={"repetition_penalty": 100.0, "min_p": 1})
    wild = {says(temperature=50, seed=s) for s in range(3)}
    assert len(wild) == 3
    assert says(temperature=50, seed=1, top_p=1e-6) == "time t"
    for more in ({"top_k": 1}, {"min_p": 1.0}):
        assert says(temperature=50, seed=1, extra_body=more) == "time t"
    assert says(extra_body={"repetition_penalty": 100.0}) != "time t"


def test_too_long_a_conversation_is_refused_or_cut_as_asked(live: Live) -> None:
    client = live.client()
    turns = [
        {"role": role, "content": text * 8}
        for _ in range(6)
        for role, text in (("user", "Hello"), ("assistant", "Well."))
    ]
    with pytest.raises(openai.BadRequestError, match="context is 256") as error:
        client.chat.completions.create(model="parrot", messages=[*turns, *HELLO])
    assert error.value.code == "context_length_exceeded"
    answer = client.chat.completions.create(
        model="parrot", messages=[*turns, *HELLO], temperature=0, extra_body={"truncate": True}
    )
    assert answer.truncated % 2 == 0, "what is left begins with the user"
    assert 0 < answer.truncated < 12
    kept = [Message(t["role"], t["content"]) for t in [*turns, *HELLO][answer.truncated :]]
    prompt = prompt_ids(live.bundle.template, live.bundle.tokenizer, kept)
    assert answer.usage.prompt_tokens == len(prompt) <= CONTEXT * 3 // 4
    whole = client.completions.create(
        model="parrot", prompt="x" * 1000, max_tokens=100, extra_body={"truncate": True}
    )
    assert whole.truncated == 1000 - (CONTEXT - 100)
    assert whole.usage.prompt_tokens == CONTEXT - 100
    short = client.completions.create(
        model="parrot", prompt="x" * 100, max_tokens=200, extra_body={"truncate": True}
    )
    assert short.truncated == 0
    assert short.usage.prompt_tokens == 100


def test_what_a_base_model_says_of_chat(based: Live) -> None:
    client = based.client()
    with pytest.raises(openai.BadRequestError, match="is a base model: it continues text"):
        client.chat.completions.create(model="parrot", messages=HELLO)
    answer = client.completions.create(
        model="parrot", prompt="x", max_tokens=20, logit_bias=FOREVER
    )
    assert answer.usage.completion_tokens == 20
    assert answer.choices[0].ended_by == "max_tokens"
    (model,) = client.models.list().data
    assert (model.chat, model.template) == (False, None)


def test_models(live: Live) -> None:
    client = live.client()
    (model,) = client.models.list().data
    assert (model.id, model.object, model.chat, model.context) == ("parrot", "model", True, CONTEXT)
    assert client.models.retrieve("parrot").sha256 == live.bundle.sha256
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("org/other")


BAD = openai.BadRequestError
WRONG = {
    "another model": ({"model": "gpt-4"}, openai.NotFoundError, "The model here is parrot"),
    "tools": (
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        BAD, "Functions are not called",
    ),
    "a format": ({"response_format": {"type": "json_object"}}, BAD, "only plain text"),
    "a misspelt field": ({"extra_body": {"temprature": 1}}, BAD, 'Did you mean "temperature"'),
    "a name": ({"messages": [{"role": "user", "content": "x", "name": "Bob"}]}, BAD, "no names"),
    "a picture": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "url": "x"}]}]},
        BAD, "no other is read",
    ),
    "the model's turn": (
        {"messages": [{"role": "assistant", "content": "x"}]},
        BAD, "must be the user's",
    ),
    "a late system": (
        {"messages": [*HELLO, {"role": "system", "content": "x"}]},
        BAD, "only the first",
    ),
    "no messages": ({"messages": []}, BAD, "at least 1 item"),
    "too hot": ({"temperature": -1}, BAD, "greater than or equal to 0"),
    "not a number": ({"temperature": "1"}, BAD, "temperature"),
    "too many": ({"n": 17}, BAD, "writes 16"),
    "too long": ({"max_tokens": 256}, BAD, "context is 256"),
    "two lengths": ({"max_tokens": 5, "max_completion_tokens": 6}, BAD, "differ"),
    "an empty stop": ({"stop": ["a", ""]}, BAD, "everywhere"),
    "a bias of no token": ({"logit_bias": {"999": 1}}, BAD, "0 to 260"),
    "places without logprobs": ({"top_logprobs": 2}, BAD, "needs logprobs"),
    "usage without a stream": ({"stream_options": {"include_usage": True}}, BAD, "needs stream"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", WRONG)
def test_what_cannot_be_served_is_refused_with_a_sentence(live: Live, mistake: str) -> None:
    given, kind, sentence = WRONG[mistake]
    with pytest.raises(kind, match=sentence) as error:
        live.client().chat.completions.create(
            **{"model": "parrot", "messages": HELLO, "max_tokens": 3} | given  # type: ignore[arg-type]
        )
    assert error.value.body is not None
    assert error.value.type == "invalid_request_error"


def test_values_that_ask_for_nothing_are_allowed(live: Live) -> None:
    answer = live.client().chat.completions.create(
        model="parrot",
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "Be"}]},
            *HELLO,
            {"role": "assistant", "content": "x", "refusal": None, "tool_calls": None},
            *HELLO,
        ],
        max_completion_tokens=2, temperature=None, tools=[], response_format={"type": "text"},
        store=False, user="me", metadata={"a": "b"}, stop=None,
    )  # fmt: skip
    assert answer.usage.completion_tokens <= 2


def test_finite_numbers_only(live: Live) -> None:
    for bad in (b'{"prompt": "x", "temperature": NaN}', b'{"prompt": "x", "temperature": 1e999}'):
        answer = live.ask("/v1/completions", bad)
        assert answer.status == 400
        assert answer.error["param"] == "temperature"
