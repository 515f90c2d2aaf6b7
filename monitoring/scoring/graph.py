"""Appending nodes to an ONNX graph without naming every tensor by hand."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.statistics.arrays import FloatArray
from models.versions.schema import InputArray

OWN = "holdfast/own"


class GraphBuilder:
    """Grows a copy of a model; `op` and `const` return the name of the tensor they add.

    The copy starts without outputs: what shall be answered is named by `output`. Tensors inside
    the model that have a `reserved` name get another one.
    """

    def __init__(self, model: onnx.ModelProto, reserved: Collection[str] = ()) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self.graph = self._model.graph
        del self.graph.output[:]
        _rename(self.graph, {name: f"{OWN}/{name}" for name in reserved})
        self._count = 0

    @property
    def input(self) -> str:
        """Name of the graph's input."""
        return str(self.graph.input[0].name)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output that is used."""
        return self.ops(kind, *inputs, outputs=1, **attributes)[0]

    def ops(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs."""
        names = [self._name(kind) for _ in range(outputs)]
        self.graph.node.append(
            helper.make_node(kind, inputs, names, name=self._name(kind), **attributes)
        )
        return names

    def const(self, value: InputArray | FloatArray | np.generic | list[int] | float) -> str:
        """Add an initializer: floats become float32, Python integers int64."""
        array = np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        name = self._name("const")
        self.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def replace(self, name: str, value: FloatArray) -> None:
        """Give an initializer that `const` has added other values, of another shape if need be."""
        array = np.asarray(value, dtype=np.float32)
        place = [i.name for i in self.graph.initializer].index(name)
        self.graph.initializer[place].CopyFrom(numpy_helper.from_array(array, name))

    def inline(self, model: onnx.ModelProto, *inputs: str) -> list[str]:
        """Add the nodes of another model, fed with tensors; gives the names of its outputs.

        A model may be added repeatedly. It must have no bodies of loops and branches.
        """
        other = onnx.GraphProto()
        other.CopyFrom(model.graph)
        given = dict(zip((i.name for i in other.input), inputs, strict=True))
        inner = {n for node in other.node for n in (*node.input, *node.output)}
        inner = (inner | {value.name for value in other.initializer}) - given.keys() - {""}
        prefix = self._name("inline")
        names = {name: f"{prefix}/{name}" for name in inner} | given
        _rename(other, names)
        for node in other.node:
            node.name = f"{prefix}/{node.name}"
        self.graph.node.extend(other.node)
        self.graph.initializer.extend(other.initializer)
        return [value.name for value in other.output]

    def output(
        self,
        name: str,
        tensor: str,
        *shape: str | int | None,
        kind: TensorProto.DataType = TensorProto.FLOAT,
    ) -> None:
        """Answer `tensor` as the output `name` with the given shape."""
        self.graph.node.append(helper.make_node("Identity", [tensor], [name], name=f"out_{name}"))
        self.graph.output.append(helper.make_tensor_value_info(name, kind, shape))

    def build(self) -> onnx.ModelProto:
        """A copy of the model as it stands. Raises if it is not valid ONNX."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        del model.graph.value_info[:]
        onnx.checker.check_model(model)
        return model

    def probe(self, **tensors: str) -> onnx.ModelProto:
        """A copy that answers the given `(N, ...)` float tensors under the given names."""
        other = GraphBuilder(self._model)  # nothing is reserved: names are free already
        for name, tensor in tensors.items():
            other.output(f"probe_{name}", tensor, "batch", None)
        return other.build()

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"holdfast/{kind}_{self._count}"


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Give tensors other names, in the bodies of loops and branches as well."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                _rename(body, names)
    for value in (*graph.initializer, *graph.value_info, *graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = names.get(sparse.values.name, sparse.values.name)
