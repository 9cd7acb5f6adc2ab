"""All initialisation, in one place.

| parameter                       | `gpt2`                  | `normal`      | `zero_out`           |
|---------------------------------|-------------------------|---------------|----------------------|
| token and position embeddings   | N(0, s)                 | N(0, s)       | N(0, s)              |
| matrices into attention and MLP | N(0, s)                 | N(0, s)       | N(0, 0.7/sqrt(n_in)) |
| matrices back into the residual | N(0, s / sqrt(2L))      | N(0, s)       | 0                    |
| untied head                     | N(0, s)                 | N(0, s)       | 0                    |
| biases                          | 0                       | 0             | 0                    |
| norm weights                    | 1                       | 1             | 1                    |

s is `init_std`, L `n_layer`, n_in the number of inputs. `gpt2` is Radford et al. (2019), section
2.3. A fourth one, `vaswani`, has embeddings N(0, 1), matrices N(0, sqrt(2/(n_in + n_out))) (Glorot
and Bengio 2010) and a head N(0, 1/sqrt(C)): beside sinusoidal positions, whose numbers are near 1,
tokens drawn with a deviation of 0.02 are not seen for hundreds of steps. Vaswani et al. (2017) get
there by multiplying embeddings by sqrt(C).

`zero_out` starts every block as the identity and every prediction as uniform, which is what Muon's
updates of fixed size want; 0.7 was measured (dev/LOG.md).
"""

from __future__ import annotations

import math

import torch
from torch import nn

from fromscratch.model.config import ModelConfig

_GAIN = 0.7
_INTO_RESIDUAL = ("attn.out.weight", "attn.extra.weight", "mlp.down.weight")


@torch.no_grad()
def initialise(model: nn.Module, config: ModelConfig, generator: torch.Generator) -> None:
    """Sets every parameter of a freshly built network, in the order of its state dict.

    Args:
        model: The network; its parameters must be real, not on the meta device.
        config: Whose `init` and `init_std` are applied.
        generator: The only source of randomness.
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            continue
        std = _std(name, parameter, config)
        if std == 0.0:
            parameter.zero_()
        else:
            # Drawn on the CPU, so that the same seed gives the same weights on every device.
            values = torch.empty(parameter.shape).normal_(0.0, std, generator=generator)
            parameter.copy_(values)


def _std(name: str, parameter: nn.Parameter, config: ModelConfig) -> float:
    """The standard deviation that the table above gives for one matrix."""
    in_block = name.startswith("blocks.")
    if config.init == "vaswani":
        if in_block:
            return math.sqrt(2 / sum(parameter.shape))
        return 1 / math.sqrt(config.d_model) if name.startswith("head.") else 1.0
    if not in_block:
        zero = config.init == "zero_out" and name.startswith("head.")
        return 0.0 if zero else config.init_std
    into_residual = name.endswith(_INTO_RESIDUAL)
    if config.init == "zero_out":
        # With an extra projection, attention's own output must not be zero as well: the product of
        # two zero matrices has no gradient at all.
        if name.endswith("attn.out.weight") and config.extra_attn_proj:
            into_residual = False
        return 0.0 if into_residual else _GAIN / math.sqrt(parameter.shape[1])
    if config.init == "gpt2" and into_residual:
        return config.init_std / math.sqrt(2 * config.n_layer)
    return config.init_std
