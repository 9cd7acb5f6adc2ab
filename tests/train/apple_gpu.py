"""An Apple GPU that is not there: tensors that say they are on `mps`, computed on the CPU.

What such a GPU refuses is refused here: float64 and complex128 in any argument or result, some
operations for which torch has no MPS kernel, host and device tensors in one operation, a look into
its memory from numpy; and what it does wrong: a copy from the host that nobody waits for. The rest
is the CPU's arithmetic. So code that does on the device by accident what only a host or CUDA can
do is found without one. Not found: a kernel that is there and computes something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

MPS = torch.device("mps", 0)
WIDE = {torch.float64, torch.complex128}
# Of torch 2.10's native_functions.yaml: no MPS kernel, and no composition of others.
MISSING = {"aten::_fused_adam", "aten::histc", "aten::_linalg_eigh", "aten::geqrf", "aten::igamma"}
# What moves between host and device; a number that is a 0-d host tensor may be anywhere.
MOVES = {"aten::_to_copy", "aten::copy_", "aten::_copy_from", "aten::_copy_from_and_resize"}


class RefusedError(AssertionError):
    """What an Apple GPU would have refused."""


class OnGPU(Tensor):
    """A tensor on the GPU; `held` is its content, on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGPU:
        with torch.inference_mode(held.is_inference()):  # a view of a parameter is none
            made: OnGPU = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
                cls,
                held.size(),
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                device="meta",  # what torch itself sees: the only device that asks for no driver
                requires_grad=held.requires_grad,
            )
        made.held = held
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return MPS

    def tolist(self) -> Any:
        return self.cpu().tolist()

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation, on the CPU, if the GPU could do it."""
    flat, _ = tree_flatten((args, kwargs))
    here = [x for x in flat if isinstance(x, OnGPU)]
    if any(isinstance(x, Tensor) and type(x) not in KNOWN for x in flat):
        return NotImplemented  # a tensor of some library's own kind, which takes it apart
    wanted = kwargs.get("device")
    if func._schema.name == "aten::to" and wanted is None:
        wanted = next((x for x in flat if isinstance(x, torch.device)), None)
    name = func._schema.name
    # torch makes what it needs itself, as a mask, where it believes the tensors to be: on `meta`.
    if not here and (wanted is None or torch.device(wanted).type not in ("mps", "meta")):
        return func(*args, **kwargs)
    if name == "aten::to":  # under inference_mode it comes as a whole, else as `_to_copy`
        return _to(args[0], flat, bool(kwargs.get("non_blocking")))
    to_host = name == "aten::_to_copy" and wanted is not None and torch.device(wanted).type == "cpu"
    if not here and kwargs.get("non_blocking"):
        # The copy reads host memory that may be another tensor's by then (pytorch issue 189690).
        raise RefusedError("a copy from the host that nobody waits for")
    if name in MISSING:
        raise RefusedError(f"{name} has no MPS kernel")
    if name not in MOVES:
        strangers = [
            x for x in flat if isinstance(x, Tensor) and not isinstance(x, OnGPU) and x.dim()
        ]
        # Indices may be on the host (torch's indexing moves them).
        if here and strangers and not name.startswith("aten::index"):
            raise RefusedError(f"{name} of a tensor on the GPU and one on the host")
    for x in here:
        if x.dtype in WIDE:
            raise RefusedError(f"{name} of {x.dtype}")
    plain = {k: v for k, v in kwargs.items() if k != "pin_memory"}
    if "device" in plain:
        plain["device"] = torch.device("cpu")
    unwrapped = tree_map(lambda x: x.held if isinstance(x, OnGPU) else x, args)
    plain = tree_map(lambda x: x.held if isinstance(x, OnGPU) else x, plain)
    if plain.get("dtype") in WIDE and not to_host:
        raise RefusedError(f"{name} to {plain['dtype']}")
    if to_host and (plain.get("dtype") in WIDE):
        raise RefusedError("the conversion to float64 happens on the GPU, before the move")
    found = func(*unwrapped, **plain)
    if to_host:
        return found if found is not unwrapped[0] else found.clone()
    if func._schema.is_mutable:  # what is changed in place is what is returned
        changed = [
            kwargs[a.name] if a.name in kwargs else args[at]
            for at, a in enumerate(func._schema.arguments)
            if a.alias_info is not None
            and a.alias_info.is_write
            and (a.name in kwargs or at < len(args))
        ]
        results = len(func._schema.returns)
        return None if not results else changed[0] if results == 1 else tuple(changed[:results])

    def wrapped(x: Any) -> Any:
        if not isinstance(x, Tensor) or isinstance(x, OnGPU):
            return x
        if x.dtype in WIDE:
            raise RefusedError(f"{name} gives {x.dtype}")
        return OnGPU(x)

    return tree_map(wrapped, found)


def _to(x: Tensor, said: list[Any], non_blocking: bool) -> Any:
    """`to` in terms of `_to_copy`."""
    dtype = next((y for y in said if isinstance(y, torch.dtype)), x.dtype)
    other = next((y for y in said[1:] if isinstance(y, Tensor)), x)
    device = next((y for y in said if isinstance(y, torch.device)), other.device)
    if dtype == x.dtype and device.type == x.device.type:
        return x
    how = {"dtype": dtype, "device": device, "non_blocking": non_blocking}
    return compute(torch.ops.aten._to_copy.default, (x,), how)


KNOWN = {Tensor, torch.nn.Parameter, OnGPU}


class _Indices(TorchFunctionMode):
    """`mps` is `mps:0`: torch would ask the driver, which is not there, for the current one."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.device:
            args, kwargs = tree_map(_with_index, (args, kwargs or {}))
        if func in (torch.tensor, torch.as_tensor) and (kwargs or {}).get("device") == MPS:
            # Made by torch beneath everything that can listen.
            return func(*args, **{k: v for k, v in kwargs.items() if k != "device"}).to(MPS)
        return func(*args, **(kwargs or {}))


def _with_index(x: Any) -> Any:
    is_it = (isinstance(x, str) and x == "mps") or (isinstance(x, torch.device) and x.type == "mps")
    return MPS if is_it else x


class _Factories(TorchDispatchMode):
    """Operations that only name the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = compute(func, args, kwargs or {})
        return func(*args, **(kwargs or {})) if found is NotImplemented else found


class _Generator(torch.Generator):
    """One for the GPU is one for the CPU."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        kind = torch.device(device).type
        made: _Generator = super().__new__(cls, "cpu" if kind == "mps" else device)
        return made


@contextmanager
def apple_gpu() -> Iterator[torch.device]:
    """Inside, this machine has one."""
    with pytest.MonkeyPatch.context() as patch, _Factories(), _Indices():
        patch.setattr(torch.backends.mps, "is_available", lambda: True)
        patch.setattr(torch, "Generator", _Generator)
        patch.setattr(torch.mps, "synchronize", lambda: None)
        patch.setattr(torch.mps, "driver_allocated_memory", lambda: 2**30)
        patch.setattr(torch.mps, "current_allocated_memory", lambda: 2**30)
        patch.setattr(torch.mps, "recommended_max_memory", lambda: 8 * 2**30)
        patch.setattr(torch.mps, "empty_cache", lambda: None)
        yield torch.device("mps")
