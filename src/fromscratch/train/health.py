"""What each part of the network does, measured at an update without changing it.

In: the model and its optimisers at an update, then one window of the step. Out: a `HealthResult`:
norms of gradients, weights and their change; of each block the size of what it puts out and how
widely its heads look; Adam's second moments. What always holds: no weight, no state of an optimiser
and no random number is other than without it.

How it stays cheap: norms are taken of all tensors in one call each and fetched from the device
together; activations come from one more forward pass of a single window, without gradients, and
entropies from `_QUERIES` positions of it. Between the two halves of a measurement there is one copy
of the weights, at a time when the activations of the step are gone.

Of a model whose parameters are sharded, every rank measures, at the same steps: norms come from all
parts together, activations from a whole copy, as validation has one.

Shapes: B = 1 window, T positions, C width, nh heads, hd head size, F hidden width, Q queries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fromscratch.data.batches import Batch
from fromscratch.foundation.sharded import is_sharded, whole
from fromscratch.model.attention import Attention, AttentionInputs
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import Optimizers
from fromscratch.track.tracker import HealthResult

_QUERIES = 32


class HealthProbe:
    """Measures one update: `around_update` while it is made, then `result`.

    Args:
        model: The uncompiled module that is trained.
        optimizers: Its optimisers.
        whole_model: Gives it with whole parameters; left out where it has them.
    """

    def __init__(
        self, model: GPT, optimizers: Optimizers, whole_model: Callable[[], GPT] | None = None
    ) -> None:
        self._model = model
        self._whole_model: Callable[[], GPT] = whole_model or (lambda: model)
        self._optimizers = optimizers
        self._parts = _parts(model)
        self._norms: list[dict[str, Tensor]] | None = None

    @contextmanager
    def around_update(self) -> Iterator[None]:
        """To be entered with the gradients at hand, and left when the weights have moved."""
        parameters = [list(members.values()) for members in self._parts.values()]
        with torch.no_grad():
            gradients = [
                _norm([p.grad if p.grad is not None else torch.zeros_like(p) for p in members])
                for members in parameters
            ]
            weights = [_norm(members) for members in parameters]
            before = [[p.detach().clone() for p in members] for members in parameters]
        yield
        with torch.no_grad():
            for old, members in zip(before, parameters, strict=True):
                torch._foreach_sub_(old, [p.detach() for p in members])
            updates = [_norm(old) for old in before]
        self._norms = [
            {"grad_norm": g, "param_norm": w, "update_norm": u}
            for g, w, u in zip(gradients, weights, updates, strict=True)
        ]

    def result(
        self,
        step: int,
        grad_norm: float,
        batch: Batch,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> HealthResult | None:
        """What was measured; None where the update was not made.

        Args:
            step: The update's number.
            grad_norm: Of the whole gradient before clipping.
            batch: Windows of the step, of which the first is looked at.
            autocast: Context of the forward pass.
        """
        if self._norms is None:
            return None
        tensors = {
            (part, key): value
            for part, norms in zip(self._parts, self._norms, strict=True)
            for key, value in norms.items()
        }
        self._norms = None
        for part, activations in self._activations(batch.rows(0, 1), autocast).items():
            tensors |= {(part, key): value for key, value in activations.items()}
        moments = self._second_moments()
        tensors |= {(f"v {part}", k): x for part, row in moments.items() for k, x in row.items()}
        # One transfer for all: on a GPU each would wait for the device.
        fetched = torch.stack([value.float().reshape(()) for value in tensors.values()]).tolist()
        numbers: dict[str, dict[str, float]] = {}
        for (part, key), number in zip(tensors, fetched, strict=True):
            numbers.setdefault(part, {})[key] = number
        parts = {part: numbers[part] for part in self._parts}
        _finish(parts, grad_norm)
        return HealthResult(step, parts, {part: numbers[f"v {part}"] for part in moments})

    def _activations(
        self, batch: Batch, autocast: Callable[[], AbstractContextManager[object]]
    ) -> dict[str, dict[str, Tensor]]:
        """By block, from one forward pass without dropout."""
        model = self._whole_model()
        found: dict[str, dict[str, Tensor]] = {}
        hooks = []
        for index, block in enumerate(model.blocks):
            numbers: dict[str, Tensor] = {}
            found[f"blocks.{index}"] = numbers
            hooks += _watch_block(block, numbers)
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad(), autocast():
                batch = batch.to(model.device)
                model.hidden(batch.ids, segments=batch.segments)
        finally:
            for hook in hooks:
                hook.remove()
            model.train(was_training)
        return found

    def _second_moments(self) -> dict[str, dict[str, Tensor]]:
        """Adam's second moments in the first, middle and last block, where they are kept in fp32.

        Muon keeps none of its matrices, and an 8-bit state is not unpacked for this.
        """
        blocks = [part for part in self._parts if part.startswith("blocks.")]
        moments: dict[str, dict[str, Tensor]] = {}
        for part in dict.fromkeys((blocks[0], blocks[len(blocks) // 2], blocks[-1])):
            values = [
                whole(state["exp_avg_sq"])
                for parameter in self._parts[part].values()
                for member in self._optimizers.members
                if "exp_avg_sq" in (state := member.optimizer.state.get(parameter, {}))
                and (type(state["exp_avg_sq"]) is Tensor or is_sharded(state["exp_avg_sq"]))
            ]
            if values:
                total = torch.stack([value.sum() for value in values]).sum()
                moments[part] = {
                    "mean": total / sum(value.numel() for value in values),
                    "max": torch.stack([value.max() for value in values]).max(),
                    "min": torch.stack([value.min() for value in values]).min(),
                }
        return moments


def _parts(model: GPT) -> dict[str, dict[str, nn.Parameter]]:
    """The model's parameters by part: embeddings, each block, final norm, head."""
    parts: dict[str, dict[str, nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        first, *rest = name.split(".")
        part = f"blocks.{rest[0]}" if first == "blocks" else first
        parts.setdefault(part, {})[name] = parameter
    return parts


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    """The norm of all elements together; of tensors that lie in parts on several ranks, too."""
    return whole(torch.nn.utils.get_total_norm(tensors))


def _finish(parts: dict[str, dict[str, float]], grad_norm: float) -> None:
    """Adds the ratios, and undoes the clipping: all parts together have the norm before it."""
    total = math.sqrt(sum(row["grad_norm"] ** 2 for row in parts.values()))
    for row in parts.values():
        row["grad_norm"] *= grad_norm / total if total else 1.0
        row["update_ratio"] = row["update_norm"] / row["param_norm"] if row["param_norm"] else 0.0


def _watch_block(block: nn.Module, numbers: dict[str, Tensor]) -> list[Any]:
    """Hooks that put a block's numbers into `numbers` during one forward pass."""

    def after_block(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        numbers["activation_std"] = output.float().std()

    def before_attention(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        assert isinstance(module, Attention)
        entropy = attention_entropy(module, *arguments)  # (nh,)
        numbers["attention_entropy"] = entropy.mean()
        numbers["attention_entropy_min"] = entropy.min()

    def before_down(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        largest = arguments[0].abs().amax(dim=(0, 1))  # (F,)
        numbers["dead_units"] = (largest == 0).float().mean()

    attention, mlp = block.get_submodule("attn"), block.get_submodule("mlp")
    return [
        block.register_forward_hook(after_block),
        attention.register_forward_pre_hook(before_attention),
        mlp.get_submodule("down").register_forward_pre_hook(before_down),
    ]


def attention_entropy(attention: Attention, x: Tensor, inputs: AttentionInputs) -> Tensor:
    """How widely each head looks: the entropy of its attention in nats, (nh,).

    The mean over `_QUERIES` positions, evenly spread. 0 is one position alone; a head that spreads
    evenly over all that position t sees has ln(t + 1).

    Args:
        attention: The layer.
        x: (1, T, C), its input.
        inputs: What all layers share.
    """
    q, k, _ = attention.project(x, inputs)  # (1, nh, T, hd), (1, nkv, T, hd)
    length = x.shape[1]
    chosen = torch.linspace(0, length - 1, min(_QUERIES, length), device=x.device).round().long()
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)  # (1, nh, T, hd)
    scores = (q[:, :, chosen].float() @ k.float().mT) * q.shape[-1] ** -0.5  # (1, nh, Q, T)
    seen = chosen[:, None] >= torch.arange(length, device=x.device)  # (Q, T)
    if inputs.mask is not None:
        seen = inputs.mask[..., chosen, :]  # (1, 1, Q, T)
    weights = scores.masked_fill(~seen, -math.inf).softmax(dim=-1)
    entropy: Tensor = torch.special.entr(weights).sum(dim=-1)  # (1, nh, Q)
    return entropy.mean(dim=(0, 2))
