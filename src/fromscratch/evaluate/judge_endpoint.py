"""Requests to the judge, and what becomes of those that fail.

In: a question's text. Out: what the judge wrote, raw, or that it refused this one question. The
`openai` client speaks the protocol; `tenacity` waits and asks again after rate limits, errors of
the server, timeouts and broken connections, as long as the server says (Retry-After), else with
exponential backoff and full jitter. What no repetition mends (a wrong key, no such model, no
credit) ends in a `UserError`.

Not every server knows every option of a request. One that it refuses is left out from then on, and
every reply says which options it was made with.
"""

from __future__ import annotations

import asyncio
import email.utils
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fromscratch.evaluate.judge_address import JudgeAddress
from fromscratch.foundation.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import openai
    from tenacity import RetryCallState

LONGEST_WAIT = 600.0  # seconds; who is told to come back later than that had better stop
_AGAIN = {408, 409, 425, 429}  # and every error of the server
_KEPT = "Every answer and score so far is kept; the same command goes on."


@dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
        text: What the judge wrote; where the body is not of the protocol, the body.
        refusal: Why the endpoint would not answer this question; None if it did.
        usage: Tokens as the endpoint counted them: `prompt_tokens`, `completion_tokens`.
        options: Options of the request that the endpoint accepted.
    """

    text: str = ""
    refusal: str | None = None
    usage: dict[str, int] = field(default_factory=dict)
    options: tuple[str, ...] = ()


class JudgeEndpoint:
    """The judge's endpoint; to be used inside `async with`.

    Args:
        address: Which.
        key: None where none is needed.
        timeout: Seconds that one reply may take.
        retries: How often a request is repeated.
        backoff: Seconds that the first wait takes at most; each later one up to twice as long.
        on_wait: Is told why and how long a request waits.

    Raises:
        UserError: The `openai` or `tenacity` package is missing.
    """

    def __init__(
        self,
        address: JudgeAddress,
        key: str | None,
        *,
        timeout: float = 120.0,
        retries: int = 8,
        backoff: float = 0.5,
        on_wait: Callable[[str], None] = lambda reason: None,
    ) -> None:
        try:
            import openai
            import tenacity
        except ImportError as error:
            raise UserError(
                f"A judge needs the package {error.name}.", fix="pip install 'fromscratch[eval]'"
            ) from None
        self.address = address
        self._key = key
        self._timeout = timeout
        self._tries = retries + 1
        self._on_wait = on_wait
        # One mechanism for time and one for repetition: ours. The client's are switched off.
        self._client = openai.AsyncOpenAI(
            base_url=address.url, api_key=key or "none", timeout=None, max_retries=0
        )
        self._options: dict[str, Any] = {
            "response_format": {"type": "json_object"},
            "temperature": 0,
        }
        self._backoff = tenacity.wait_random_exponential(multiplier=backoff, max=60)
        self._retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self._tries),
            wait=self._wait,
            retry=tenacity.retry_if_exception(_passes),
            before_sleep=self._tell,
            reraise=True,
        )

    async def __aenter__(self) -> JudgeEndpoint:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def look(self) -> str | None:
        """Asks for the list of models, which costs nothing, before anything is spent.

        Returns:
            A warning if the judge is not in the list.

        Raises:
            UserError: Nothing answers there, or the key is refused.
        """
        import openai

        async def models() -> list[str]:
            async with asyncio.timeout(self._timeout):
                return [model.id async for model in self._client.models.list()]

        try:
            names: list[str] = await self._retrying(models)
        except openai.AuthenticationError as error:
            raise self._permanent(error) from None
        except (openai.APIConnectionError, TimeoutError) as error:
            raise self._exhausted(error) from None
        except Exception:  # a server need not have such a list, nor a key the right to see it
            return None
        if not names or self.address.model in names:
            return None
        known = ", ".join(sorted(names)[:8]) + (" ..." if len(names) > 8 else "")
        guess = did_you_mean(self.address.model, names)
        return f'{self.address.host} lists no model "{self.address.model}".{guess} Listed: {known}.'

    async def ask(self, text: str) -> Reply:
        """One question.

        Raises:
            UserError: No repetition helped, or none would.
        """
        import openai

        options = dict(self._options)
        while True:
            try:
                reply: Reply = await self._retrying(self._once, text, options)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                said = self._said(error)
                if not options:
                    return Reply(refusal=f"HTTP {error.status_code}: {said}")
                named = [name for name in options if name in f"{error.param} {error.message}"]
                for name in named or list(options)[:1]:
                    del options[name]
            except openai.APIStatusError as error:
                if error.status_code == 413:
                    return Reply(refusal=f"HTTP 413: {self._said(error)}")
                gives_up = _passes(error) or _is_later(error)
                raise (self._exhausted if gives_up else self._permanent)(error) from None
            except (openai.APIConnectionError, TimeoutError) as error:
                raise self._exhausted(error) from None
            else:
                # Only now is it known that it was the option, not the question, that was refused.
                self._options = {k: v for k, v in self._options.items() if k in options}
                return reply

    async def _once(self, text: str, options: dict[str, Any]) -> Reply:
        async with asyncio.timeout(self._timeout):
            raw = await self._client.chat.completions.with_raw_response.create(
                model=self.address.model,
                messages=[{"role": "user", "content": text}],
                **options,
            )
        try:
            completion = raw.parse()
            choice = completion.choices[0]
            content = choice.message.content
        except (ValueError, TypeError, AttributeError, IndexError):
            return Reply(raw.text, options=tuple(options))
        usage = {
            name: count
            for name in ("prompt_tokens", "completion_tokens")
            if isinstance(count := getattr(completion.usage, name, None), int)
        }
        # Where the words are missing (a refusal, no room left), the body says why.
        return Reply(content or raw.text, usage=usage, options=tuple(options))

    # --- waiting ----------------------------------------------------------------------------------

    def _wait(self, state: RetryCallState) -> float:
        assert state.outcome is not None
        told = _retry_after(state.outcome.exception())
        return self._backoff(state) if told is None else told

    def _tell(self, state: RetryCallState) -> None:
        assert state.outcome is not None
        assert state.next_action is not None
        reason = self._reason(state.outcome.exception())
        self._on_wait(f"{reason}; asks again in {state.next_action.sleep:.0f} s")

    # --- telling ----------------------------------------------------------------------------------

    def _reason(self, error: BaseException | None) -> str:
        import openai

        if isinstance(error, openai.APIStatusError):
            return f"HTTP {error.status_code}: {self._said(error)}"
        if isinstance(error, TimeoutError):
            return f"no reply within {self._timeout:g} s"
        return f"no connection ({error.__cause__ or error})" if error is not None else ""

    def _said(self, error: openai.APIError) -> str:
        """The server's own words, in one line and without the key."""
        body = error.body
        text = body.get("message") if isinstance(body, dict) else None
        said = " ".join(str(text or error.message).split())[:300]
        return said.replace(self._key, "***") if self._key else said

    def _exhausted(self, error: Exception) -> UserError:
        later = _retry_after(error)
        if later is not None and later > LONGEST_WAIT:
            what = f"asks to wait {later / 60:.0f} minutes ({self._reason(error)})"
        else:
            what = f"was asked {self._tries} times in vain ({self._reason(error)})"
        return UserError(f"The judge at {self.address.url} {what}.", fix=_KEPT)

    def _permanent(self, error: openai.APIStatusError) -> UserError:
        fixes = {
            401: "Set OPENAI_API_KEY, or name a file with --api-key-file.",
            403: "See what the key may do there.",
            404: f"See whether {self.address.url} is right (many end in /v1), and whether it has "
            f'a model "{self.address.model}".',
        }
        fix = fixes.get(error.status_code, "See what the server says.")
        return UserError(
            f"The judge at {self.address.url} will not do it: {self._reason(error)}.",
            fix=f"{fix} {_KEPT}",
        )


def _passes(error: BaseException) -> bool:
    """Whether asking again may help."""
    import openai

    if isinstance(error, openai.APIStatusError):
        if error.code == "insufficient_quota" or _is_later(error):
            return False
        return error.status_code in _AGAIN or error.status_code >= 500
    return isinstance(error, (openai.APIConnectionError, TimeoutError))


def _is_later(error: BaseException) -> bool:
    return (_retry_after(error) or 0.0) > LONGEST_WAIT


def _retry_after(error: BaseException | None) -> float | None:
    """Seconds that the server asks to wait: a number or a date (RFC 9110, section 10.2.3)."""
    import openai

    if not isinstance(error, openai.APIStatusError):
        return None
    text = error.response.headers.get("retry-after", "")
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
