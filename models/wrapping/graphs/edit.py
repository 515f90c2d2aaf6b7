"""Reading and editing ONNX graphs: who makes a tensor, what depends on what, new nodes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.base.errors import AdaptError
from models.wrapping.graphs.read import subgraphs

Array = npt.NDArray[Any]
PREFIX = "model/"
LARGEST = 1e9  # its square times any number of features is a float32
FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)


class Index:
    """What can be looked up in a graph that is not being changed."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.producer = {name: node for node in graph.node for name in node.output if name}
        self._weights = {tensor.name: tensor for tensor in graph.initializer}

    @property
    def inputs(self) -> list[onnx.ValueInfoProto]:
        """What the graph must be given (weights that are listed as inputs left out)."""
        return [given for given in self.graph.input if given.name not in self._weights]

    def constant(self, name: str) -> Array | None:
        """The value of a weight or of a Constant node; None for what is computed.

        Raises:
            AdaptError: its bytes do not fit its shape and type.
        """
        node = self.producer.get(name)
        try:
            if name in self._weights:
                return numpy_helper.to_array(self._weights[name])
            if node is None or node.op_type != "Constant" or not node.attribute:
                return None
            return _constant_value(node.attribute[0])
        except (ValueError, TypeError, KeyError) as error:
            raise AdaptError(f"the file is damaged: weights {show(name)!r}: {error}") from error

    def behind(self, name: str, passing: Sequence[str]) -> str:
        """The tensor that `name` is a mere copy of, going up through operators in `passing`."""
        node = self.producer.get(name)
        while node is not None and node.op_type in passing:
            name = node.input[0]
            node = self.producer.get(name)
        return name

    def upstream(self, names: Iterable[str]) -> list[onnx.NodeProto]:
        """The nodes that the tensors are computed by, in the order of the graph."""
        wanted, seen = list(names), set()
        while wanted:
            name = wanted.pop()
            node = self.producer.get(name)
            if node is not None and name not in seen:
                wanted += reads(node)
            seen.add(name)
        return [node for node in self.graph.node if seen.intersection(node.output)]

    def moving(self) -> set[str]:
        """Tensors that depend on the inputs of the graph."""
        names = {given.name for given in self.inputs}
        for node in self.graph.node:
            if names.intersection(reads(node)):
                names.update(node.output)
        return names - {""}


class Builder:
    """Adds nodes to a list; `op` and `const` return the name of the tensor they add."""

    def __init__(self, part: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._part = part

    def op(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node with one output, named `output` if that is given."""
        name = f"adapt/{self._part}_{len(self.nodes)}"
        output = output or name
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def finite(self, x: str) -> str:
        """0 for NaN, and at most 1e9 either way: a strange input shall not break the scores."""
        x = self.op("Where", self.op("IsNaN", x), self.const(np.float32(0)), x)
        return self.op("Clip", x, self.const(np.float32(-LARGEST)), self.const(np.float32(LARGEST)))

    def const(self, value: Array | np.generic | Sequence[int]) -> str:
        """Add a weight: arrays keep their dtype (texts become strings), lists become int64."""
        array = np.asarray(value)
        name = f"adapt/{self._part}_const_{len(self.weights)}"
        if array.dtype.kind in "UO":
            texts = [str(text).encode() for text in array.ravel()]
            tensor = TensorProto(name=name, data_type=TensorProto.STRING, dims=array.shape)
            tensor.string_data.extend(texts)
        else:
            tensor = numpy_helper.from_array(array.copy(order="C"), name)
        self.weights.append(tensor)
        return name


def reads(node: onnx.NodeProto) -> set[str]:
    """Tensors that a node or its subgraphs read (names made inside may be among them)."""
    names = {name for name in node.input if name}
    for graph in subgraphs(node):
        names.update(output.name for output in graph.output)
        for inner in graph.node:
            names |= reads(inner)
    return names


def rename_all(graph: onnx.GraphProto) -> None:
    """Put `PREFIX` before every name in a graph and its subgraphs, in place.

    All names change alike, so what subgraphs take from outside still fits, which
    onnx.compose.add_prefix does not see to for weights.
    """
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = PREFIX + value.name
    for sparse in graph.sparse_initializer:
        sparse.values.name = PREFIX + sparse.values.name
    for node in graph.node:
        node.name = node.name and PREFIX + node.name
        for names in (node.input, node.output):
            renamed = [name and PREFIX + name for name in names]
            del names[:]
            names.extend(renamed)
        for inner in subgraphs(node):
            rename_all(inner)


def show(name: str) -> str:
    """A tensor's name as the user's own model has it."""
    return name.removeprefix(PREFIX)


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy that answers the named tensors and holds only what they need."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    wanted = list(dict.fromkeys(names))
    index = Index(copy.graph)
    nodes = index.upstream(wanted)
    used = set(wanted).union(*(reads(node) for node in nodes))
    weights = [tensor for tensor in copy.graph.initializer if tensor.name in used]
    kept = [_copy_message(node) for node in nodes], [_copy_message(tensor) for tensor in weights]
    for field, values in zip((copy.graph.node, copy.graph.initializer), kept, strict=True):
        del field[:]
        field.extend(values)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    del copy.graph.value_info[:]
    return copy


def dims_of(value: onnx.ValueInfoProto) -> tuple[int | None, ...] | None:
    """Declared sizes of a tensor, None for those that are open; None if even the rank is."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(d.dim_value if d.dim_value > 0 else None for d in kind.shape.dim)


def kind_of(value: onnx.ValueInfoProto) -> int:
    """Element type of a tensor; refused if it is no tensor."""
    if value.type.WhichOneof("value") != "tensor_type":
        raise AdaptError(f"input {show(value.name)!r} is no tensor but a sequence or a map")
    return int(value.type.tensor_type.elem_type)


def dtype_of(kind: int) -> np.dtype[Any]:
    """NumPy dtype of an element type (strings are objects).

    Raises:
        AdaptError: ONNX knows no such type.
    """
    try:
        return np.dtype(helper.tensor_dtype_to_np_dtype(kind))
    except KeyError as error:
        raise AdaptError(
            f"an input has the element type {kind}, which ONNX does not know"
        ) from error


def shape_text(dims: Sequence[int | str | None] | None) -> str:
    """Sizes for people: `[N, 3, ?, ?]`."""
    if dims is None:
        return "an open shape"
    return "[" + ", ".join("?" if d is None else str(d) for d in dims) + "]"


def attributes_of(node: onnx.NodeProto) -> Mapping[str, Any]:
    """Attributes of a node as Python values."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _constant_value(attribute: onnx.AttributeProto) -> Array | None:
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return numpy_helper.to_array(value)
    if attribute.name.startswith("value_"):
        return np.asarray(value)
    return None


def _copy_message(message: Any) -> Any:
    other = type(message)()
    other.CopyFrom(message)
    return other
