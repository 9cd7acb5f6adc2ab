"""Which parameter is trained how: every parameter in exactly one group.

| group    | parameters                    | optimiser      | weight decay | learning rate     |
|----------|-------------------------------|----------------|--------------|-------------------|
| `hidden` | matrices inside the blocks    | Muon, or AdamW | yes          | `muon_lr` or `lr` |
| `embed`  | token and position embeddings | AdamW          | yes          | `embed_lr`        |
| `head`   | the untied head's matrix      | AdamW          | yes          | `head_lr`         |
| `plain`  | biases and norm weights       | AdamW          | no           | `plain_lr`        |

A learning rate that is not given is `lr`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from fromscratch.model.attention import Attention
from fromscratch.model.gpt import GPT
from fromscratch.model.mlp import MLP


@dataclass(frozen=True)
class NamedParameter:
    """A parameter and its name in the model's state dict."""

    name: str
    value: nn.Parameter


@dataclass(frozen=True)
class ParameterGroups:
    """All of a model's trainable parameters, each in exactly one of four lists."""

    hidden: list[NamedParameter]
    embed: list[NamedParameter]
    head: list[NamedParameter]
    plain: list[NamedParameter]

    @property
    def decayed(self) -> list[NamedParameter]:
        """Everything under weight decay."""
        return [*self.hidden, *self.embed, *self.head]


def group_parameters(model: GPT) -> ParameterGroups:
    """Sorts the model's parameters into their groups."""
    groups = ParameterGroups([], [], [], [])
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            kind = groups.plain
        elif name.startswith("blocks."):
            kind = groups.hidden
        elif name.startswith("head."):
            kind = groups.head
        else:
            kind = groups.embed
        kind.append(NamedParameter(name, parameter))
    return groups


def row_blocks(model: GPT) -> dict[str, tuple[int, ...]]:
    """The matrices that are several in one, by name, with the rows of each part.

    Queries, keys and values are one product for speed, as are an MLP's gate and up-projection; for
    Muon each is a matrix of its own.
    """
    blocks: dict[str, tuple[int, ...]] = {}
    for name, module in model.named_modules():
        if isinstance(module, Attention):
            blocks[f"{name}.qkv.weight"] = module.rows
        elif isinstance(module, MLP):
            blocks[f"{name}.up.weight"] = module.rows
    return blocks
