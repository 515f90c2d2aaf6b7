"""A node of an ONNX graph as the interpreter sees it, and gradients that pass a step.

Operators stand in `models.attacks.onnx.ops`, `_shapes` and `_layers`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor

TYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.INT64: torch.int64,
    TensorProto.INT32: torch.int32,
    TensorProto.INT16: torch.int16,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT8: torch.uint8,
    TensorProto.BOOL: torch.bool,
}


@dataclass(frozen=True)
class Node:
    """What an operator knows beside its inputs.

    Args:
        kind: of operator.
        outputs: how many are asked for.
        opset: that the graph is written in.
        straight: whether hard clamps and roundings let the gradient through.
        attributes: by name.
    """

    kind: str
    outputs: int
    opset: int
    straight: bool
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)


Operator = Callable[..., Any]


def straight(hard: Tensor, smooth: Tensor) -> Tensor:
    """The value of `hard` with the gradient of `smooth` (Bengio et al. 2013; Athalye et al. 2018).

    >>> x = torch.tensor([3.0], requires_grad=True)
    >>> straight(x.clamp(0, 1), x).sum().backward()
    >>> x.grad
    tensor([1.])
    """
    if not smooth.requires_grad:
        return hard
    passed: Tensor = _Straight.apply(hard, smooth)  # type: ignore[no-untyped-call]
    return passed


class _Straight(torch.autograd.Function):
    """`hard + (smooth - smooth.detach())`, that neither infinities nor rounding disturb."""

    @staticmethod
    def forward(ctx: Any, hard: Tensor, smooth: Tensor) -> Tensor:
        return hard.detach().clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]


def ints(node: Node, name: str, given: Tensor | None = None) -> list[int] | None:
    """A list of whole numbers: an input in younger opsets, an attribute in older ones."""
    values = node.get(name) if given is None else given.reshape(-1).tolist()
    if values is None:
        return None
    return [int(values)] if isinstance(values, int | float) else [int(v) for v in values]


def tensor_of(node: Node) -> Tensor:
    """The value of a Constant node."""
    for name, value in node.attributes.items():
        if name == "value":
            return from_proto(value)
        if name in ("value_int", "value_ints"):
            return torch.tensor(value, dtype=torch.int64)
        if name in ("value_float", "value_floats"):
            return torch.tensor(value, dtype=torch.float32)
    raise NotImplementedError("Constant of texts or sparse values")


def from_proto(value: TensorProto) -> Tensor:
    """A weight."""
    return torch.from_numpy(np.array(numpy_helper.to_array(value), copy=True))


def text(value: str | bytes) -> str:
    """A string attribute, which ONNX keeps as bytes."""
    return value.decode() if isinstance(value, bytes) else value
