"""Bytes: of a checkpoint on disk, and of a training step in memory."""

from __future__ import annotations

from dataclasses import dataclass

from fromscratch.model.config import ModelConfig
from fromscratch.model.count import count_parameters, parameter_shapes
from fromscratch.optim.config import OptimConfig
from fromscratch.optim.eight_bits import moment_bytes

_FP32 = 4


def optimizer_bytes(model: ModelConfig, optim: OptimConfig) -> int:
    """Bytes of the optimiser's state: two moments for AdamW, one for Muon's matrices."""
    total = 0
    for shape in parameter_shapes(model):
        on_muon = optim.name == "muon" and shape.decayed and shape.part in ("attention", "mlp")
        if optim.name == "adamw8bit":
            total += 2 * moment_bytes(shape.size)
        else:
            total += (1 if on_muon else 2) * _FP32 * shape.size
    return total


def checkpoint_bytes(model: ModelConfig, optim: OptimConfig) -> int:
    """Bytes of one checkpoint: float32 weights and the optimiser's state.

    Headers, the tokenizer and the zeros that stand for absent biases add well under 1% at any size
    that fills a disk.
    """
    return _FP32 * count_parameters(model).total + optimizer_bytes(model, optim)


@dataclass(frozen=True)
class StepMemory:
    """An estimate of the memory of one training step, in bytes, by what takes it."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits


def step_memory(
    model: ModelConfig, optim: OptimConfig, *, micro_batch: int, half: bool
) -> StepMemory:
    """Estimates the peak memory of a step with fp32 master weights and flash attention.

    Counts the tensors that autograd keeps for the backward pass in each block (inputs of norms and
    matrix products, activations, attention's output), and for the head the logits, their float32
    copy and its gradient. Allocator slack and kernels' workspaces are not in it.

    Args:
        model: Shape.
        optim: Optimiser.
        micro_batch: Windows at a time.
        half: Whether products run in 16 bits under autocast.
    """
    parameters = count_parameters(model).total
    size = 2 if half else _FP32
    tokens = micro_batch * model.context
    width, heads = model.d_model, model.n_head * model.head_dim
    kv = 2 * model.n_kv_head * model.head_dim
    residual = 2 * width * _FP32  # the inputs of the two norms
    products = size * (2 * width + 2 * (heads + kv) + 2 * heads)
    hidden = size * model.d_ff * (4 if model.gated else 2)
    masks = (2 * width if model.dropout else 0) * size
    per_token = model.n_layer * (residual + products + hidden + masks)
    cast = parameters * size if half else 0  # autocast's copies of the weights
    return StepMemory(
        weights=_FP32 * parameters + cast,
        gradients=_FP32 * parameters,
        optimizer=optimizer_bytes(model, optim),
        activations=tokens * per_token,
        logits=tokens * model.padded_vocab * (size + 2 * _FP32),
    )
