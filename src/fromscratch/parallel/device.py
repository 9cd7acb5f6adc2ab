"""Which device a rank computes on."""

from __future__ import annotations

import torch

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.hardware import resolve_device
from fromscratch.foundation.world import World


def device_of_rank(requested: str, world: World) -> torch.device:
    """The device of one rank: of several on a machine, each has the GPU of its own number.

    Args:
        requested: As for `resolve_device`.
        world: Which rank.

    Raises:
        UserError: The device is not there, or several ranks would share one.
    """
    device = resolve_device(requested)
    if not world.launched or device.type == "cpu":
        return device
    if world.size > 1 and (device.type == "mps" or device.index is not None):
        raise UserError(
            f'{world.size} processes cannot train on the one device "{requested}".',
            fix="Use train.device=auto or cuda: each process takes the GPU of its own number.",
        )
    if device.type == "cuda" and device.index is None:
        present = torch.cuda.device_count()
        if world.local_rank >= present:
            raise UserError(
                f"torchrun started more processes on this machine than it has GPUs ({present}).",
                fix=f"Use --nproc-per-node {present}.",
            )
        device = torch.device("cuda", world.local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # NCCL and FSDP ask for the current one
    return device
