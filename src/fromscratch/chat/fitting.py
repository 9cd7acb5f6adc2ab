"""A conversation longer than the model's context: its oldest turns go, and it is said that they do.

In: messages, and how they become ids. Out: the ids of as much of the conversation's end as fits.
Always true: the system's message and the last question are whole; what goes are whole exchanges (a
question with its answer), the oldest first; how many messages went is returned, never hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fromscratch.chat.conversations import Message
from fromscratch.foundation.errors import UserError


@dataclass(frozen=True)
class Fitted:
    """What the model reads.

    Attributes:
        ids: Of the conversation's end.
        dropped: How many messages are not in it.
    """

    ids: list[int]
    dropped: int


def fitted(
    messages: Sequence[Message],
    ids_of: Callable[[Sequence[Message]], list[int]],
    limit: int,
    *,
    dropped: int = 0,
) -> Fitted:
    """Drops the oldest exchanges of a conversation until it has at most `limit` ids.

    Args:
        messages: The system's first, if there is one; the last is the user's.
        ids_of: Renders messages up to where the model's words begin.
        limit: How many ids may come of it.
        dropped: How many messages were dropped before: they do not come back.

    Raises:
        UserError: The last question alone is longer.
    """
    has_system = bool(messages) and messages[0].role == "system"
    system, turns = messages[:has_system], messages[has_system:]
    while True:
        ids = ids_of([*system, *turns[dropped:]])
        if len(ids) <= limit:
            return Fitted(ids, dropped)
        later = [n for n in range(dropped + 1, len(turns)) if turns[n].role == "user"]
        if not later:
            raise UserError(
                f"The message is {len(ids):,} tokens with what the template adds, and the model "
                f"reads at most {limit:,} here, so that an answer fits behind them.",
                fix="Shorten it" + (", or the system's message." if system else "."),
            )
        dropped = later[0]
