"""A request's texts as they are written, for the coroutine that answers it.

What always holds: whoever begins to write leaves off, too: however its coroutine ends (done,
cancelled because the client left, broken), no text of its request is written on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from fromscratch.serve.asking import Asked
from fromscratch.serve.jobs import Ended, Event, Failed, Job, Mailbox, Placed, Written
from fromscratch.serve.limits import Limits
from fromscratch.serve.scheduler import Scheduler

T = TypeVar("T")


class ClientLeft(Exception):  # noqa: N818  (nobody's mistake)
    """There is nobody to answer any more."""


class Writing:
    """The texts of one request; they are written from now on.

    Args:
        asked: What to write.
        scheduler: Of the model.
        limits: How long it may take.

    Raises:
        ApiError: The queue is full, or the server is ending.
    """

    def __init__(self, asked: Asked, scheduler: Scheduler, limits: Limits) -> None:
        self.asked = asked
        self._mailbox = Mailbox()
        begun = time.monotonic()
        self._jobs = [
            Job(order, number, self._mailbox, begun=begun, deadline=begun + limits.seconds)
            for number, order in enumerate(asked.orders)
        ]
        scheduler.submit(self._jobs)

    def leave_off(self) -> None:
        """Nothing more is written, if something still was."""
        for job in self._jobs:
            job.cancelled = True

    async def events(self) -> AsyncIterator[list[tuple[int, Event]]]:
        """Yields what has happened, with the number of the text, until all texts are complete."""
        under_way = len(self._jobs)
        while under_way:
            events = await self._mailbox.get()
            under_way -= sum(isinstance(event, Ended | Failed) for _, event in events)
            yield events


class Text:
    """One text, whole."""

    def __init__(self) -> None:
        self.text = ""
        self.tokens: list[Placed] = []
        self.ended: Ended | None = None

    def add(self, event: Event) -> None:
        """Takes what has happened to it.

        Raises:
            ApiError: It cannot be written.
        """
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Ended):
            self.ended = event
        if isinstance(event, Written):
            self.text += event.text
            self.tokens += event.tokens


async def whole(writing: Writing) -> list[Text]:
    """All texts of a request when they are complete.

    Raises:
        ApiError: One of them cannot be written.
    """
    texts = [Text() for _ in writing.asked.orders]
    try:
        async for events in writing.events():
            for number, event in events:
                texts[number].add(event)
    finally:
        writing.leave_off()
    return texts


async def while_there(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """Does something for a client, and drops it when the client leaves.

    Args:
        work: What to do.
        receive: Of the request, whose body has been read.

    Raises:
        ClientLeft: It has left.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientLeft
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
