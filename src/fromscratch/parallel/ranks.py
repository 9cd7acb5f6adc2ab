"""The processes of a run as the training code sees them.

`Ranks` is one process alone: every method answers at once. `ConnectedRanks` (connect.py) has the
same methods for several. What they agree on are numbers on the host, never on the GPU: a question
to the others waits for no kernel.

Always true: every rank calls these methods in the same order. So whatever decides whether one is
called must be the same on all ranks: a count of steps, or something that was agreed on before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.world import World

T = TypeVar("T")


class Ranks:
    """The ranks of a run, seen from one of them; here: from the only one.

    Attributes:
        world: Which one this is.
    """

    def __init__(self, world: World | None = None) -> None:
        self.world = World() if world is None else world

    @property
    def size(self) -> int:
        """How many there are."""
        return self.world.size

    @property
    def is_main(self) -> bool:
        """Whether this one writes files and speaks."""
        return self.world.is_main

    def part(self, first: int, n_samples: int) -> tuple[int, int]:
        """This rank's part of the samples first .. first + n_samples - 1: its first, and how many.

        The parts of ranks 0, 1, ... follow one another, so that together they are the same samples
        in the same order whatever the number of ranks.
        """
        share, rest = divmod(n_samples, self.size)
        assert rest == 0, "the recipe's check lets only whole shares through"
        return first + self.world.rank * share, share

    def sum(self, *values: float) -> list[float]:
        """Each value summed over all ranks, in float64: the same numbers on every rank."""
        return list(values)

    def any(self, flag: bool) -> bool:
        """Whether it holds on some rank: the same answer on every rank."""
        return flag

    def wait_for_all(self) -> None:
        """Returns when every rank has come to this call."""
        self.any(False)

    def from_main(self, work: Callable[[], T]) -> T:
        """What `work` gives on rank 0, on every rank; the others wait as long as it takes.

        Args:
            work: Called on rank 0 only; returns something that JSON can say.

        Raises:
            SystemExit: On the other ranks, where the work failed on rank 0, which says why.
        """
        return work()

    def main_first(self, work: Callable[[], T]) -> T:
        """`work` on every rank, on rank 0 before the others.

        For work that leaves something on the disk: the others find it done.
        """
        return work()

    def at_sudden_end(self, work: Callable[[UserError], None]) -> None:
        """Has something done, in a thread, where another rank's death ends this process at once.

        That happens where the main thread cannot notice by itself: it waits for a GPU, say. Alone,
        there is nobody whose death could do that.

        Args:
            work: Given what is said of that end.
        """

    def explained(self, error: Exception) -> Exception:
        """The error itself, or, where it comes of a rank that is gone, one that says so."""
        return error


class AgreedStop:
    """A request to stop that all ranks see between the same two micro-batches.

    Signals reach the ranks at different times, or one of them only. Asking is a collective call.

    Args:
        here: Whether this rank was asked to stop.
        ranks: Who must agree.
    """

    def __init__(self, here: Callable[[], bool], ranks: Ranks) -> None:
        self.here = here
        self._ranks = ranks
        self._agreed = False

    def __call__(self) -> bool:
        """Whether to stop; once it is so, it stays so."""
        if not self._agreed:
            self._agreed = self._ranks.any(self.here())
        return self._agreed
