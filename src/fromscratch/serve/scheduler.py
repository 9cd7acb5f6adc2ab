"""The model's one thread: it writes several texts at once, and new ones join at any token.

In: jobs, from any thread. Out: their events, on the event loop of whoever asked. What always holds:
a job whose client has left takes part in no further step, so its slot is free within one token; no
more jobs wait than the limit says; what goes wrong in a step is told to the jobs that were in it,
and the next ones find a working model.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.generate.slots import Slots
from fromscratch.generate.tokens import with_logprobs
from fromscratch.serve.answers import EndedBy
from fromscratch.serve.errors import INTERNAL, ApiError
from fromscratch.serve.jobs import Ended, Event, Failed, Job, Mailbox
from fromscratch.serve.limits import Limits
from fromscratch.serve.metrics import Metrics

_log = logging.getLogger(__name__)

FULL = ApiError(
    429,
    "As many requests as may wait are waiting; try again in a moment.",
    code="queue_full",
    retry_after=1,
)
WAITED_TOO_LONG = ApiError(
    503, "The request's time was over before its turn came.", code="timeout", retry_after=1
)
ENDING = ApiError(503, "The server is shutting down.", code="shutting_down", retry_after=5)


class Scheduler:
    """Writes texts.

    Args:
        bundle: The model and its tokenizer; used by this thread alone from `start` on.
        limits: How many texts at a time, and how many may wait.
        metrics: Told of everything.
    """

    def __init__(self, bundle: ModelBundle, limits: Limits, metrics: Metrics) -> None:
        self._bundle, self._limits, self._metrics = bundle, limits, metrics
        self._slots = Slots(bundle.model, limits.parallel)
        self._waiting: deque[Job] = deque()
        self._running: dict[int, Job] = {}
        self._outbox: list[tuple[Mailbox, int, Event]] = []
        self._changed = threading.Condition()
        self._ends_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        metrics.watch("fromscratch_texts_running", "Texts being written.", lambda: self.n_running)
        metrics.watch("fromscratch_texts_waiting", "Texts that wait.", lambda: self.n_waiting)

    # --- from any thread --------------------------------------------------------------------------

    @property
    def n_running(self) -> int:
        """Texts that have a slot."""
        return len(self._running)

    @property
    def n_waiting(self) -> int:
        """Texts that wait for one."""
        return len(self._waiting)

    @property
    def is_working(self) -> bool:
        """Whether new texts are taken."""
        return self._thread.is_alive() and self._ends_at is None

    def start(self) -> None:
        """Begins to work."""
        self._thread.start()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Takes the texts of one request, all or none.

        Raises:
            ApiError: Too many wait already, or the server is ending.
        """
        with self._changed:
            if self._ends_at is not None:
                raise ENDING
            if len(self._waiting) + len(jobs) > self._limits.queue:
                self._metrics.turned_away.inc()
                raise FULL
            self._waiting.extend(jobs)
            self._changed.notify()

    def drain(self) -> None:
        """Takes nothing any more; what runs may go on for the grace period."""
        with self._changed:
            if self._ends_at is None:
                self._ends_at = time.monotonic() + self._limits.grace_seconds
            self._changed.notify()

    def close(self) -> None:
        """Ends the thread within a step."""
        with self._changed:
            self._ends_at = time.monotonic()
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    # --- the model's thread -----------------------------------------------------------------------

    def _run(self) -> None:
        while self._has_work():
            try:
                self._sweep()
                self._admit()
                if self._running:
                    self._step()
            except Exception:
                _log.exception("a step failed")
                self._start_over()
            self._send()

    def _has_work(self) -> bool:
        """Waits for some; False when the server ends."""
        with self._changed:
            while not self._waiting and not self._running:
                if self._ends_at is not None:
                    return False
                self._changed.wait()
            return True

    def _sweep(self) -> None:
        """Lets go of what nobody waits for, and of what has had its time."""
        now = time.monotonic()
        ends_at = self._ends_at
        with self._changed:
            waiting, self._waiting = list(self._waiting), deque()
            for job in waiting:
                if job.cancelled:
                    continue
                if ends_at is not None or now >= job.deadline:
                    self._fail(job, ENDING if ends_at is not None else WAITED_TOO_LONG)
                else:
                    self._waiting.append(job)
        for job in list(self._running.values()):
            if job.cancelled:
                self._free(job)
                self._metrics.texts.labels("client_left").inc()
            elif ends_at is not None and now >= ends_at:
                self._free(job)
                self._fail(job, ENDING)
            elif now >= job.deadline:
                job.stop_here(self._teller(job))
                self._end(job, "time")

    def _admit(self) -> None:
        while self._slots.n_free and self._waiting:
            job = self._waiting[0]
            if self._is_being_read(job):
                return  # it gets a copy when the reading is done
            with self._changed:
                self._waiting.popleft()
            self._begin(job, partial(self._slots.admit, job.order.prompt))

    def _is_being_read(self, job: Job) -> bool:
        """Whether another text with the very same prompt is about to have read it."""
        return any(
            other.order.prompt is job.order.prompt and other.n_tokens == 0 and not other.cancelled
            for other in self._running.values()
        )

    def _begin(self, job: Job, take_slot: Callable[[], int]) -> bool:
        """Gives a job its slot; False if that fails, of which the job is told."""
        try:
            job.slot = take_slot()
        except Exception:
            _log.exception("a text could not begin")
            self._fail(job, INTERNAL)
            return False
        job.start(self._bundle.tokenizer)
        self._running[job.slot] = job
        self._metrics.waited.observe(time.monotonic() - job.begun)
        return True

    def _step(self) -> None:
        ready = self._slots.step()
        self._metrics.steps.inc()
        for slot, logits in ready:
            job = self._running[slot]
            for sharer in [*self._sharers(job), job]:
                try:
                    self._go_on(sharer, logits)
                except Exception:
                    _log.exception("a token could not be chosen")
                    self._free(sharer)
                    self._fail(sharer, INTERNAL)

    def _go_on(self, job: Job, logits: Tensor) -> None:
        token = job.sampler.choose(logits)
        self._count(job)
        ended = job.take(with_logprobs(token, logits, job.order.top_logprobs), self._teller(job))
        if ended is None:
            self._slots.feed(job.slot, token)
        else:
            self._end(job, ended)

    def _sharers(self, job: Job) -> list[Job]:
        """Texts with the same prompt, which has been read just now: each gets a slot, if free."""
        found: list[Job] = []
        if job.n_tokens:
            return found
        self._metrics.prompt_tokens.inc(len(job.order.prompt))
        while (
            self._slots.n_free
            and self._waiting
            and self._waiting[0].order.prompt is job.order.prompt
        ):
            with self._changed:
                sharer = self._waiting.popleft()
            if self._begin(sharer, partial(self._slots.fork, job.slot)):
                found.append(sharer)
        return found

    def _count(self, job: Job) -> None:
        self._metrics.written_tokens.inc()
        if job.first_token is None:
            job.first_token = time.monotonic()
            self._metrics.first_token.observe(job.first_token - job.begun)

    def _end(self, job: Job, by: EndedBy) -> None:
        self._free(job)
        self._metrics.texts.labels(by).inc()
        if job.first_token is not None and job.n_tokens > 1:
            seconds = time.monotonic() - job.first_token
            self._metrics.between_tokens.observe(seconds / (job.n_tokens - 1))
        self._teller(job)(Ended(by, job.n_tokens))

    def _fail(self, job: Job, error: ApiError) -> None:
        self._metrics.texts.labels("error").inc()
        self._teller(job)(Failed(error))

    def _free(self, job: Job) -> None:
        del self._running[job.slot]
        self._slots.free(job.slot)

    def _start_over(self) -> None:
        """Nothing is known of the slots any more."""
        for job in self._running.values():
            self._fail(job, INTERNAL)
        self._running.clear()
        self._slots = Slots(self._bundle.model, self._limits.parallel)

    # --- back to those who asked ------------------------------------------------------------------

    def _teller(self, job: Job) -> Callable[[Event], None]:
        return partial(self._tell, job)

    def _tell(self, job: Job, event: Event) -> None:
        self._outbox.append((job.mailbox, job.number, event))

    def _send(self) -> None:
        """All of a step's events at once: waking another thread costs more than they do."""
        if not self._outbox:
            return
        events, self._outbox = self._outbox, []
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
            events[0][0].loop.call_soon_threadsafe(_deliver, events)


def _deliver(events: list[tuple[Mailbox, int, Event]]) -> None:
    for mailbox, number, event in events:
        mailbox.put(number, event)
