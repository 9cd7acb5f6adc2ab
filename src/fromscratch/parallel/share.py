"""One model on several ranks: copies whose gradients are summed (DDP), or shards (FSDP2).

In: a model on its device. Out: `SharedModel`, which gives the forward pass that training goes
through, and an ordinary model for everything else. `SharedModel.model` is always the `GPT` itself:
with DDP (and alone) its parameters are whole, with FSDP each is a DTensor of which a rank holds
some rows; names never change, so checkpoints are the same files.

The wrapped module is not the model but the objective over it: both DDP and FSDP act in the forward
of what they wrap, and an objective may use the model in more ways than to call it.

DDP sends gradients in buckets while the backward pass still computes others. Both average over the
ranks, so that a loss divided by the *global* count of targets is multiplied by their number
(train/step.py).
"""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fromscratch.data.batches import Batch
from fromscratch.foundation.sharded import whole
from fromscratch.model.gpt import GPT

if TYPE_CHECKING:
    from torch.distributed.fsdp import MixedPrecisionPolicy

Mode = Literal["ddp", "fsdp"]


class Loss(Protocol):
    """What train/objectives.py calls an objective."""

    def __call__(self, model: GPT, batch: Batch) -> Tensor:
        """A scalar with a gradient."""


class _Forward(nn.Module):
    """An objective over a model, as a module."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model
        self.loss: Loss | None = None

    def forward(self, batch: Batch) -> Tensor:
        assert self.loss is not None, "no objective was given"
        return self.loss(self.model, batch)


class SharedModel:
    """A model that this process trains alone.

    Attributes:
        model: The network; its parameters are what the optimisers update.
    """

    def __init__(self, model: GPT) -> None:
        self.model = model

    def through(self, loss: Loss) -> Loss:
        """The objective, computed so that gradients come out shared."""
        return loss

    def syncing(self, last: bool) -> AbstractContextManager[object]:
        """The context of one micro-batch's forward and backward pass.

        Args:
            last: Whether gradients are exchanged now: in the last micro-batch of a step.
        """
        return nullcontext()

    def whole(self) -> GPT:
        """The model with whole parameters, for evaluation, samples and measurements.

        A collective call where the parameters are sharded: the model is then a copy.
        """
        return self.model


class _Copies(SharedModel):
    """DDP: each rank has all of the model."""

    def __init__(self, model: GPT) -> None:
        super().__init__(model)
        self._forward = _Forward(model)
        # Gradients lie in the buckets that are sent: no second copy of them. The only buffer is a
        # table of fixed numbers, which need not travel; torch 2.13 renamed the option.
        known = inspect.signature(DistributedDataParallel.__init__).parameters
        syncs = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        options: dict[str, Any] = {syncs: False}
        self._ddp = DistributedDataParallel(self._forward, gradient_as_bucket_view=True, **options)

    def through(self, loss: Loss) -> Loss:
        self._forward.loss = loss

        def shared(model: GPT, batch: Batch) -> Tensor:
            out: Tensor = self._ddp(batch)
            return out

        return shared

    def syncing(self, last: bool) -> AbstractContextManager[object]:
        return nullcontext() if last else self._ddp.no_sync()


class _Shards(SharedModel):
    """FSDP2: each rank has some rows of every parameter, gradient and optimiser state.

    A block's parameters are gathered when it is its turn, forward and backward, and its gradients
    are reduced right away: they are never whole on any rank, whatever the number of micro-batches.
    """

    def __init__(self, model: GPT, half: torch.dtype | None) -> None:
        super().__init__(model)
        # Here, because they take half a second to import.
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(model.device.type, (torch.distributed.get_world_size(),))
        for block in model.blocks:
            fully_shard(block, mesh=mesh, mp_policy=_policy(half))
        self._forward = _Forward(model)
        fully_shard(self._forward, mesh=mesh)

    def through(self, loss: Loss) -> Loss:
        self._forward.loss = loss

        def shared(model: GPT, batch: Batch) -> Tensor:
            out: Tensor = self._forward(batch)
            return out

        return shared

    def whole(self) -> GPT:
        model = self.model
        with torch.device("meta"):
            copy = GPT(model.config)
        state = {name: whole(tensor) for name, tensor in model.state_dict().items()}
        copy.load_state_dict(state, strict=True, assign=True)
        copy.build_tables(model.device)
        return copy.train(model.training)


def _policy(half: torch.dtype | None) -> MixedPrecisionPolicy:
    """Blocks travel as autocast would round them anyway; sums of gradients are made in fp32.

    Autocast still rules inside: what comes into a block is left as it is (fp32 in the residual
    stream), so that the same numbers are computed as on one GPU, but for the norms' weights, which
    take part rounded.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy

    return MixedPrecisionPolicy(
        param_dtype=half, reduce_dtype=torch.float32, cast_forward_inputs=False
    )


def share(model: GPT, *, launched: bool, mode: Mode, half: torch.dtype | None) -> SharedModel:
    """Shares a model between the ranks of this run.

    Args:
        model: On its device, with the same weights on every rank; with FSDP its parameters are
            replaced by sharded ones, so optimisers are built afterwards.
        launched: Whether the ranks are connected; else the process is alone.
        mode: How.
        half: The 16-bit type that autocast computes in; None for none.
    """
    if not launched:
        return SharedModel(model)
    if mode == "ddp":
        return _Copies(model)
    # On a CPU autocast leaves norms alone, and they take no weights in 16 bits beside fp32 inputs.
    return _Shards(model, half if model.device.type == "cuda" else None)
