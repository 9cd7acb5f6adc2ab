"""The optimisers of a run, behind one object with named, savable state.

In: a model and `OptimConfig`. Out: `Optimizers`, which steps them together, puts what is scheduled
in force, and gives its state as a flat dict of tensors whose names are the parameters', so that a
checkpoint needs no pickle and no order. What is scheduled is no state: it follows from the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.schedules import StepSettings
from fromscratch.foundation.sharded import is_sharded, like_it
from fromscratch.model.gpt import GPT
from fromscratch.optim.adamw import AdamW, keep_the_compiler_out
from fromscratch.optim.adamw8bit import AdamW8bit, choose_engine
from fromscratch.optim.config import OptimConfig
from fromscratch.optim.eight_bits import fits_eight_bits
from fromscratch.optim.groups import NamedParameter, group_parameters, row_blocks
from fromscratch.optim.muon import Muon, polynomials


@dataclass(frozen=True)
class Member:
    """One optimiser and the names of the parameters that it owns."""

    name: str
    optimizer: torch.optim.Optimizer
    parameters: list[NamedParameter]


@dataclass(frozen=True)
class _GroupValues:
    """What is scheduled of one parameter group; AdamW's momentum is the first of its betas."""

    lr: float
    weight_decay: float
    momentum: float


@dataclass(frozen=True)
class InForce:
    """What the optimisers work with during an update.

    Attributes:
        lrs: Learning rate by group; that of Muon's parameters is called `muon`.
        weight_decay: By optimiser, of its parameters that decay at all.
        momentum: Of the matrices inside the blocks: Muon's, else the first of AdamW's betas.
    """

    lrs: dict[str, float]
    weight_decay: dict[str, float]
    momentum: float


class Optimizers:
    """Several optimisers that act as one.

    Every group of a member has a `name`, which says how the schedules apply to it: `plain` never
    decays. The momentum that is scheduled is Muon's; where there is no Muon, that of all members.
    """

    def __init__(self, members: list[Member]) -> None:
        self.members = members
        self._built = [[_values_of(g) for g in m.optimizer.param_groups] for m in members]

    def put_in_force(self, settings: StepSettings) -> None:
        """Sets learning rates, weight decays and momentum for the update that comes."""
        for _, group, values in self._scheduled(settings):
            _put(group, "lr", values.lr)
            _put(group, "weight_decay", values.weight_decay)
            if "betas" in group:
                group["betas"] = (values.momentum, group["betas"][1])
            else:
                _put(group, "momentum", values.momentum)

    def in_force(self, settings: StepSettings) -> InForce:
        """The values that `put_in_force` sets, for the log."""
        lrs: dict[str, float] = {}
        weight_decay: dict[str, float] = {}
        momentum = 0.0
        for member, group, values in self._scheduled(settings):
            lrs[group["name"]] = values.lr
            if group["name"] != "plain":
                weight_decay[member.name] = values.weight_decay
            if self._has_momentum(member):
                momentum = values.momentum
        return InForce(lrs, weight_decay, momentum)

    def _has_momentum(self, member: Member) -> bool:
        return member.name == "muon" or all(m.name != "muon" for m in self.members)

    def _scheduled(
        self, settings: StepSettings
    ) -> Iterator[tuple[Member, dict[str, Any], _GroupValues]]:
        """Every group, whose it is, and what it is to have."""
        for member, built in zip(self.members, self._built, strict=True):
            decay = settings.weight_decay if member.name != "muon" else settings.muon_weight_decay
            momentum = settings.momentum if self._has_momentum(member) else None
            for group, values in zip(member.optimizer.param_groups, built, strict=True):
                now = replace(values, lr=values.lr * settings.lr)
                if decay is not None and group["name"] != "plain":
                    now = replace(now, weight_decay=decay)
                if momentum is not None:
                    now = replace(now, momentum=momentum)
                yield member, group, now

    def made_with(self) -> dict[str, str]:
        """What computes the updates besides torch, and its version, for the record."""
        optimizers = ((m.name, m.optimizer) for m in self.members)
        return {name: o.made_with for name, o in optimizers if isinstance(o, AdamW8bit)}

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
                for key in _layout(member.optimizer, parameter.value) if tensors else ():
                    value = tensors[f"{member.name}.{key}.{parameter.name}"]
                    device = parameter.value.device
                    if key == "step":
                        # A fused kernel reads it where the weight is; others on the CPU.
                        state[key] = value.to(device if on_device else "cpu", copy=True)
                    elif is_sharded(parameter.value):
                        state[key] = like_it(value, parameter.value)
                    else:
                        state[key] = value.to(device, copy=True)
                member.optimizer.state[parameter.value] = state

    def _check_fits(self, tensors: Mapping[str, Tensor]) -> None:
        """Refuses state that is not, tensor for tensor, this model's; none at all is a fresh run's.

        Nothing has been changed yet, so a refusal leaves the optimisers as they were.
        """
        shapes = {
            f"{member.name}.{key}.{parameter.name}": shape
            for member in self.members
            for parameter in member.parameters
            for key, shape in _layout(member.optimizer, parameter.value).items()
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


def _values_of(group: dict[str, Any]) -> _GroupValues:
    momentum = group["betas"][0] if "betas" in group else group["momentum"]
    return _GroupValues(float(group["lr"]), float(group["weight_decay"]), float(momentum))


def _put(group: dict[str, Any], key: str, value: float) -> None:
    """Sets a value; one that is a tensor, as compiled updates want it, in place."""
    if isinstance(group[key], Tensor):
        group[key].fill_(value)
    else:
        group[key] = value


_STATE_KEYS: dict[type[torch.optim.Optimizer], tuple[str, ...]] = {
    AdamW: ("step", "exp_avg", "exp_avg_sq"),
    Muon: ("momentum",),
}


def _layout(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, torch.Size]:
    """The shape of each tensor of a parameter's state."""
    if isinstance(optimizer, AdamW8bit):
        return optimizer.layout(parameter)
    keys = _STATE_KEYS[type(optimizer)]
    return {key: torch.Size() if key == "step" else parameter.shape for key in keys}


_Row = tuple[str, list[NamedParameter], float, float]
"""Parameters, their peak learning rate, their weight decay."""


def build_optimizers(model: GPT, config: OptimConfig) -> Optimizers:
    """The optimisers that a recipe asks for.

    With `adamw8bit`, what is too small for 8 bits belongs to a plain AdamW, a member of its own.

    Raises:
        UserError: The optimiser needs something that is not installed.
    """
    keep_the_compiler_out()
    groups = group_parameters(model)
    muon = config.name == "muon"
    embed_lr = config.lr if config.embed_lr is None else config.embed_lr
    head_lr = config.lr if config.head_lr is None else config.head_lr
    plain_lr = config.lr if config.plain_lr is None else config.plain_lr
    decay = config.weight_decay
    rows: list[_Row] = [
        ("embed", groups.embed, embed_lr, decay),
        ("head", groups.head, head_lr, decay),
        ("plain", groups.plain, plain_lr, 0.0),
    ]
    if not muon:
        rows.insert(0, ("hidden", groups.hidden, config.lr, decay))
    members = []
    if config.name == "adamw8bit":
        large = _only(rows, lambda p: fits_eight_bits(p.value.numel()))
        rows = _only(rows, lambda p: not fits_eight_bits(p.value.numel()))
        if large:
            engine = choose_engine(config.engine, model.device)
            quantised = AdamW8bit(
                _torch_groups(large), lr=config.lr, betas=config.betas, eps=config.eps,
                engine=engine,
            )  # fmt: skip
            members.append(Member("adamw8bit", quantised, _all_of(large)))
    rows = _only(rows, lambda p: True)
    if rows:
        adamw = AdamW(
            _torch_groups(rows),
            betas=config.betas,
            eps=config.eps,
            fused=model.device.type in ("cpu", "cuda", "mps"),
        )
        members.append(Member("adamw", adamw, _all_of(rows)))
    if muon:
        blocks = row_blocks(model)
        by_parameter = {p.value: blocks[p.name] for p in groups.hidden if p.name in blocks}
        hidden = Muon(
            [{"name": "muon", "params": [p.value for p in groups.hidden]}],
            lr=config.muon_lr,
            momentum=config.muon_momentum,
            weight_decay=config.muon_weight_decay,
            by=polynomials(config.muon_method, config.muon_steps),
            blocks=by_parameter,
        )
        members.append(Member("muon", hidden, groups.hidden))
    return Optimizers(members)


def _only(rows: list[_Row], wanted: Callable[[NamedParameter], bool]) -> list[_Row]:
    """The rows with the parameters that are wanted; rows that would be empty are left out."""
    kept = [
        (name, [p for p in parameters if wanted(p)], lr, decay)
        for name, parameters, lr, decay in rows
    ]
    return [row for row in kept if row[1]]


def _all_of(rows: list[_Row]) -> list[NamedParameter]:
    return [p for _, parameters, _, _ in rows for p in parameters]


def _torch_groups(rows: list[_Row]) -> list[dict[str, object]]:
    return [
        {
            "name": name,
            "params": [p.value for p in parameters],
            "lr": lr,
            "weight_decay": weight_decay,
        }
        for name, parameters, lr, weight_decay in rows
    ]
