"""An ONNX graph as a torch function, so that what is served can be attacked with its gradient.

The served graph holds the net, the scores and the constants that they were calibrated with: an
attacker who has the bundle has all of it. Here its nodes are run by torch, one after the other, on
the values that onnxruntime would see, and autograd does the rest.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import onnx
import torch
from onnx import helper
from torch import Tensor

from models.attacks.onnx.layers import LAYERS
from models.attacks.onnx.node import Node, from_proto
from models.attacks.onnx.ops import OPS
from models.base.errors import HoldfastError

KNOWN = OPS | LAYERS
COPIES = ("Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Clip", "Cast")


class NotDifferentiableError(HoldfastError):
    """A graph has an operator whose gradient is not known: it names the operator."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(
            f"the graph cannot be differentiated: {reason} ({kind}). Attacks that need no gradient "
            f"(square) work; known operators: {len(KNOWN)} of ONNX, in models/attacks/onnx/ops.py"
        )
        self.kind = kind


class DifferentiableGraph:
    """The nodes of a graph that some tensors rest on, run by torch.

    Args:
        model: the bytes of an ONNX model with one input.
        outputs: names of tensors to give, also inner ones; the graph's outputs by default.
        straight: hard clamps and roundings let the gradient through (`straight`): else a clamp
            hides it, and the model looks more robust than it is.
        device: where the weights are put, and where inputs must be.

    Raises:
        NotDifferentiableError: an operator that is not known, or a tensor that the graph lacks.

    >>> from onnx import TensorProto
    >>> info = helper.make_tensor_value_info
    >>> graph = helper.make_graph(
    ...     [helper.make_node("Relu", ["x"], ["y"])], "relu",
    ...     [info("x", TensorProto.FLOAT, ["batch", 2])], [info("y", TensorProto.FLOAT, None)],
    ... )
    >>> f = DifferentiableGraph(helper.make_model(graph).SerializeToString())
    >>> f(torch.tensor([[-1.0, 2.0]]))
    {'y': tensor([[0., 2.]])}
    """

    def __init__(
        self,
        model: bytes,
        outputs: Sequence[str] | None = None,
        *,
        straight: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        proto = onnx.load_from_string(model)
        numbers = [w for w in proto.graph.initializer if w.data_type != onnx.TensorProto.STRING]
        weights = {w.name: _move_floats(from_proto(w), device) for w in numbers}
        (self._input,) = (i.name for i in proto.graph.input if i.name not in weights)
        self.outputs = tuple(outputs or (o.name for o in proto.graph.output))
        self._producers = {name: n for n in proto.graph.node for name in n.output if name}
        self._values: dict[str, Tensor] = weights
        self._steps: list[tuple[onnx.NodeProto, Node]] = []
        for proto_node in _upstream(proto.graph, self.outputs, {self._input, *weights}):
            node = _node(proto_node, proto.opset_import, straight)
            self._steps.append((proto_node, node))
        self._fold(device)

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        """The outputs for raw inputs `(N, *shape)`, as floats also where the graph takes bytes."""
        values = {**self._values, self._input: x}
        for proto, node in self._steps:
            _run(proto, node, values)
        return {name: values[name] for name in self.outputs}

    def before_softmax(self, tensor: str) -> tuple[str, int | None] | None:
        """The logits that a probability was made of, and which column of them it is.

        Goes up through copies, clamps and one choice of a column. Log-odds of these logits have a
        gradient where the probability has rounded to 0 or 1. None where there is no softmax (or
        sigmoid: its column is None).
        """
        column: int | None = None
        while (node := self._producers.get(tensor)) is not None:
            if node.op_type in ("Softmax", "LogSoftmax", "Sigmoid"):
                return node.input[0], column
            if node.op_type == "Gather" and column is None:
                index = self._values.get(node.input[1])
                if index is None or index.numel() != 1:
                    return None
                column = int(index)
            elif node.op_type == "Slice" and column is None:
                start, end = (self._values.get(name) for name in node.input[1:3])
                if start is None or end is None or start.numel() != 1 or int(end - start) != 1:
                    return None
                column = int(start)
            elif node.op_type not in COPIES:
                return None
            tensor = node.input[0]
        return None

    def find_compared_tensor(self, tensor: str) -> str | None:
        """What a step-like output counts: the one float that a comparison above it looks at.

        A conformal p-value is a count of calibration scores that are at least the row's own: flat
        everywhere, but for its score. None where there is not exactly one.
        """
        found: set[str] = set()
        seen: set[str] = set()
        wanted = [tensor]
        while wanted:
            node = self._producers.get(wanted.pop())
            if node is None or node.output[0] in seen:
                continue
            seen.add(node.output[0])
            if node.op_type in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
                found.update(name for name in node.input if name not in self._values)
            else:
                wanted += node.input
        return found.pop() if len(found) == 1 else None

    def _fold(self, device: torch.device | str) -> None:
        """Run what does not rest on the input, once."""
        left = []
        for proto, node in self._steps:
            if all(name in self._values for name in proto.input if name):
                _run(proto, node, self._values)
                for name in proto.output:
                    if name in self._values:
                        self._values[name] = _move_floats(self._values[name], device)
            else:
                left.append((proto, node))
        self._steps = left


def _upstream(
    graph: onnx.GraphProto, outputs: Iterable[str], given: set[str]
) -> list[onnx.NodeProto]:
    """The nodes that `outputs` rest on, in the order of the graph."""
    wanted, kept = set(outputs), []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted -= set(node.output)
            wanted.update(name for name in node.input if name)
    missing = sorted(wanted - given)
    if missing:
        raise NotDifferentiableError("-", f"it has no tensor {missing[0]!r}")
    return kept[::-1]


def _node(proto: onnx.NodeProto, opsets: Iterable[onnx.OperatorSetIdProto], straight: bool) -> Node:
    versions = {o.domain: o.version for o in opsets}
    if proto.domain not in ("", "ai.onnx"):
        raise NotDifferentiableError(proto.op_type, f"an operator of {proto.domain}")
    if proto.op_type not in KNOWN:
        raise NotDifferentiableError(proto.op_type, "an operator that is not known")
    attributes: Mapping[str, Any] = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
    outputs = sum(map(bool, proto.output))
    return Node(proto.op_type, outputs, versions.get("", 18), straight, attributes)


def _run(proto: onnx.NodeProto, node: Node, values: dict[str, Tensor]) -> None:
    try:
        told = KNOWN[node.kind](node, *(values[name] if name else None for name in proto.input))
    except (NotImplementedError, KeyError) as error:
        raise NotDifferentiableError(node.kind, str(error)) from error
    for name, value in zip(
        proto.output, told if isinstance(told, tuple) else (told,), strict=False
    ):
        values[name] = value


def _move_floats(value: Tensor, device: torch.device | str) -> Tensor:
    """Whole numbers are sizes and places: they stay."""
    return value.to(device) if value.is_floating_point() else value
