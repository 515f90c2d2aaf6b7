"""A device that is not the CPU, for tests on machines without a GPU.

Tensors that are moved to ELSEWHERE (torch's `meta`, which nothing else here uses) say that they lie
there and hold their values on the CPU. An operation that mixes them with tensors of the CPU fails,
as on a GPU; so does `.numpy()`. What a real GPU does differently (kernels, rounding, memory,
generators of its own) is not in it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ELSEWHERE = torch.device("meta")
aten = torch.ops.aten
MOVES = (aten._to_copy, aten.copy_)
INDEXED = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)  # by either


class DeviceMixError(RuntimeError):
    """Tensors of two devices in one operation."""


class _Far(Tensor):
    """A tensor that says it is elsewhere."""

    real: Tensor

    @staticmethod
    def __new__(cls, real: Tensor) -> "_Far":
        far = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, real.size(), strides=real.stride(), storage_offset=real.storage_offset(),
            dtype=real.dtype, device=ELSEWHERE, requires_grad=real.requires_grad,
        )  # fmt: skip
        far.real = real
        return far

    def __init__(self, real: Tensor) -> None:
        """Nothing more."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    far = any(isinstance(t, _Far) for t in tensors)
    near = any(not isinstance(t, _Far) and t.dim() > 0 for t in tensors)
    if far and near and func.overloadpacket not in MOVES + INDEXED:
        raise DeviceMixError(f"{func}: tensors of two devices")
    if kwargs.get("device") is not None:
        far = torch.device(kwargs["device"]).type == ELSEWHERE.type
        kwargs = kwargs | {"device": torch.device("cpu")}
    real_args, real_kwargs = tree_map(_unwrap, (args, kwargs))
    result = func(*real_args, **real_kwargs)
    written = [args[i] for i, a in enumerate(func._schema.arguments[: len(args)]) if _is_written(a)]
    if written and isinstance(written[0], Tensor):
        return written[0]
    return tree_map(_wrap, result) if far else result


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and bool(argument.alias_info.is_write)


def _unwrap(value: Any) -> Any:
    return value.real if isinstance(value, _Far) else value


def _wrap(value: Any) -> Any:
    return _Far(value) if isinstance(value, Tensor) and not isinstance(value, _Far) else value


class _Mode(TorchDispatchMode):
    """Sees also what is made from nothing."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Generator(torch.Generator):
    """One of the CPU, whatever device is asked for."""

    def __new__(cls, device: object = None) -> "_Generator":
        return super().__new__(cls)


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """Within it there is ELSEWHERE; generators that are asked for there are the CPU's."""
    swapped = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with mock.patch.object(torch, "Generator", _Generator), _Mode():
            yield ELSEWHERE
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swapped)
