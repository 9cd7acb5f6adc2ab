"""Which of how many processes this is, as `torchrun` says it in the environment; one when alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class World:
    """One process among `size`.

    Attributes:
        rank: This process's number, 0 to size - 1. Only rank 0 writes files.
        size: Number of processes that train together.
        local_rank: This process's number on its own machine, which is also its GPU's number.
        launched: Whether a launcher (`torchrun`) started it and says where the others are.
        attempt: How often the launcher has started all processes of one machine again after a
            failure; 0 on several machines, whose launchers count each for itself.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    launched: bool = False
    attempt: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0


def world_from_environment(environment: Mapping[str, str] | None = None) -> World:
    """Reads what `torchrun` sets; `World()` without it."""
    env = os.environ if environment is None else environment
    one_machine = env.get("GROUP_WORLD_SIZE", "1") == "1"
    return World(
        rank=int(env.get("RANK", "0")),
        size=int(env.get("WORLD_SIZE", "1")),
        local_rank=int(env.get("LOCAL_RANK", "0")),
        launched="RANK" in env and "WORLD_SIZE" in env,
        attempt=int(env.get("TORCHELASTIC_RESTART_COUNT", "0")) if one_machine else 0,
    )
