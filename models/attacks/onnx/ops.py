"""Operators of ONNX as torch functions: arithmetic, comparisons, reductions and shapes.

An operator takes its node and its inputs (None for one that is left out) and gives a tensor, or a
tuple of them. Semantics: the operator specification of ONNX, opsets 7 to 23. Layers stand in
`models.attacks.onnx.layers`.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from models.attacks.onnx.node import Node, Operator, ints, straight, tensor_of, text
from models.attacks.onnx.shapes import SHAPES

TINY = 1e-12  # what a square root is differentiated at instead of 0


def _clip(node: Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    bounds = [
        node.get(name) if given is None else given.item()
        for name, given in (("min", low), ("max", high))
    ]
    if bounds == [None, None]:
        return x
    clipped = x.clamp(*bounds)
    return straight(clipped, x) if node.straight else clipped


def _make_rounding(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda node, x: straight(function(x), x) if node.straight else function(x)


def _sqrt(node: Node, x: Tensor) -> Tensor:
    """Its slope at 0 is taken a hair off, where it is finite."""
    root = x.sqrt()
    return straight(root, x.clamp_min(TINY).sqrt()) if x.requires_grad else root


def _divide(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _power(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return a.pow(b.item() if b.numel() == 1 else b.to(a.dtype))


def _extreme(fold: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """Max and Min. Beside a constant they are clamps."""

    def apply(node: Node, first: Tensor, *rest: Tensor) -> Tensor:
        for other in rest:
            kept, moving = fold(first, other), [t for t in (first, other) if t.requires_grad]
            clamp = node.straight and len(moving) == 1 and moving[0].shape == kept.shape
            first = straight(kept, moving[0]) if clamp else kept
        return first

    return apply


def _where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition, a, b)


def _make_fold(fold: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def apply(node: Node, first: Tensor, *rest: Tensor) -> Tensor:
        for other in rest:
            first = fold(first, other)
        return first

    return apply


def _mean(node: Node, *inputs: Tensor) -> Tensor:
    return cast(Tensor, _make_fold(torch.add)(node, *inputs)) / len(inputs)


def _plain(function: Callable[..., Tensor]) -> Operator:
    return lambda node, *inputs: function(*inputs)


def _make_reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    """A reduction over axes; over all where none are named."""

    def apply(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
        over, keep = ints(node, "axes", axes), bool(node.get("keepdims", 1))
        if not over and node.get("noop_with_empty_axes", 0):
            return x
        return function(x, over or list(range(x.dim())), keep)

    return apply


def _l2(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=axes, keepdim=keep)
    return length


def _l1(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.abs().sum(dim=axes, keepdim=keep)


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.sum(dim=axes, keepdim=keep).to(x.dtype)


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(dim=axis, keepdim=keep)
    return x


def _gelu(node: Node, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=text(node.get("approximate", "none")))


OPS: dict[str, Operator] = {
    "Abs": _plain(torch.abs),
    "Neg": _plain(torch.neg),
    "Exp": _plain(torch.exp),
    "Log": _plain(torch.log),
    "Sqrt": _sqrt,
    "Reciprocal": _plain(torch.reciprocal),
    "Relu": _plain(F.relu),
    "Sigmoid": _plain(torch.sigmoid),
    "Tanh": _plain(torch.tanh),
    "Erf": _plain(torch.erf),
    "Softplus": _plain(F.softplus),
    "Softsign": _plain(F.softsign),
    "LeakyRelu": lambda node, x: F.leaky_relu(x, node.get("alpha", 0.01)),
    "Elu": lambda node, x: F.elu(x, node.get("alpha", 1.0)),
    "Gelu": _gelu,
    "PRelu": lambda node, x, slope: torch.where(x < 0, x * slope, x),
    "HardSigmoid": lambda node, x: (node.get("alpha", 0.2) * x + node.get("beta", 0.5)).clamp(0, 1),
    "HardSwish": _plain(F.hardswish),
    "Sin": _plain(torch.sin),
    "Cos": _plain(torch.cos),
    "Floor": _make_rounding(torch.floor),
    "Ceil": _make_rounding(torch.ceil),
    "Round": _make_rounding(torch.round),
    "Sign": _plain(torch.sign),
    "Identity": lambda node, x: x,
    "Dropout": lambda node, x, *_: x,
    "Clip": _clip,
    "Add": _plain(torch.add),
    "Sub": _plain(torch.sub),
    "Mul": _plain(torch.mul),
    "Div": _divide,
    "Pow": _power,
    "Max": _extreme(torch.maximum),
    "Min": _extreme(torch.minimum),
    "Sum": _make_fold(torch.add),
    "Mean": _mean,
    "Where": _where,
    "Greater": _plain(torch.gt),
    "GreaterOrEqual": _plain(torch.ge),
    "Less": _plain(torch.lt),
    "LessOrEqual": _plain(torch.le),
    "Equal": _plain(torch.eq),
    "Not": _plain(torch.logical_not),
    "And": _plain(torch.logical_and),
    "Or": _plain(torch.logical_or),
    "Xor": _plain(torch.logical_xor),
    "IsNaN": _plain(torch.isnan),
    "IsInf": _plain(torch.isinf),
    "ReduceMean": _make_reduction(lambda x, axes, keep: x.mean(dim=axes, keepdim=keep)),
    "ReduceSum": _make_reduction(_sum),
    "ReduceMax": _make_reduction(lambda x, axes, keep: x.amax(dim=axes, keepdim=keep)),
    "ReduceMin": _make_reduction(lambda x, axes, keep: x.amin(dim=axes, keepdim=keep)),
    "ReduceProd": _make_reduction(_product),
    "ReduceL1": _make_reduction(_l1),
    "ReduceL2": _make_reduction(_l2),
    "ReduceSumSquare": _make_reduction(lambda x, axes, keep: _sum(x.square(), axes, keep)),
    "ReduceLogSum": _make_reduction(lambda x, axes, keep: _sum(x, axes, keep).log()),
    "ReduceLogSumExp": _make_reduction(lambda x, axes, keep: x.logsumexp(dim=axes, keepdim=keep)),
    "Constant": tensor_of,
    **SHAPES,
}
