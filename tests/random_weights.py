"""Models in which nothing is trivially 0 or 1."""

from __future__ import annotations

import math
from typing import TypeVar

import torch

Model = TypeVar("Model", bound=torch.nn.Module)


def randomise(model: Model, seed: int = 1) -> Model:
    """Makes every parameter random, biases and norms too; returns the model, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise / math.sqrt(parameter.shape[1]))
            else:
                parameter.copy_(0.3 * noise + (0.0 if name.endswith("bias") else 1.0))
    return model.eval()
