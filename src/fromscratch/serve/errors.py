"""What a client is told when something is wrong, in the shape that OpenAI's clients read.

In: whatever goes wrong on the way to an answer. Out: `{"error": {message, type, param, code}}` with
the status by which a client knows what to do. What always holds: the message is a sentence for a
person, and nothing of the request's text or of this machine's files is in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fromscratch.foundation.errors import did_you_mean

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """An answer that is an error.

    Args:
        status: Of HTTP.
        message: A sentence for a person.
        param: The field that is wrong.
        code: A word for a program.
        retry_after: Seconds after which it is worth another try.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after = retry_after

    @property
    def content(self) -> dict[str, Any]:
        """The body's object."""
        kind = _TYPES.get(
            self.status, "invalid_request_error" if self.status < 500 else "server_error"
        )
        return {
            "error": {
                "message": self.message,
                "type": kind,
                "param": self.param,
                "code": self.code,
            }
        }

    @property
    def body(self) -> bytes:
        """The body."""
        return json.dumps(self.content).encode()

    @property
    def headers(self) -> dict[str, str]:
        """Beside those of every answer."""
        found = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            found["WWW-Authenticate"] = "Bearer"
        return found


INTERNAL = ApiError(500, "Something went wrong in the server; its terminal says what.")
"""Our own mistake: its traceback is for the terminal, not for the client."""


REFUSED = {
    "tools": "Functions are not called here: the model only writes text.",
    "tool_choice": "Functions are not called here: the model only writes text.",
    "parallel_tool_calls": "Functions are not called here: the model only writes text.",
    "functions": "Functions are not called here: the model only writes text.",
    "function_call": "Functions are not called here: the model only writes text.",
    "tool_calls": "Functions are not called here: the model only writes text.",
    "response_format": "Answers cannot be forced into a format here; only plain text is offered.",
    "modalities": "The model only reads and writes text.",
    "audio": "The model only reads and writes text.",
    "prediction": "Predicted outputs are not offered here.",
    "reasoning_effort": "The model has no separate reasoning to spend effort on.",
    "verbosity": "The model knows no levels of verbosity.",
    "web_search_options": "The model searches nothing: it only writes text.",
    "service_tier": "There is one tier of service here.",
    "store": "Nothing is stored here, so nothing can be asked to be.",
    "suffix": "Text is only continued at its end here; leave `suffix` out.",
    "best_of": "All texts that are written are given back here; ask for them with `n`.",
    "name": "Participants have no names in the model's chat template; leave `name` out.",
}
"""Fields of OpenAI's schema that are understood and not offered."""


def of_validation(problems: list[Mapping[str, Any]], known: Mapping[str, list[str]]) -> ApiError:
    """The first of pydantic's complaints as an error.

    Args:
        problems: As FastAPI collects them, at least one.
        known: For each route's path the fields of its body.
    """
    problem = problems[0]
    place = [part for part in problem["loc"] if part != "body"]
    field = _named(place)
    if problem["type"] == "extra_forbidden":
        last = str(place[-1])
        fields = known.get("message" if len(place) > 1 else "body", [])
        message = REFUSED.get(last) or (
            f'There is no field "{_short(field)}".{did_you_mean(last, fields)}'
        )
        return ApiError(400, message, param=_short(field), code="unsupported_parameter")
    if problem["type"] == "json_invalid":
        return ApiError(400, "The body is not JSON that can be read.", code="invalid_json")
    where = f"{_short(field)}: " if field else ""
    said = f"{str(problem['msg']).removeprefix('Value error, ').rstrip('.')}."
    return ApiError(400, f"{where}{said}", param=_short(field) or None, code="invalid_value")


def _named(place: list[Any]) -> str:
    """`messages[0].content` of ("messages", 0, "content", "str"); pydantic adds what it tried."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part[:1].islower() and part.isidentifier() and part not in ("str", "int", "list"):
            text += f".{part}" if text else part
    return text


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
