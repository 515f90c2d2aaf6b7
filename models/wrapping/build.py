"""The plain graph: raw rows in, the model in between, logits and features out."""

import onnx
from onnx import TensorProto, helper

from models.base.errors import AdaptError
from models.data import DataSet
from models.wrapping.features import Features
from models.wrapping.graphs.edit import Builder, with_outputs
from models.wrapping.graphs.read import LARGEST_BYTES, first_line
from models.wrapping.graphs.runs import Feed
from models.wrapping.outputs import Reading

TYPES = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}


def plain_graph(
    model: onnx.ModelProto, data: DataSet, plan: Feed, reading: Reading, features: Features | None
) -> onnx.ModelProto:
    """Join what feeds the model, the model and what reads it, and drop what nothing needs.

    Args:
        model: a prepared model.
        data: its schema is the input.
        plan: how the model is fed.
        reading: where and in which order its classes are.
        features: the feature layer, if there is one.

    Raises:
        AdaptError: the whole is larger than 2 GB, or no valid ONNX.
    """
    schema = data.schema
    front, tail = Builder("in"), Builder("out")
    plan.emit(front, schema.name, schema)
    tail.op("Identity", reading.emit(tail), output="logits")
    outputs = {"logits": len(data.classes)}
    if features is not None:
        tail.op("Identity", features.emit(tail), output="features")
        outputs["features"] = features.size
    shape: list[str | int | None] = ["batch", *schema.shape]
    given = helper.make_tensor_value_info(schema.name, TYPES[schema.dtype], shape)
    whole = with_outputs(_join_nodes(model, given, front, tail), outputs)
    for value in whole.graph.output:
        dims: list[str | int | None] = ["batch", outputs[value.name]]
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, dims))
    if whole.ByteSize() > LARGEST_BYTES:
        raise AdaptError("the model is larger than 2 GB; a bundle holds models up to 2 GB")
    try:
        onnx.checker.check_model(whole)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise AdaptError(f"the adapted graph is no valid ONNX: {first_line(error)}") from error
    return whole


def _join_nodes(
    model: onnx.ModelProto, given: onnx.ValueInfoProto, front: Builder, tail: Builder
) -> onnx.ModelProto:
    """The nodes of all three, in their order, behind one input."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    nodes = [*front.nodes, *model.graph.node, *tail.nodes]
    del whole.graph.node[:], whole.graph.input[:]
    whole.graph.node.extend(nodes)
    whole.graph.initializer.extend([*front.weights, *tail.weights])
    whole.graph.input.append(given)
    return whole
