"""Laws of the graph builder: the model given to it stays, names never collide."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from models.versions.runner import session
from monitoring.scoring.graph import GraphBuilder


def doubled(inner: str) -> onnx.ModelProto:
    """y = 2 x, over a tensor called `inner`, taken from outside by a branch as well."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])

    def branch(name: str) -> onnx.GraphProto:
        node = helper.make_node("Add", [inner, "x"], [name])
        return helper.make_graph([node], name, [], [helper.make_empty_tensor_value_info(name)])

    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    nodes = [
        helper.make_node("Identity", ["x"], [inner]),
        helper.make_node(
            "If", ["yes"], ["y"], then_branch=branch("then"), else_branch=branch("else")
        ),
    ]
    graph = helper.make_graph(nodes, "doubled", [given], [out], [yes])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_reserved_names_are_free_for_outputs_and_the_model_computes_the_same() -> None:
    model = doubled("cells")
    before = model.SerializeToString()
    graph = GraphBuilder(model, reserved=("cells",))
    graph.output("cells", graph.op("Neg", "y"), "batch", 2)
    x = np.array([[1, 2], [3, 4]], np.float32)
    told = session(graph.build().SerializeToString()).run(["cells"], {"x": x})[0]
    np.testing.assert_array_equal(told, -2 * x)
    assert model.SerializeToString() == before, "the model that was given is not touched"


def test_probe_answers_tensors_and_leaves_the_builder_as_it_is() -> None:
    graph = GraphBuilder(doubled("inner"))
    tripled = graph.op("Add", "y", "x")
    probe = graph.probe(tripled=tripled)
    x = np.ones((1, 2), np.float32)
    told = session(probe.SerializeToString()).run(["probe_tripled"], {"x": x})[0]
    np.testing.assert_array_equal(told, 3 * x)
    assert len(graph.graph.output) == 0
