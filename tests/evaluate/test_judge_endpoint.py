"""Requests to a judge over real HTTP: what is repeated, what ends, what is counted as a reply."""

from __future__ import annotations

import asyncio
import email.utils
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from fromscratch.evaluate.judge_address import JudgeAddress
from fromscratch.evaluate.judge_endpoint import JudgeEndpoint, Reply
from fromscratch.foundation.errors import UserError
from tests.evaluate.judge_server import KEY, JudgeServer, Trouble, error

PROMPT = (
    "Each text stands between two lines that begin with ==1.\n"
    "==1 begin answer_1\nabc\n==1 end answer_1"
)


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer() as server:
        yield server


def ask(server: JudgeServer, *, times: int = 1, model: str = "strict-judge", **options) -> Reply:
    """Asks the same so many times, one after the other; the last reply."""

    async def work() -> Reply:
        address = JudgeAddress(server.url, model)
        quick = {"timeout": 5.0, "retries": 2, "backoff": 0.001} | options
        async with JudgeEndpoint(address, KEY, **quick) as endpoint:
            for _ in range(times):
                reply = await endpoint.ask(PROMPT)
        return reply

    return asyncio.run(work())


def look(url: str, **options) -> str | None:
    async def work() -> str | None:
        quick = {"timeout": 5.0, "retries": 1, "backoff": 0.001} | options
        async with JudgeEndpoint(JudgeAddress(url, "strict-jugde"), KEY, **quick) as endpoint:
            return await endpoint.look()

    return asyncio.run(work())


def test_one_request_has_the_key_the_prompt_and_the_options(server: JudgeServer):
    reply = ask(server)
    assert reply.text == '{"answer_1": 3}'
    assert reply.usage == {"prompt_tokens": 100, "completion_tokens": 10}
    (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.body == {
        "model": "strict-judge",
        "messages": [{"role": "user", "content": PROMPT}],
        "response_format": {"type": "json_object"},
        "temperature": 0,
    }


@pytest.mark.parametrize(
    "trouble",
    [error(429), error(500), error(503), error(408), Trouble(drop=True), Trouble(502, body=b"<p>")],
    ids=["429", "500", "503", "408", "dropped in the middle", "a proxy's page"],
)
def test_what_passes_is_asked_again(server: JudgeServer, trouble: Trouble):
    server.troubles = [trouble, trouble]
    assert ask(server).text == '{"answer_1": 3}'
    assert len(server.asked) == 3


def test_a_reply_that_does_not_come_is_asked_for_again(server: JudgeServer):
    never = threading.Event()
    server.troubles = [Trouble(until=never)]
    assert ask(server, timeout=0.3).text == '{"answer_1": 3}'
    never.set()
    assert len(server.asked) == 2


def test_who_says_when_to_come_back_is_obeyed(server: JudgeServer):
    told: list[str] = []
    server.troubles = [error(429, "slow down", Retry_After="1")]
    assert ask(server, on_wait=told.append).text == '{"answer_1": 3}'
    first, second = server.asked
    assert second.at - first.at >= 1
    assert told == ["HTTP 429: slow down; asks again in 1 s"]


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_who_says_to_come_back_in_an_hour_is_not_waited_for(server: JudgeServer, form: str):
    date = email.utils.formatdate(time.time() + 3630, usegmt=True)
    server.troubles = [error(429, Retry_After="3630" if form == "seconds" else date)]
    with pytest.raises(UserError, match=r"asks to wait 60 minutes .*the same command goes on"):
        ask(server)
    assert len(server.asked) == 1


def test_in_the_end_it_gives_up(server: JudgeServer):
    server.troubles = [error(503, "overloaded")] * 9
    with pytest.raises(UserError, match=r"asked 3 times in vain .HTTP 503: overloaded.*goes on"):
        ask(server)
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("trouble", "fix"),
    [
        (error(401, f"Incorrect API key provided: {KEY}"), "OPENAI_API_KEY"),
        (error(403), "what the key may do"),
        (error(404, "no model"), '"strict-judge"'),
        (error(429, "You exceeded your quota", code="insufficient_quota"), "quota"),
        (error(402, "pay"), "pay"),
    ],
    ids=["401", "403", "404", "no credit", "402"],
)
def test_what_no_repetition_mends_ends_at_once(server: JudgeServer, trouble: Trouble, fix: str):
    server.troubles = [trouble]
    with pytest.raises(UserError) as caught:
        ask(server)
    assert fix in str(caught.value)
    assert KEY not in str(caught.value)
    assert len(server.asked) == 1


def test_an_option_that_it_does_not_know_is_left_out_from_then_on(server: JudgeServer):
    server.troubles = [error(400, "Unsupported value: 'temperature' does not support 0")]
    reply = ask(server, times=2)
    assert reply.options == ("response_format",)
    assert [sorted(a.body) for a in server.asked] == [
        ["messages", "model", "response_format", "temperature"],
        ["messages", "model", "response_format"],
        ["messages", "model", "response_format"],
    ]


def test_a_refusal_that_names_no_option(server: JudgeServer):
    server.troubles = [error(422, "bad request")]
    assert ask(server, times=2).options == ("temperature",)
    assert len(server.asked) == 3


def test_one_question_that_is_refused_costs_no_option_and_ends_nothing(server: JudgeServer):
    server.troubles = [error(400, "maximum context length is 8192 tokens")] * 3
    assert ask(server).refusal == "HTTP 400: maximum context length is 8192 tokens"
    server.troubles = [error(400, "maximum context length is 8192 tokens")] * 3
    assert ask(server, times=2).options == ("response_format", "temperature")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>Welcome</html>", "text/html"),
        (b'{"choices": [{"message"', "application/json"),
        (b"{}", "application/json"),
        (b'{"choices": []}', "application/json"),
        (b"[1, 2]", "application/json"),
        (b'{"choices": [{"message": {"content": null, "refusal": "no"}}]}', "application/json"),
        (b'{"choices": [{"message": "?"}]}', "application/json"),
        (b"", "application/json"),
    ],
)
def test_a_body_that_is_not_of_the_protocol_is_kept_as_it_is(
    server: JudgeServer, body: bytes, kind: str
):
    server.troubles = [Trouble(body=body, headers={"Content-Type": kind})]
    assert ask(server).text == body.decode()
    assert len(server.asked) == 1


def test_the_list_of_models_is_looked_at_before_anything_is_spent(server: JudgeServer):
    warning = look(server.url)
    assert warning is not None
    assert 'lists no model "strict-jugde". Did you mean "strict-judge"? Listed: other' in warning
    server.models = None
    assert look(server.url) is None
    assert not server.asked


def test_nobody_is_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with pytest.raises(UserError, match=r"asked 2 times in vain .no connection"):
            look(url)
