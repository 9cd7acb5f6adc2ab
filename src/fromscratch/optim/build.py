"""The optimisers of a run, behind one object with named, savable state.

In: a model and `OptimConfig`. Out: `Optimizers`, which steps them together, scales every learning
rate by the schedule's fraction, and gives its state as a flat dict of tensors whose names are the
parameters', so that a checkpoint needs no pickle and no order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.sharded import is_sharded, like_it
from fromscratch.model.gpt import GPT
from fromscratch.optim.config import OptimConfig
from fromscratch.optim.groups import NamedParameter, group_parameters, row_blocks
from fromscratch.optim.muon import Muon


@dataclass(frozen=True)
class Member:
    """One optimiser and the names of the parameters that it owns."""

    name: str
    optimizer: torch.optim.Optimizer
    parameters: list[NamedParameter]


class Optimizers:
    """Several optimisers that act as one."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members
        self._peaks = [[float(g["lr"]) for g in m.optimizer.param_groups] for m in members]

    def set_fraction(self, fraction: float) -> None:
        """Puts every learning rate at this fraction of its peak."""
        for member, peaks in zip(self.members, self._peaks, strict=True):
            for group, peak in zip(member.optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * fraction

    def step(self) -> None:
        """Applies one update from the gradients at hand."""
        for member in self.members:
            member.optimizer.step()

    def zero_grad(self) -> None:
        """Drops all gradients."""
        for member in self.members:
            member.optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """All state as tensors named `OPTIMISER.KEY.PARAMETER`, on whatever device they are."""
        out: dict[str, Tensor] = {}
        for member in self.members:
            for parameter in member.parameters:
                for key, value in member.optimizer.state.get(parameter.value, {}).items():
                    assert isinstance(value, Tensor), f"state {key} would need a pickle"
                    out[f"{member.name}.{key}.{parameter.name}"] = value
        return out

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `state` gave, bit for bit.

        Raises:
            UserError: The state belongs to another optimiser or another model.
        """
        self._check_fits(tensors)
        for member in self.members:
            on_device = any(group.get("fused") for group in member.optimizer.param_groups)
            for parameter in member.parameters:
                state: dict[str, Tensor] = {}
                for key in _STATE_KEYS[type(member.optimizer)] if tensors else ():
                    value = tensors[f"{member.name}.{key}.{parameter.name}"]
                    # A fused kernel reads the step count where the weight is; others on the CPU.
                    beside = key != "step" or on_device
                    if key != "step" and is_sharded(parameter.value):
                        state[key] = like_it(value, parameter.value)
                        continue
                    state[key] = value.to(parameter.value.device if beside else "cpu", copy=True)
                member.optimizer.state[parameter.value] = state

    def _check_fits(self, tensors: Mapping[str, Tensor]) -> None:
        """Refuses state that is not, tensor for tensor, this model's; none at all is a fresh run's.

        Nothing has been changed yet, so a refusal leaves the optimisers as they were.
        """
        shapes = {
            f"{member.name}.{key}.{parameter.name}": torch.Size()
            if key == "step"
            else parameter.value.shape
            for member in self.members
            for parameter in member.parameters
            for key in _STATE_KEYS[type(member.optimizer)]
        }
        if foreign := set(tensors) - set(shapes):
            problem = f"{len(foreign)} tensors have no owner, e.g. {min(foreign)}"
        elif tensors and (missing := set(shapes) - set(tensors)):
            problem = f"{len(missing)} tensors are missing, e.g. {min(missing)}"
        elif wrong := {n for n in tensors if tensors[n].shape != shapes[n]}:
            problem = f"{len(wrong)} tensors have another shape, e.g. {min(wrong)}"
        else:
            return
        raise UserError(
            f"The checkpoint's optimiser state does not fit this recipe's optimiser ({problem}).",
            fix="Resume with the [optim] and [model] settings that the run was started with.",
        )


_STATE_KEYS: dict[type[torch.optim.Optimizer], tuple[str, ...]] = {
    torch.optim.AdamW: ("step", "exp_avg", "exp_avg_sq"),
    Muon: ("momentum",),
}


def build_optimizers(model: GPT, config: OptimConfig) -> Optimizers:
    """The optimisers that a recipe asks for.

    Raises:
        UserError: The optimiser needs something that is not installed or not there yet.
    """
    groups = group_parameters(model)
    muon = config.name == "muon"
    if config.name == "adamw8bit":
        raise UserError(
            'optim.name = "adamw8bit" keeps its state in 8 bits, which this release cannot do yet.',
            fix="Use optim.name=adamw: the same update with four times the memory.",
        )
    embed_lr = config.lr if config.embed_lr is None else config.embed_lr
    head_lr = config.lr if config.head_lr is None else config.head_lr
    plain_lr = config.lr if config.plain_lr is None else config.plain_lr
    decay = config.weight_decay
    rows: list[tuple[list[NamedParameter], float, float]] = [
        (groups.embed, embed_lr, decay),
        (groups.head, head_lr, decay),
        (groups.plain, plain_lr, 0.0),
    ]
    if not muon:
        rows.insert(0, (groups.hidden, config.lr, decay))
    rows = [row for row in rows if row[0]]
    adamw = torch.optim.AdamW(
        [
            {"params": [p.value for p in parameters], "lr": lr, "weight_decay": weight_decay}
            for parameters, lr, weight_decay in rows
        ],
        betas=config.betas,
        eps=config.eps,
        fused=model.device.type in ("cpu", "cuda", "mps"),
    )
    members = [Member("adamw", adamw, [p for parameters, _, _ in rows for p in parameters])]
    if muon:
        blocks = row_blocks(model)
        by_parameter = {p.value: blocks[p.name] for p in groups.hidden if p.name in blocks}
        hidden = Muon(
            [p.value for p in groups.hidden],
            lr=config.muon_lr,
            momentum=config.muon_momentum,
            weight_decay=config.muon_weight_decay,
            blocks=by_parameter,
        )
        members.append(Member("muon", hidden, groups.hidden))
    return Optimizers(members)
