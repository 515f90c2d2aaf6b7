"""Layers of ONNX as torch functions: products, convolutions, pools, norms, softmax."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from models.attacks.onnx.node import Node, Operator, ints

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE_POOLS: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """alpha A B + beta C, either transposed."""
    a = a.mT if node.get("transA", 0) else a
    b = b.mT if node.get("transB", 0) else b
    product = a @ b
    if (alpha := node.get("alpha", 1.0)) != 1:
        product = alpha * product
    return product if c is None else product + node.get("beta", 1.0) * c


def _convolution(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    strides, dilations = _each(node, "strides", x), _each(node, "dilations", x)
    x = F.pad(x, _pads(node, x, list(weight.shape[2:]), strides, dilations))
    return CONVOLUTIONS[x.dim() - 2](
        x, weight, bias, stride=strides, dilation=dilations, groups=node.get("group", 1)
    )


def _each(node: Node, name: str, x: Tensor) -> list[int]:
    return ints(node, name) or [1] * (x.dim() - 2)


def _pads(
    node: Node, x: Tensor, kernel: list[int], strides: list[int], dilations: list[int]
) -> list[int]:
    """Room before and after each axis, last axis first, as `F.pad` takes it."""
    auto = node.get("auto_pad", b"NOTSET").decode()
    rank = len(kernel)
    given = ints(node, "pads") or [0] * (2 * rank)
    ends = list(zip(given[:rank], given[rank:], strict=True))
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        ends = []
        for size, k, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
            room = max((-(-size // stride) - 1) * stride + dilation * (k - 1) + 1 - size, 0)
            less, more = room // 2, room - room // 2
            ends.append((less, more) if auto == "SAME_UPPER" else (more, less))
    return [size for pair in reversed(ends) for size in pair]


def _max_pool(node: Node, x: Tensor) -> Tensor:
    if node.outputs > 1:
        raise NotImplementedError("MaxPool with the places of the largest")
    kernel, strides = ints(node, "kernel_shape") or [], _each(node, "strides", x)
    dilations = _each(node, "dilations", x)
    padded = F.pad(x, _pads(node, x, kernel, strides, dilations), value=-torch.inf)
    return MAX_POOLS[len(kernel)](
        padded, kernel, strides, dilation=dilations, ceil_mode=bool(node.get("ceil_mode", 0))
    )


def _average_pool(node: Node, x: Tensor) -> Tensor:
    """Padding counts in the mean only where the node says so."""
    kernel, strides = ints(node, "kernel_shape") or [], _each(node, "strides", x)
    if any(d != 1 for d in _each(node, "dilations", x)):
        raise NotImplementedError("AveragePool with dilations")
    pads, ceil = _pads(node, x, kernel, strides, [1] * len(kernel)), bool(node.get("ceil_mode", 0))
    pool = AVERAGE_POOLS[len(kernel)]
    mean: Tensor = pool(F.pad(x, pads), kernel, strides, ceil_mode=ceil)
    if node.get("count_include_pad", 0) or not any(pads):
        return mean
    share: Tensor = pool(F.pad(torch.ones_like(x[:1, :1]), pads), kernel, strides, ceil_mode=ceil)
    return mean / share


def _global(function: str) -> Operator:
    def apply(node: Node, x: Tensor) -> Tensor:
        axes = tuple(range(2, x.dim()))
        return x.mean(axes, keepdim=True) if function == "mean" else x.amax(axes, keepdim=True)

    return apply


def _batch_norm(
    node: Node, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    if node.get("training_mode", 0):
        raise NotImplementedError("BatchNormalization in training mode")
    return F.batch_norm(x, mean, variance, scale, shift, eps=node.get("epsilon", 1e-5))


def _instance_norm(node: Node, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=shift, eps=node.get("epsilon", 1e-5))


def _layer_norm(node: Node, x: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor:
    axis = node.get("axis", -1) % x.dim()
    normal = F.layer_norm(x, x.shape[axis:], eps=node.get("epsilon", 1e-5)) * scale
    return normal if shift is None else normal + shift


def _softmax(logarithm: bool) -> Operator:
    """Along one axis; before opset 13 along all axes from it on."""
    function = F.log_softmax if logarithm else F.softmax

    def apply(node: Node, x: Tensor) -> Tensor:
        axis = node.get("axis", -1 if node.opset >= 13 else 1)
        if node.opset >= 13:
            return function(x, dim=axis)
        return function(x.flatten(axis % x.dim()), dim=-1).reshape(x.shape)

    return apply


LAYERS: dict[str, Operator] = {
    "MatMul": lambda node, a, b: a @ b,
    "Gemm": _gemm,
    "Conv": _convolution,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global("mean"),
    "GlobalMaxPool": _global("max"),
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "Softmax": _softmax(logarithm=False),
    "LogSoftmax": _softmax(logarithm=True),
}
