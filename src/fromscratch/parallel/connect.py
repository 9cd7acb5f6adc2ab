"""Ranks that were started by `torchrun`: how they find each other, agree, and part.

In: the world as the environment describes it. Out: `Ranks`.

Two groups besides the one that gradients travel in: on one, decisions are taken on the host (gloo,
also where the gradients take NCCL), on the other, each rank listens for the others' death. However
a run ends, one rank says why, and only one.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.world import World
from fromscratch.parallel.ranks import Ranks
from fromscratch.parallel.tripwire import Tripwire

T = TypeVar("T")

_JOIN_TIMEOUT = timedelta(minutes=10)
# Rank 0 may write a large checkpoint to a slow disk while the others wait; a rank that has died is
# noticed in another way. Gloo counts milliseconds in 32 bits: 24 days are the most.
_HOST_TIMEOUT = timedelta(hours=12)
_LISTEN_TIMEOUT = timedelta(days=24)
_NEWS_SECONDS = 5.0


class ConnectedRanks(Ranks):
    """Several ranks.

    Args:
        world: Which one this is.
        store: Where all ranks can leave short notes for each other.
        say: How an error is told by a thread, when the main thread cannot.

    Attributes:
        exit_code: With which the process ends, where it ends before the ranks have parted.
    """

    def __init__(self, world: World, store: Store, say: Callable[[UserError], None]) -> None:
        super().__init__(world)
        self._store = store
        self._say = say
        self._at_sudden_end: list[Callable[[UserError], None]] = []
        self._questions = 0
        self.exit_code = 2
        # A run that breaks off leaves threads behind that wait for the network; Python's own way to
        # end would tear them down in the middle of it. Registered early: what others registered
        # later is done before.
        atexit.register(self._leave)
        self._host = dist.new_group(backend="gloo", timeout=_HOST_TIMEOUT)
        wire = dist.new_group(backend="gloo", timeout=_LISTEN_TIMEOUT)
        others = list(range(1, world.size)) if world.is_main else [0]
        self._tripwire = Tripwire(
            wire,
            others if world.size > 1 else [],
            news=self._pass_on,
            last_words=self._last_words,
        )

    def sum(self, *values: float) -> list[float]:
        numbers = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(numbers, group=self._host)
        return list(numbers.tolist())

    def any(self, flag: bool) -> bool:
        return self.sum(float(flag))[0] > 0

    def from_main(self, work: Callable[[], T]) -> T:
        self._questions += 1
        key = f"from_main/{self._questions}"
        if self.is_main:
            answer = work()
            self._store.set(key, json.dumps(answer))
            return answer
        while not self._store.check([key]):  # never a timeout: to prepare data may take hours
            if self._tripwire.gone() is not None:
                raise RuntimeError("rank 0 ended while the others waited for its answer")
            time.sleep(0.05)
        heard: T = json.loads(self._store.get(key))
        return heard

    def main_first(self, work: Callable[[], T]) -> T:
        done: list[T] = []

        def on_main() -> None:
            done.append(work())

        self.from_main(on_main)
        return done[0] if self.is_main else work()

    def at_sudden_end(self, work: Callable[[UserError], None]) -> None:
        self._at_sudden_end.append(work)

    def explained(self, error: Exception) -> Exception:
        if isinstance(error, UserError):
            return error
        _not_before_the_sentence()
        gone = self._who_is_gone()
        return error if gone is None else _gone_error(gone, self.size)

    def _who_is_gone(self) -> int | None:
        """The rank whose end broke the connections; None where none has broken off."""
        deadline = time.monotonic() + _NEWS_SECONDS
        gone = None
        while gone is None and time.monotonic() < deadline:
            gone = self._tripwire.gone(patience=0.05)
            with suppress(RuntimeError):
                # Who noticed first noticed the first; the others may have seen only him leave.
                if self._store.check(["gone"]):
                    gone = int(self._store.get("gone"))
        return gone

    def _pass_on(self, gone: int) -> None:
        with suppress(RuntimeError):
            if not self._store.check(["gone"]):
                self._store.set("gone", str(gone))

    def claim(self) -> bool:
        """Whether this rank is the one to say why the run ends: the first that asks."""
        try:
            return bool(self._store.add("spoken", 1) == 1)
        except RuntimeError:  # the store was on a machine or in a process that is gone
            return True

    def part_ways(self) -> None:
        """The end of a session, when all ranks have come to it."""
        dist.barrier(group=self._host)
        self._tripwire.farewell()
        dist.barrier(group=self._host)
        dist.destroy_process_group()
        atexit.unregister(self._leave)

    def _leave(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self.exit_code)

    def _last_words(self, gone: int) -> None:
        error = _gone_error(gone, self.size)
        if self.claim():
            self._say(error)
        for work in self._at_sudden_end:
            work(error)


def _not_before_the_sentence() -> None:
    """Ignores SIGTERM: the launcher sends it to the survivors as soon as one has ended."""
    with suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _gone_error(rank: int, size: int) -> UserError:
    return UserError(
        f"Rank {rank} of {size} has ended without a word (killed, or out of memory), and the run "
        "cannot go on without it.",
        fix="Resume it: the same torchrun with `resume RUN` goes on from its newest checkpoint.",
    )


@contextmanager
def connected(world: World, say: Callable[[UserError], None]) -> Iterator[Ranks]:
    """The ranks of this world for as long as the context lasts; one alone where nobody else is.

    Args:
        world: From the environment.
        say: Prints an error from a thread.

    Raises:
        UserError: The others cannot be reached; or what was raised inside, on one rank only.
        SystemExit: On the other ranks, where one says why the run ends.
    """
    if not world.launched:
        yield Ranks(world)
        return
    ranks = _connect(world, say)
    try:
        yield ranks
    except Exception as error:
        _not_before_the_sentence()
        explained = ranks.explained(error)
        ranks.exit_code = 2 if isinstance(explained, UserError) else 1
        if not ranks.claim():
            raise SystemExit(ranks.exit_code) from None
        if explained is error:
            raise
        raise explained from None
    ranks.part_ways()


def _connect(world: World, say: Callable[[UserError], None]) -> ConnectedRanks:
    try:
        found = rendezvous("env://", world.rank, world.size, timeout=_JOIN_TIMEOUT)
        shared, rank, size = next(found)
        # torchrun keeps its store when it starts everybody again: what the dead left there stays.
        store = PrefixStore(f"attempt-{world.attempt}", shared)
        # Tensors on the host and on the GPU each take their own way.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(
            backend, store=PrefixStore("torch", store), rank=rank, world_size=size
        )
        return ConnectedRanks(world, PrefixStore("fromscratch", store), say)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"The {world.size} processes of this run could not reach each other: "
            f"{str(error).splitlines()[0]}",
            fix="Start them with torchrun, on machines that reach the first one's port.",
        ) from error
