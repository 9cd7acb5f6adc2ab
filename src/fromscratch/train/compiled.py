"""Compiling the blocks of the training step, or not.

In: a model and the shape of its micro-batches. Out: the model with `block_call` compiled, or as it
was and the reason why. All blocks share one compiled graph; embedding, head and loss are a handful
of large products that a compiler cannot better. Evaluation and generation never see it (R41).

Whether compiling works here is found out by doing it, forward and backward, on zeros of the run's
own shape: a missing compiler shows now, not in step 1.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch

from fromscratch.model.gpt import GPT


def wants_compiling(asked: bool | Literal["auto"], device: torch.device) -> bool:
    """Whether blocks should be compiled.

    Where a recipe leaves it open (`auto`), on CUDA. On a CPU the uncompiled blocks are as fast or
    faster, since their products go to the faster library (model/linear.py), and start at once
    (benchmarks/RESULTS.md); Apple's backend is young. Both compile when they are asked to.
    """
    return device.type == "cuda" if asked == "auto" else asked


def compile_blocks(
    model: GPT,
    micro_batch: int,
    *,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> str | None:
    """Compiles what runs the blocks in training.

    Args:
        model: In training mode; its weights, gradients and randomness stay as they are.
        micro_batch: Windows in a forward pass.
        autocast: Context of the forward pass.

    Returns:
        None, or in one line why the blocks run uncompiled.
    """
    assert model.training
    before = model.block_call
    try:
        with _quietly():
            model.block_call = torch.compile(before)
            _try_out(model, micro_batch, autocast)
    except Exception as error:  # whatever a compiler can raise, eager can do without
        model.block_call = before
        torch._dynamo.reset()
        lines = [line for line in str(error).splitlines() if line.strip()]
        return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
    return None


def _try_out(
    model: GPT, micro_batch: int, autocast: Callable[[], AbstractContextManager[object]]
) -> None:
    """One forward and backward pass on ids of zero, of which nothing remains."""
    ids = torch.zeros(micro_batch, model.config.context, dtype=torch.int64, device=model.device)
    with torch.random.fork_rng(enabled=True), autocast():
        hidden = model.hidden(ids)
        torch.autograd.grad(hidden.sum(), list(model.blocks.parameters()))


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the compiler's own remarks: what matters is returned."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
