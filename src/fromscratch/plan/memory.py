"""Bytes: of a checkpoint on disk, and of a training step in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fromscratch.model.config import ModelConfig
from fromscratch.model.count import count_parameters, parameter_shapes
from fromscratch.optim.config import OptimConfig
from fromscratch.optim.eight_bits import moment_bytes

_FP32 = 4

LOGITS_CHUNK_BYTES = 64 * 2**20
"""Of the float32 logits that exist at any moment: the head works on so many rows at a time."""

USABLE_SHARE = 0.92
"""Of a card's memory: the driver, the libraries' workspaces and fragmentation keep the rest."""


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
    """An estimate of the memory of one training step, in bytes, by what takes it.

    Attributes:
        weights: In float32, and their 16-bit copies under autocast.
        gradients: In float32.
        optimizer: Its state.
        activations: What autograd keeps for the backward pass.
        logits: What the head needs besides, at its worst moment.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits


def activation_bytes_per_token(
    model: ModelConfig, *, half: bool, on_cpu: bool = False
) -> tuple[int, int]:
    """What autograd keeps of one token: in each block, and outside the blocks.

    Counted are, per block, the inputs of both norms (float32: the residual stream is never
    rounded), of the four matrix products and of the activation, and what flash attention keeps:
    queries, keys, values, its output and the logarithm of each row's sum. Masks of dropout are one
    byte an element. Outside: the inputs of the last norm and of the head.

    On a CPU RMSNorm keeps its result before the weight, too, masks are as wide as what they mask,
    and with dropout attention keeps its probabilities, before and after, and their mask, all in
    float32.

    Args:
        model: Shape.
        half: Whether products run in 16 bits under autocast.
        on_cpu: With torch's kernels for CPUs instead of those for GPUs.

    Returns:
        Bytes of a token in one block, and outside all of them.
    """
    size = 2 if half else _FP32
    width, query = model.d_model, model.n_head * model.head_dim
    key = model.n_kv_head * model.head_dim
    rms = on_cpu and model.norm == "rmsnorm" and model.norm_weight
    norm = width * _FP32 * (2 if rms else 1)
    product_inputs = size * (2 * width + query + query + 2 * key)
    kept = 4 if model.gated else 2
    if on_cpu and not half:
        kept //= 2  # what the activation gives is computed again (model/linear.py)
    hidden = size * model.d_ff * kept
    statistics = _FP32 * (model.n_head + (2 if model.norm == "layernorm" else 1) * 2)
    qk = 0
    if model.qk_norm:
        # Normalised in float32 (their inputs are copies then), and its statistics.
        qk += (query + key) * _FP32 * (half + (on_cpu and model.norm_weight))
        qk += _FP32 * (model.n_head + model.n_kv_head)
    if model.positions == "rope" or model.qk_norm:
        qk += size * (query + key)  # what attention is given is no longer a view of the product
    mask = (size if on_cpu else 1) if model.dropout else 0
    block = 2 * norm + product_inputs + hidden + statistics + qk + 2 * width * mask
    if model.dropout and on_cpu:
        block += 3 * _FP32 * model.n_head * model.context
        block += (query + 2 * key) * _FP32 * half
    outside = norm + width * (size + (_FP32 if mask > 1 else mask))
    return block, outside


def step_memory(
    model: ModelConfig,
    optim: OptimConfig,
    *,
    micro_batch: int,
    half: bool,
    activation_checkpointing: bool = False,
    on_cpu: bool = False,
) -> StepMemory:
    """Estimates the peak memory of a step with fp32 master weights.

    Uncompiled: a compiler keeps less. Allocator slack and kernels' workspaces are not in it.

    Args:
        model: Shape.
        optim: Optimiser.
        micro_batch: Windows at a time.
        half: Whether products run in 16 bits under autocast.
        activation_checkpointing: Whether blocks keep their input alone, and are computed again.
        on_cpu: With torch's kernels for CPUs instead of those for GPUs.
    """
    parameters = count_parameters(model).total
    size = 2 if half else _FP32
    tokens = micro_batch * model.context
    block, outside = activation_bytes_per_token(model, half=half, on_cpu=on_cpu)
    if activation_checkpointing:
        blocks = model.n_layer * model.d_model * _FP32 + block  # one block's are there at a time
    else:
        blocks = model.n_layer * block
    cast = parameters * size if half else 0  # autocast's copies of the weights
    head = model.padded_vocab * model.d_model
    chunk = min(LOGITS_CHUNK_BYTES, tokens * model.padded_vocab * _FP32)
    # The head's gradients are there before those of the blocks: by its matrix in float32 and, on
    # its way there, in 16 bits; by its inputs; a chunk's logits and log-probabilities in
    # float32, and in 16 bits the logits as they came.
    head_gradients = head * (_FP32 + (size if half else 0)) + tokens * model.d_model * _FP32
    return StepMemory(
        weights=_FP32 * parameters + cast,
        gradients=_FP32 * parameters,
        optimizer=optimizer_bytes(model, optim),
        activations=tokens * (blocks + outside),
        logits=head_gradients + 2 * chunk + (chunk // 2 if half else 0),
    )


def largest_micro_batch(
    model: ModelConfig,
    optim: OptimConfig,
    candidates: Iterable[int],
    *,
    memory_bytes: int,
    half: bool,
    activation_checkpointing: bool = False,
) -> int | None:
    """The largest candidate whose estimate fits into a card; None where not even the least does."""
    fitting = [
        n
        for n in candidates
        if step_memory(
            model,
            optim,
            micro_batch=n,
            half=half,
            activation_checkpointing=activation_checkpointing,
        ).total
        <= USABLE_SHARE * memory_bytes
    ]
    return max(fitting, default=None)


def divisors(number: int) -> list[int]:
    """All divisors, ascending: the micro-batches that a step of `number` windows can have."""
    small = [n for n in range(1, int(number**0.5) + 1) if number % n == 0]
    return sorted({*small, *(number // n for n in small)})
