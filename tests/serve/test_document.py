"""The server against its own OpenAPI document, by schemathesis: no 5xx, nothing undocumented."""

from __future__ import annotations

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.serve.live import Live

EXAMPLES = settings(
    max_examples=15, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


def test_every_answer_is_as_the_document_says(live: Live) -> None:
    """Requests that the document allows, and ones that it forbids; the parrot's texts are short."""
    document = schemathesis.openapi.from_url(f"http://127.0.0.1:{live.port}/openapi.json")
    seen = set()
    for found in document.get_all_operations():
        operation = found.ok()

        @EXAMPLES
        @given(st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode)))
        def check(case: Case) -> None:
            # How many tokens fit is the model's; the document cannot know.
            answer = case.call_and_validate(excluded_checks=[positive_data_acceptance])
            seen.add((case.path, answer.status_code))

        check()
    assert {path for path, status in seen if status == 200} >= {
        "/v1/models", "/v1/completions", "/health", "/metrics"
    }  # fmt: skip
    assert ("/v1/chat/completions", 400) in seen


def test_the_document_names_what_can_be_asked(live: Live) -> None:
    found = live.ask("/openapi.json").json
    assert set(found["paths"]) == {
        "/v1/models", "/v1/models/{model}", "/v1/completions", "/v1/chat/completions", "/health",
        "/metrics",
    }  # fmt: skip
    for path in found["paths"].values():
        for operation in path.values():
            assert "422" not in operation["responses"]
            assert "400" in operation["responses"]


NESTED = b"[" * 100_000
BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "no object": b"[]",
    "deeply nested": b'{"prompt": ' + NESTED,
    "half a character": b'{"prompt": "x", "\\ud800": 1}',
    "no UTF-8": b'{"prompt": "\xff"}',
    "a huge number": b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}",
    "a long key": b'{"prompt": "x", "' + b"y" * 5000 + b'": 1}',
    "null": b"null",
}


@pytest.mark.parametrize("body", BODIES)
def test_what_is_no_request_is_told_so(live: Live, body: str) -> None:
    for path in ("/v1/completions", "/v1/chat/completions"):
        answer = live.ask(path, BODIES[body])
        assert answer.status == 400
        assert answer.error["type"] == "invalid_request_error"
        assert len(answer.body) < 600


def test_addresses_and_methods_that_there_are_not(live: Live) -> None:
    for path, method, status in (
        ("/v1/embeddings", "POST", 404),
        ("/v1/completions", "GET", 405),
        ("/health", "DELETE", 405),
        ("/", "POST", 405),
    ):
        answer = live.ask(path, {"input": "x"} if method == "POST" else None, method=method)
        assert answer.status == status
        assert answer.error
    assert live.ask("/v1/completions", method="GET").headers["allow"] == "POST"
    assert json.loads(live.ask("/health").body) == {"status": "ok"}
    assert live.ask("/", method="HEAD").body == b""
