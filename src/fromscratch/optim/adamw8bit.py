"""AdamW with both moments in 8 bits: a quarter of the state, nearly the same update.

Block-wise dynamic quantisation (Dettmers et al. 2022, arxiv.org/abs/2110.02861): at each step the
moments are dequantised, updated in fp32, used, and quantised again. That arithmetic is an engine's:

| engine         | where                    | how                                                |
|----------------|--------------------------|----------------------------------------------------|
| `bitsandbytes` | CUDA, CPU                | one fused kernel on CUDA, a few passes on a CPU    |
| `torchao`      | anywhere that torch runs | some fifty operations of torch, slice by slice     |

In: tensors of at least 4,096 numbers in whole blocks of 256 (eight_bits.py); smaller ones belong
to an ordinary AdamW. Out: updated weights, and a state of plain tensors, named alike whichever the
engine, that a checkpoint holds as they are: a run goes on with the very same bytes, and may go on
with the other engine. Always true: the maps from byte to number that the state was made with are
part of it, so that another release of an engine reads it right.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Protocol

import torch
from torch import Tensor

from fromscratch.foundation.errors import UserError
from fromscratch.optim.eight_bits import BLOCK, CODES, fits_eight_bits

_SLICE_ON_CPU, _SLICE_ON_GPU = 2**18, 2**23
"""Numbers updated at a time where temporaries would else be several times the weights."""


class Engine(Protocol):
    """Makes one update of one tensor, or of a slice of whole blocks of it."""

    name: str
    whole: bool
    """Whether a tensor is updated at once: the kernel has no temporaries."""

    def maps(self) -> tuple[Tensor, Tensor]:
        """The 256 numbers that bytes stand for, signed and unsigned, ascending, on the CPU."""

    def update(
        self,
        weight: Tensor,
        gradient: Tensor,
        first: tuple[Tensor, Tensor, Tensor],
        second: tuple[Tensor, Tensor, Tensor],
        step: Tensor,
        group: dict[str, Any],
    ) -> None:
        """Updates the flat `weight` and both moments (codes, scales, map) in place."""


def choose_engine(wanted: str, device: torch.device) -> str:
    """The engine that `optim.engine` asks for; with `auto`, the faster one that is installed.

    Raises:
        UserError: It is not installed, or cannot work on the device.
    """
    if wanted == "bitsandbytes" and device.type == "mps":
        raise UserError(
            'optim.engine = "bitsandbytes" does not work on an Apple GPU.',
            fix="Use optim.engine=torchao.",
        )
    order = ["torchao"] if device.type == "mps" else ["bitsandbytes", "torchao"]
    for name in order if wanted == "auto" else [wanted]:
        if importlib.util.find_spec(name) is not None:
            return name
    missing = " or ".join(order) if wanted == "auto" else wanted
    raise UserError(
        f'optim.name = "adamw8bit" needs {missing}, which is not installed.',
        fix="pip install 'fromscratch[gpu]', or use optim.name=adamw: the same update with four "
        "times the state.",
    )


class AdamW8bit(torch.optim.Optimizer):
    """Loshchilov and Hutter's AdamW (2019) with 8-bit moments.

    Args:
        params: fp32 parameters in whole blocks of 256 numbers, or groups of them.
        lr: Learning rate.
        betas: Decay of the first and the second moment.
        eps: Added to the root of the second moment.
        weight_decay: Decoupled.
        engine: `bitsandbytes` or `torchao`; both must be what `choose_engine` gave.
    """

    STATE = (
        "step",
        "exp_avg_codes",
        "exp_avg_scales",
        "exp_avg_map",
        "exp_avg_sq_codes",
        "exp_avg_sq_scales",
        "exp_avg_sq_map",
    )

    def __init__(
        self,
        params: Any,
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float = 0.0,
        engine: str,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )
        self.engine = _ENGINES[engine]()
        for group in self.param_groups:
            for parameter in group["params"]:
                assert fits_eight_bits(parameter.numel()), "this tensor's moments are fp32"
                if hasattr(parameter, "to_local"):
                    raise UserError(
                        'optim.name = "adamw8bit" cannot update weights that are sharded.',
                        fix="Use parallel.mode=ddp, or optim.name=adamw.",
                    )

    @property
    def made_with(self) -> str:
        """Engine and version, for the record."""
        return f"{self.engine.name} {version(self.engine.name)}"

    @staticmethod
    def layout(parameter: Tensor) -> dict[str, torch.Size]:
        """The shape of each tensor of a parameter's state."""
        scales, table = torch.Size([parameter.numel() // BLOCK]), torch.Size([CODES])
        shapes = (torch.Size(), *[parameter.shape, scales, table] * 2)
        return dict(zip(AdamW8bit.STATE, shapes, strict=True))

    def fresh_state(self, parameter: Tensor) -> dict[str, Tensor]:
        """The state before the first update: all codes stand for zero, under scales of zero."""
        where = parameter.device
        out = {"step": torch.zeros(())}
        for name, table in zip(("exp_avg", "exp_avg_sq"), self.engine.maps(), strict=True):
            out[f"{name}_codes"] = torch.zeros_like(parameter, dtype=torch.uint8)
            out[f"{name}_scales"] = torch.zeros(parameter.numel() // BLOCK, device=where)
            out[f"{name}_map"] = table.to(where, copy=True)
        return out

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Updates every parameter that has a gradient."""
        assert closure is None, "AdamW8bit takes no closure"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state.update(self.fresh_state(parameter))
                state["step"] += 1
                for begin, end in self._slices(parameter):
                    self.engine.update(
                        parameter.view(-1)[begin:end],
                        parameter.grad.reshape(-1)[begin:end],
                        _moment(state, "exp_avg", begin, end),
                        _moment(state, "exp_avg_sq", begin, end),
                        state["step"],
                        group,
                    )

    def _slices(self, parameter: Tensor) -> Iterator[tuple[int, int]]:
        """Blocks know nothing of each other, so the slices change no bit of the result."""
        size, where = parameter.numel(), parameter.device.type
        width = _SLICE_ON_CPU if where == "cpu" else _SLICE_ON_GPU
        if self.engine.whole and where == "cuda":
            width = size
        for begin in range(0, size, width):
            yield begin, min(begin + width, size)


def _moment(
    state: dict[str, Tensor], name: str, begin: int, end: int
) -> tuple[Tensor, Tensor, Tensor]:
    """A slice of one moment: codes, their scales, the map."""
    return (
        state[f"{name}_codes"].view(-1)[begin:end],
        state[f"{name}_scales"][begin // BLOCK : end // BLOCK],
        state[f"{name}_map"],
    )


def dequantise(state: dict[str, Tensor], name: str) -> Tensor:
    """A moment, `exp_avg` or `exp_avg_sq`, as fp32 numbers in the parameter's shape."""
    codes = state[f"{name}_codes"]
    numbers = state[f"{name}_map"][codes.int()].view(-1, BLOCK)
    return (numbers * state[f"{name}_scales"][:, None]).view(codes.shape)


@contextmanager
def _quiet() -> Iterator[None]:
    """Both log what of theirs cannot be loaded here; none of it is used."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


class _Bitsandbytes:
    """The function under bitsandbytes.optim.AdamW8bit; "adam" decays decoupled there."""

    name = "bitsandbytes"
    whole = True

    def __init__(self) -> None:
        with _quiet():
            from bitsandbytes import functional
        self._functional: Any = functional

    def maps(self) -> tuple[Tensor, Tensor]:
        make = self._functional.create_dynamic_map
        return make(signed=True), make(signed=False)  # new ones, on the CPU

    def update(
        self,
        weight: Tensor,
        gradient: Tensor,
        first: tuple[Tensor, Tensor, Tensor],
        second: tuple[Tensor, Tensor, Tensor],
        step: Tensor,
        group: dict[str, Any],
    ) -> None:
        beta1, beta2 = group["betas"]
        self._functional.optimizer_update_8bit_blockwise(
            "adam",
            gradient,
            weight,
            first[0],
            second[0],
            beta1,
            beta2,
            0.0,
            0.0,
            group["eps"],
            int(step),
            group["lr"],
            first[2],
            second[2],
            first[1],
            second[1],
            weight_decay=group["weight_decay"],
        )


class _Torchao:
    """The function under torchao.optim.AdamW8bit, without its compilation for every shape."""

    name = "torchao"
    whole = False

    def __init__(self) -> None:
        try:
            with _quiet():
                from torchao.optim.adam import single_param_adam
                from torchao.optim.subclass_8bit import (
                    OptimState8bit,
                    get_qmap_signed,
                    get_qmap_unsigned,
                )
        except ImportError as error:
            raise UserError(
                f"torchao {version('torchao')} is not one that fromscratch knows ({error}).",
                fix="pip install --upgrade 'fromscratch[gpu]'",
            ) from None
        self._update = single_param_adam
        self._state = OptimState8bit
        self._maps = get_qmap_signed, get_qmap_unsigned

    def maps(self) -> tuple[Tensor, Tensor]:
        signed, unsigned = (torch.tensor(numbers()) for numbers in self._maps)
        return signed, unsigned

    def update(
        self,
        weight: Tensor,
        gradient: Tensor,
        first: tuple[Tensor, Tensor, Tensor],
        second: tuple[Tensor, Tensor, Tensor],
        step: Tensor,
        group: dict[str, Any],
    ) -> None:
        beta1, beta2 = group["betas"]
        self._update(
            weight,
            gradient,
            step,
            self._state(*first, signed=True, dtype=torch.float32),
            self._state(*second, signed=False, dtype=torch.float32),
            None,
            torch.tensor(group["lr"], dtype=torch.float32),
            beta1,
            beta2,
            group["weight_decay"],
            group["eps"],
            True,  # decoupled weight decay
            False,  # the weights are fp32: nothing to round by chance
        )


_ENGINES: dict[str, Callable[[], Engine]] = {"bitsandbytes": _Bitsandbytes, "torchao": _Torchao}
