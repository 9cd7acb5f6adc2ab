"""Taking tensors by name, shared by all architectures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from fromscratch.foundation.errors import UserError
from fromscratch.model.config import ModelConfig

Tensors = dict[str, Tensor]


class Taker:
    """Takes tensors by name; what is missing or left over is an error, never a silent default.

    Each is read when it is taken and not held here, so that a file's tensors are never in memory
    beside what is made of them.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self.left = set(tensors)

    def __call__(self, name: str) -> Tensor:
        if name not in self.left:
            raise UserError(f"The weights lack the tensor {name}: not a whole model.", regret="R48")
        self.left.remove(name)
        return self._tensors[name]

    def put(self, out: Tensors, config: ModelConfig, name: str, tensor: Tensor) -> None:
        """Keeps a tensor that our config has; one it has not must be what it was filled with."""
        is_bias = name.endswith("bias")
        if _has(config, name):
            out[name] = tensor
        elif not torch.equal(tensor, torch.full_like(tensor, 0.0 if is_bias else 1.0)):
            raise UserError(
                f"The weights hold values for {name}, which the model's configuration leaves out.",
                regret="R48",
            )

    def head(self, out: Tensors, config: ModelConfig) -> None:
        """Keeps an untied head; a tied one may be there too, if it is the embedding again."""
        head = self("lm_head.weight") if "lm_head.weight" in self.left else None
        if not config.tie_embeddings:
            if head is None:
                raise UserError(
                    "The weights lack lm_head.weight, though their config says untied.",
                    regret="R48",
                )
            out["head.weight"] = head
        elif head is not None and not torch.equal(head, out["embed.weight"]):
            raise UserError(
                "The weights hold an lm_head.weight of its own, though their config says that it "
                "is tied to the embedding.",
                regret="R48",
            )

    def finish(self) -> None:
        if self.left:
            names = ", ".join(sorted(self.left)[:3])
            raise UserError(
                f"The weights hold {len(self.left)} tensors that the model has no place for "
                f"({names}, ...): config.json and weights do not belong together.",
                regret="R48",
            )


def _has(c: ModelConfig, name: str) -> bool:
    """Whether our network has the norm weight or bias called `name`."""
    if name.endswith("weight"):
        return c.norm_weight or "norm" not in name
    if "norm" in name:
        return c.norm_bias
    if "attn.qkv" in name:
        return c.qkv_bias
    return c.attn_out_bias if "attn" in name else c.mlp_bias


def refuse(hf: Mapping[str, Any], key: str, supported: Any) -> None:
    """Refuses a foreign config whose `key` is not the one value that our network has."""
    if hf.get(key, supported) != supported:
        raise UserError(f"The model's config has {key} = {hf[key]}, which this package lacks.")


class Viewed(Mapping[str, Tensor]):
    """Other tensors under other names, each made anew when it is asked for.

    Args:
        tensors: The others.
        names: Of each name here, the one there.
        change: What is made of a tensor.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        names: Mapping[str, str],
        change: Callable[[Tensor], Tensor],
    ) -> None:
        self._tensors, self._names, self._change = tensors, names, change

    def __getitem__(self, name: str) -> Tensor:
        return self._change(self._tensors[self._names[name]])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
