"""What of this machine a recipe's checks need: room on the disk, and memory of the device."""

from __future__ import annotations

from pathlib import Path

from fromscratch.doctor.recipe_checks import Machine
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import free_bytes
from fromscratch.runs.recipe import Recipe


def this_machine(recipe: Recipe, folder: Path = Path()) -> Machine:
    """Where a recipe would run if it was started now.

    Args:
        recipe: Says on which device.
        folder: Its run would lie in it.
    """
    from fromscratch.foundation.hardware import available_memory, device_name, resolve_device

    free = free_bytes(folder)
    try:
        device = resolve_device(recipe.train.device)
    except UserError:  # meant for another machine
        return Machine(free)
    return Machine(free, available_memory(device), device_name(device))
