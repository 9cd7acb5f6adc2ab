"""What Prometheus can collect from the server: its load, its speed, and who was turned away.

The names follow vLLM's where they mean the same thing, so that its dashboards need little change.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


class Metrics:
    """Numbers of one server; each server has its own registry."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        at = self._registry
        self.requests = Counter(
            "fromscratch_requests",
            "Requests by route and status.",
            ("route", "status"),
            registry=at,
        )
        self.texts = Counter(
            "fromscratch_texts", "Texts written, by what ended them.", ("ended_by",), registry=at
        )
        self.prompt_tokens = Counter("fromscratch_prompt_tokens", "Tokens read.", registry=at)
        self.written_tokens = Counter(
            "fromscratch_generation_tokens", "Tokens written.", registry=at
        )
        self.turned_away = Counter(
            "fromscratch_turned_away", "Requests refused because the queue was full.", registry=at
        )
        self.steps = Counter(
            "fromscratch_decode_steps",
            "Steps in which every running text got a token.",
            registry=at,
        )
        self.first_token = Histogram(
            "fromscratch_time_to_first_token_seconds",
            "From a request to its text's first token.",
            buckets=_SECONDS,
            registry=at,
        )
        self.waited = Histogram(
            "fromscratch_queue_time_seconds",
            "From a request to its text's turn.",
            buckets=_SECONDS,
            registry=at,
        )
        self.between_tokens = Histogram(
            "fromscratch_time_per_output_token_seconds",
            "Of a whole text, seconds for each token after the first.",
            buckets=_PER_TOKEN,
            registry=at,
        )

    def watch(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """A number that is looked up whenever somebody asks."""
        Gauge(name, help_text, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """All of them, as Prometheus reads it."""
        return generate_latest(self._registry)
