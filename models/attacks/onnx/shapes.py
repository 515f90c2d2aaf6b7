"""Operators of ONNX on shapes and places, as torch functions: slices, gathers, reshapes, casts."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.attacks.onnx.node import TYPES, Node, Operator, from_proto, ints, text


def _arg(largest: bool) -> Operator:
    def apply(node: Node, x: Tensor) -> Tensor:
        find = torch.argmax if largest else torch.argmin
        return find(x, dim=node.get("axis", 0), keepdim=bool(node.get("keepdims", 1)))

    return apply


def _top(node: Node, x: Tensor, k: Tensor | None = None) -> tuple[Tensor, Tensor]:
    count = int(node.get("k") if k is None else k.item())
    axis, largest = node.get("axis", -1), bool(node.get("largest", 1))
    values, places = x.topk(count, dim=axis, largest=largest, sorted=True)
    return values, places


def _reshape(node: Node, x: Tensor, shape: Tensor | None = None) -> Tensor:
    sizes = ints(node, "shape", shape) or []
    if not node.get("allowzero", 0):
        sizes = [x.shape[k] if size == 0 else size for k, size in enumerate(sizes)]
    return x.reshape(sizes)


def _flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(node.get("perm") or tuple(reversed(range(x.dim()))))


def _squeeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    over = ints(node, "axes", axes)
    return x.squeeze() if over is None else x.squeeze(tuple(over))


def _unsqueeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    over = ints(node, "axes", axes) or []
    rank = x.dim() + len(over)
    for axis in sorted(axis % rank for axis in over):
        x = x.unsqueeze(axis)
    return x


def _concat(node: Node, *inputs: Tensor) -> Tensor:
    return torch.cat(inputs, dim=node.get("axis", 1))


def _slice(node: Node, x: Tensor, *given: Tensor | None) -> Tensor:
    starts, ends, axes, steps = (
        ints(node, name, given[k] if k < len(given) else None)
        for k, name in enumerate(("starts", "ends", "axes", "steps"))
    )
    assert starts is not None
    assert ends is not None
    axes = axes or list(range(len(starts)))
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(starts), strict=True):
        places = range(x.shape[axis])[slice(start, end if end > -(2**62) else None, step)]
        if step == 1:
            x = x.narrow(axis, places.start, len(places))
        else:
            x = x.index_select(axis, torch.tensor(list(places), device=x.device))
    return x


def _gather(node: Node, x: Tensor, index: Tensor) -> Tensor:
    axis = node.get("axis", 0) % x.dim()
    places = index.to(x.device, torch.int64) % x.shape[axis]
    found = x.index_select(axis, places.reshape(-1))
    return found.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])


def _gather_elements(node: Node, x: Tensor, index: Tensor) -> Tensor:
    axis = node.get("axis", 0) % x.dim()
    return x.gather(axis, index.to(x.device, torch.int64) % x.shape[axis])


def _gather_nd(node: Node, x: Tensor, index: Tensor) -> Tensor:
    """The last axis of `index` names a place along the axes of `x` after the batch's."""
    batch, index = node.get("batch_dims", 0), index.to(x.device, torch.int64)
    lead = x.shape[:batch]
    flat = x.reshape(math.prod(lead), *x.shape[batch:])
    places = index.reshape(len(flat), -1, index.shape[-1])
    row = torch.arange(len(flat), device=x.device)[:, None]
    found = flat[(row, *places.unbind(dim=-1))]
    return found.reshape(*index.shape[:-1], *flat.shape[1 + index.shape[-1] :])


def _one_hot(node: Node, index: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    """What lies outside of the depth is `off` everywhere; the new axis stands last by default."""
    size = int(depth.reshape(-1)[0])
    index = index.to(torch.int64)
    places = torch.arange(size, device=index.device)
    hot = (torch.where(index < 0, index + size, index)[..., None] == places).movedim(
        -1, node.get("axis", -1)
    )
    return torch.where(hot, values[1], values[0])


def _split(node: Node, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis, given = node.get("axis", 0), ints(node, "split", sizes)
    if given is None:
        given = [-(-x.shape[axis] // node.outputs)] * (node.outputs - 1)
        given.append(x.shape[axis] - sum(given))
    return torch.split_with_sizes(x, given, dim=axis)


def _shape(node: Node, x: Tensor) -> Tensor:
    return torch.tensor(list(x.shape)[slice(node.get("start", 0), node.get("end"))])


def _expand(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    sizes = np.broadcast_shapes(tuple(x.shape), tuple(shape.tolist()))
    return x.expand(sizes)


def _filled(node: Node, shape: Tensor) -> Tensor:
    value = node.get("value")
    one = torch.zeros(1) if value is None else from_proto(value)
    return one.reshape(-1).expand(math.prod(shape.tolist())).reshape(shape.tolist())


def _range(node: Node, start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


def _cast(node: Node, x: Tensor) -> Tensor:
    return x.to(TYPES[node.get("to")])


def _pad(
    node: Node,
    x: Tensor,
    pads: Tensor | None = None,
    value: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:
    given, over = ints(node, "pads", pads) or [], ints(node, "axes", axes)
    ends = [(0, 0)] * x.dim()
    half = len(given) // 2
    for axis, before, after in zip(over or range(x.dim()), given[:half], given[half:], strict=True):
        ends[axis] = (before, after)
    flat = [size for pair in reversed(ends) for size in pair]
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}[
        text(node.get("mode", "constant"))
    ]
    if mode == "constant":
        return F.pad(x, flat, value=node.get("value", 0.0) if value is None else value.item())
    return F.pad(x, flat[: 2 * (x.dim() - 2)], mode=mode)


SHAPES: dict[str, Operator] = {
    "ArgMax": _arg(largest=True),
    "ArgMin": _arg(largest=False),
    "TopK": _top,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "OneHot": _one_hot,
    "Split": _split,
    "Shape": _shape,
    "Expand": _expand,
    "ConstantOfShape": _filled,
    "Range": _range,
    "Cast": _cast,
    "Pad": _pad,
    "Size": lambda node, x: torch.tensor(x.numel()),
    "Tile": lambda node, x, repeats: x.tile(tuple(repeats.tolist())),
    "CastLike": lambda node, x, like: x.to(like.dtype),
}
