"""Continuous batching: sequences of any length that come and go, and one step for all of them.

A slot is a row of the key/value cache that belongs to one sequence. The caller owns the loop and
chooses the tokens; this file reads them:

    slots = Slots(model, n_slots=8, capacity=1024)
    slot = slots.admit(prompt_ids)              # takes a free slot; nothing is computed yet
    while True:
        ready = slots.step()                    # one forward pass
        for slot, logits in ready:              # (P,) each: what comes next in this slot
            token = samplers[slot].choose(logits)
            slots.feed(slot, token)             # goes on with the next step
            # or slots.free(slot): the sequence has ended, or nobody waits for it any more

A step reads one token of every slot that has just one to read, and besides at most `chunk` tokens
of those that have more (prompts, in the order in which they came), so a long prompt never holds up
the others for longer than a portion takes. A slot is in what `step` returns when it has read all
that it was given; until it is fed, `step` leaves it out.

Always true: what a slot gives is what its sequence alone would give, up to rounding, whatever the
others are and whenever they came; memory is taken once a slot and used again; after an exception
in `step` (out of memory, say) the slots that had part in it are freed by the caller.
Not for several threads at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fromscratch.foundation.errors import UserError
from fromscratch.generate.ready import pack_for_batches
from fromscratch.model.gpt import GPT
from fromscratch.model.kv_cache import KVCache, KVRows

CHUNK = 256
"""Tokens of a prompt that are read in one step."""


@dataclass(frozen=True)
class Ready:
    """The slots that wait for a token, with the logits to choose it from.

    Attributes:
        slots: Which.
        logits: (N, P), a row for each.
    """

    slots: tuple[int, ...]
    logits: Tensor

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        """Each slot with its row (P,)."""
        return iter(zip(self.slots, self.logits, strict=True))

    def __len__(self) -> int:
        return len(self.slots)


class Slots:
    """A fixed number of rows for sequences that come and go.

    Args:
        model: Uncompiled, in evaluation mode.
        n_slots: How many sequences at a time.
        capacity: Longest sequence, in tokens; the model's context by default, and at most.
        chunk: Tokens of a prompt to read in one step at most.
        pack: Whether `pack_for_batches` pays: not for a model that goes on being trained.
    """

    def __init__(
        self,
        model: GPT,
        n_slots: int,
        *,
        capacity: int | None = None,
        chunk: int = CHUNK,
        pack: bool = True,
    ) -> None:
        assert n_slots > 0, "no slots"
        assert chunk > 0, "an empty portion"
        self.model, self.n_slots, self.chunk = model, n_slots, chunk
        if pack and n_slots > 2:
            pack_for_batches(model)
        self.capacity = min(capacity or model.config.context, model.config.context)
        self._caches: dict[int, KVCache] = {}  # made when a slot is first used, then kept
        self._free = list(range(n_slots))[::-1]
        # What each taken slot has yet to read, in the order in which they were taken.
        self._unread: dict[int, list[int]] = {}

    # --- who is here ------------------------------------------------------------------------------

    @property
    def n_free(self) -> int:
        """Slots that may be taken."""
        return len(self._free)

    @property
    def taken(self) -> tuple[int, ...]:
        """Slots that are in use, the oldest first."""
        return tuple(self._unread)

    def length(self, slot: int) -> int:
        """Tokens that a slot has been given."""
        return self._caches[slot].length + len(self._unread[slot])

    def room(self, slot: int) -> int:
        """Tokens that may still be fed to a slot."""
        return self.capacity - self.length(slot)

    # --- coming and going -------------------------------------------------------------------------

    def admit(self, ids: Sequence[int]) -> int:
        """Takes a free slot for a sequence that begins with these ids; at once.

        Args:
            ids: At least one.

        Returns:
            The slot.

        Raises:
            UserError: No ids, an id that the model does not know, or more than the capacity.
        """
        check_ids(self.model, ids)
        if len(ids) > self.capacity:
            raise UserError(
                f"A prompt of {len(ids)} tokens is longer than the {self.capacity} that there is "
                "room for.",
                fix="Shorten it.",
            )
        slot = self._take()
        self._unread[slot] = list(ids)
        return slot

    def fork(self, slot: int) -> int:
        """Takes a free slot for a copy of a sequence: several answers to one prompt.

        Only a slot that `step` has just returned can be copied: its logits serve the copy too, and
        the copy is then fed like it.
        """
        assert not self._unread[slot], "a slot is copied when all that it was given has been read"
        copy = self._take()
        self._caches[copy].copy_from(self._caches[slot])
        return copy

    def feed(self, slot: int, token: int) -> None:
        """Gives a slot its next token, to be read by the next step."""
        assert self.room(slot) > 0, "the slot is full: ask room"
        self._unread[slot].append(token)

    def free(self, slot: int) -> None:
        """Gives a slot back, whatever it was doing; its memory is used again."""
        del self._unread[slot]
        self._free.append(slot)

    def _take(self) -> int:
        """A free slot, empty."""
        assert self._free, "no free slot: ask n_free"
        slot = self._free.pop()
        if slot not in self._caches:
            self._caches[slot] = KVCache(
                self.model.config,
                1,
                capacity=self.capacity,
                device=self.model.device,
                dtype=self.model.embed.weight.dtype,
            )
        self._caches[slot].reset()
        self._unread[slot] = []
        return slot

    # --- reading ----------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether there is nothing to read."""
        return not any(self._unread.values())

    @torch.inference_mode()
    def step(self) -> Ready:
        """Reads one token of each slot that has one, and a portion of those that have more.

        Returns:
            The slots that have now read everything; none where only a part of a prompt was read.
        """
        counts = self._portions()
        if not counts:
            return Ready((), torch.empty(0, self.model.config.padded_vocab))
        caches = [self._caches[slot] for slot in counts]
        fresh = [token for slot, n in counts.items() for token in self._unread[slot][:n]]
        ids = torch.tensor([fresh], device=self.model.device)  # (1, T)
        one = len(caches) == 1
        cache = caches[0] if one else KVRows(caches, list(counts.values()))
        hidden = self.model.hidden(ids, cache=cache)[0]  # (T, C)
        ready, last, end = [], [], 0
        for slot, n in counts.items():
            end += n
            del self._unread[slot][:n]
            if not self._unread[slot]:
                ready.append(slot)
                last.append(end - 1)
        return Ready(tuple(ready), self.model.logits(hidden[last]))

    def _portions(self) -> dict[int, int]:
        """How many tokens of which slots the next step reads."""
        counts, room = {}, self.chunk
        for slot, unread in self._unread.items():
            if len(unread) == 1:
                counts[slot] = 1
            elif unread and room:
                counts[slot] = min(len(unread), room)
                room -= counts[slot]
        return counts


def check_ids(model: GPT, ids: Sequence[int]) -> None:
    """Checks what a sequence begins with.

    Raises:
        UserError: No ids, or one that the model does not know.
    """
    if not ids:
        raise UserError("Generation needs at least one token to start from.")
    if not all(0 <= i < model.config.vocab_size for i in ids):
        raise UserError(
            f"The prompt has a token id outside the model's vocabulary of "
            f"{model.config.vocab_size}: it was made by another tokenizer."
        )
