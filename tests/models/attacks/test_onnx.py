"""Laws of the differentiable graph: it answers as onnxruntime does, and its gradient is true."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from models.attacks.onnx.interpreter import KNOWN, DifferentiableGraph, NotDifferentiableError
from models.attacks.onnx.node import straight
from models.data import DataSet
from models.evaluation.subject import Subject
from models.nets import factories
from models.nets.export import to_onnx
from models.versions.runner import session
from models.versions.schema import OUTPUTS, InputSchema
from models.wrapping import adapt
from tests import bundles, exports
from tests.conftest import Published
from tests.models import evaluated
from tests.service import tables

CLOSE = 1e-4
Array = npt.NDArray[Any]


def told(model: bytes, x: Array, names: Any) -> list[Array]:
    """What onnxruntime says."""
    runner = session(model)
    (given,) = runner.get_inputs()
    found: list[Array] = runner.run(list(names), {given.name: x})
    return found


def check_bundle(model: bytes, x: Array) -> None:
    """All outputs agree, and the scores have a gradient."""
    given = torch.from_numpy(x.astype(np.float32)).requires_grad_(True)
    found = DifferentiableGraph(model, OUTPUTS)(given)
    for name, expected in zip(OUTPUTS, told(model, x, OUTPUTS), strict=True):
        got = found[name].detach().numpy()
        if name in ("cells", "drift_p_value"):  # a row beside an edge may fall on its other side
            assert np.mean(np.abs(got - expected) > CLOSE) <= 0.02
        else:
            np.testing.assert_allclose(got, expected, atol=CLOSE)
    for name in ("probabilities", "perturbation_likelihood"):
        total = found[name].square().sum()
        (gradient,) = torch.autograd.grad(total, given, retain_graph=True)
        assert gradient.nan_to_num().abs().sum() > 0


def test_an_image_bundle_answers_as_onnxruntime(published: Published, digits: DataSet) -> None:
    check_bundle(published.bundle.model_bytes, digits.test.x[:100])


@pytest.mark.parametrize("name", ["wine", pytest.param("colours", marks=pytest.mark.slow)])
def test_tables_and_bytes_answer_as_onnxruntime(name: str) -> None:
    subject: Subject = evaluated.white_box(name)
    check_bundle(subject.runner.bundle.model_bytes, getattr(tables, name)().test.x[:60])


def test_a_wrapped_model_answers_as_onnxruntime() -> None:
    data = exports.digits()
    made = adapt(exports.from_torch(exports.Net(exports.body()), torch.zeros(2, 1, 8, 8)), data)
    model = bundles.instrumented(data, made.plain).model.SerializeToString()
    check_bundle(model, data.test.x[:60])


@pytest.mark.parametrize(
    "name",
    [
        "resnet_narrow",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("small_conv", "conv4", "mlp")),
    ],
)
def test_every_net_that_can_be_trained_is_differentiated(name: str) -> None:
    table = tables.wine().schema
    image = InputSchema("x", (3, 32, 32), "float32", 0, 1, "image")
    schema = table if name == "mlp" else image
    spec = factories.spec_for(schema, 3, name)
    torch.manual_seed(0)
    net = factories.build(spec).eval()
    model = to_onnx(net, schema).SerializeToString()
    low = schema.offset
    share = np.random.default_rng(0).random((4, *schema.shape))
    x = (low + schema.span * share).astype(np.float32)
    found = DifferentiableGraph(model)(torch.from_numpy(x))
    for got, expected in zip(found.values(), told(model, x, found), strict=True):
        np.testing.assert_allclose(got.detach().numpy(), expected, atol=CLOSE, rtol=1e-4)


def graph_of(nodes: list[onnx.NodeProto], opset: int = 18, **weights: Array) -> bytes:
    """A model of `x` (float32) to `y`."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "test",
        [value("x", TensorProto.FLOAT, None)],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return bytes(model.SerializeToString())


def i64(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


def f32(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


IMAGE, TABLE = (2, 3, 7, 6), (4, 6)
UNARY = [
    "Abs", "Neg", "Exp", "Reciprocal", "Relu", "Sigmoid", "Tanh", "Erf", "Softplus", "Softsign",
    "LeakyRelu", "Elu", "HardSigmoid", "HardSwish", "Sin", "Cos", "Floor", "Ceil", "Round",
    "Sign", "Identity", "IsNaN", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin",
    "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "Shape", "Size",
    "Flatten", "Transpose", "Softmax", "LogSoftmax",
]  # fmt: skip
OVER_AXES = [
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2",
    "ReduceSumSquare", "ReduceLogSumExp",
]  # fmt: skip
BINARY = [
    "Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Greater", "Less",
    "GreaterOrEqual", "PRelu",
]  # fmt: skip
# Operator, shape of x, weights, attributes; "y" is its first output.
CASES: dict[str, tuple[str, tuple[int, ...], dict[str, Array], dict[str, Any]]] = {
    **{
        kind: (kind, TABLE, {}, {})
        for kind in UNARY
    },
    **{
        f"{kind} over an axis": (kind, IMAGE, {"axes": i64(1, -1)}, {"keepdims": 0})
        for kind in OVER_AXES
    },
    **{
        kind: (kind, TABLE, {"b": f32(6)}, {})
        for kind in BINARY
    },
    "Pow": ("Pow", TABLE, {"b": np.float32(2)}, {}),
    "Clip": ("Clip", TABLE, {"a": np.float32(-0.5), "b": np.float32(0.2)}, {}),
    "ArgMax": ("ArgMax", TABLE, {}, {"axis": 1, "keepdims": 0}),
    "TopK": ("TopK", TABLE, {"k": i64(3)}, {"axis": 1}),
    "TopK, smallest": ("TopK", TABLE, {"k": i64(2)}, {"largest": 0}),
    "Reshape": ("Reshape", IMAGE, {"s": i64(0, -1, 2)}, {}),
    "Flatten at 2": ("Flatten", IMAGE, {}, {"axis": 2}),
    "Transpose by hand": ("Transpose", IMAGE, {}, {"perm": [0, 2, 3, 1]}),
    "Squeeze": ("Squeeze", (2, 1, 3), {"a": i64(1)}, {}),
    "Unsqueeze": ("Unsqueeze", TABLE, {"a": i64(0, -1)}, {}),
    "Slice": ("Slice", IMAGE, {"s": i64(1, -2), "e": i64(9, 99), "a": i64(2, 3)}, {}),
    "Slice backwards": (
        "Slice", TABLE, {"s": i64(-1), "e": i64(-(2**63)), "a": i64(1), "t": i64(-2)}, {},
    ),
    "Gather": ("Gather", IMAGE, {"i": i64(2, 0)}, {"axis": 1}),
    "Gather one": ("Gather", TABLE, {"i": np.array(-1)}, {"axis": 1}),
    "GatherND": ("GatherND", IMAGE, {"i": np.array([[0, 2], [1, -1]])}, {}),
    "GatherND by row": ("GatherND", TABLE, {"i": np.array([[[1], [5]]] * 4)}, {"batch_dims": 1}),
    "Split": ("Split", TABLE, {"s": i64(2, 4)}, {"axis": 1}),
    "Concat": ("Concat", TABLE, {"b": f32(4, 2)}, {"axis": 1}),
    "Expand": ("Expand", (4, 1), {"s": i64(4, 3)}, {}),
    "Tile": ("Tile", TABLE, {"r": i64(1, 2)}, {}),
    "Pad": ("Pad", IMAGE, {"p": i64(0, 0, 1, 2, 0, 0, 0, 1)}, {}),
    "Pad, mirrored": ("Pad", IMAGE, {"p": i64(0, 0, 1, 2, 0, 0, 0, 1)}, {"mode": "reflect"}),
    "Cast": ("Cast", TABLE, {}, {"to": TensorProto.INT32}),
    "MatMul": ("MatMul", TABLE, {"b": f32(6, 3)}, {}),
    "Gemm": (
        "Gemm", TABLE, {"b": f32(3, 6), "c": f32(3)}, {"transB": 1, "alpha": 0.5, "beta": 2.0},
    ),
    "Conv": ("Conv", IMAGE, {"w": f32(4, 3, 3, 3), "b": f32(4)}, {"pads": [1, 0, 1, 2]}),
    "Conv, strided": (
        "Conv", IMAGE, {"w": f32(6, 1, 3, 2)}, {"group": 3, "strides": [2, 1], "dilations": [1, 2]},
    ),
    "Conv, same": (
        "Conv", IMAGE, {"w": f32(4, 3, 3, 3)}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    ),
    "MaxPool": ("MaxPool", IMAGE, {}, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}),
    "AveragePool": ("AveragePool", IMAGE, {}, {"kernel_shape": [3, 2], "pads": [1, 1, 0, 0]}),
    "AveragePool, all": (
        "AveragePool", IMAGE, {}, {"kernel_shape": [2, 2], "pads": [1] * 4, "count_include_pad": 1},
    ),
    "GlobalAveragePool": ("GlobalAveragePool", IMAGE, {}, {}),
    "GlobalMaxPool": ("GlobalMaxPool", IMAGE, {}, {}),
    "BatchNormalization": (
        "BatchNormalization", IMAGE,
        {"s": f32(3), "b": f32(3), "m": f32(3), "v": np.abs(f32(3))}, {"epsilon": 1e-3},
    ),
    "InstanceNormalization": ("InstanceNormalization", IMAGE, {"s": f32(3), "b": f32(3)}, {}),
    "LayerNormalization": ("LayerNormalization", TABLE, {"s": f32(6), "b": f32(6)}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_operator_is_that_of_onnxruntime(name: str) -> None:
    kind, shape, weights, attributes = CASES[name]
    outputs = ["y", "rest"] if kind in ("TopK", "Split") else ["y"]
    node = helper.make_node(kind, ["x", *weights], outputs, **attributes)
    model, x = graph_of([node], **weights), f32(*shape)
    expected = told(model, x, ["y"])[0]
    got = DifferentiableGraph(model)(torch.from_numpy(x))["y"].numpy()
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, atol=1e-5)


OLD: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "Softmax": ("Softmax", (2, 3, 4), {"axis": 1}),
    "ReduceSum": ("ReduceSum", TABLE, {"axes": [1]}),
    "Squeeze": ("Squeeze", (2, 1, 3), {"axes": [1]}),
    "Unsqueeze": ("Unsqueeze", TABLE, {"axes": [1]}),
    "Clip": ("Clip", TABLE, {"min": -0.5, "max": 0.5}),
    "Slice": ("Slice", TABLE, {"starts": [1], "ends": [5], "axes": [1]}),
    "Pad": ("Pad", TABLE, {"pads": [0, 1, 0, 2], "value": 3.0}),
    "Dropout": ("Dropout", TABLE, {}),
}


@pytest.mark.parametrize("name", OLD)
def test_operators_of_old_opsets_keep_their_settings_in_attributes(name: str) -> None:
    kind, shape, attributes = OLD[name]
    model, x = graph_of([helper.make_node(kind, ["x"], ["y"], **attributes)], 9), f32(*shape)
    got = DifferentiableGraph(model)(torch.from_numpy(x))["y"].numpy()
    np.testing.assert_allclose(got, told(model, x, ["y"])[0], atol=1e-5)


def test_what_is_not_known_is_refused_by_name() -> None:
    unknown = graph_of([helper.make_node("Hardmax", ["x"], ["y"])])
    with pytest.raises(NotDifferentiableError, match=r"not known.*Hardmax"):
        DifferentiableGraph(unknown)
    forest = helper.make_node("TreeEnsembleClassifier", ["x"], ["y"], domain="ai.onnx.ml")
    with pytest.raises(NotDifferentiableError, match=r"ai\.onnx\.ml.*TreeEnsembleClassifier"):
        DifferentiableGraph(graph_of([forest]))
    with pytest.raises(NotDifferentiableError, match="no tensor 'z'"):
        DifferentiableGraph(graph_of([helper.make_node("Relu", ["x"], ["y"])]), ["z"])
    assert "Hardmax" not in KNOWN


def test_an_operator_that_nobody_asks_for_does_no_harm() -> None:
    nodes = [helper.make_node("Hardmax", ["x"], ["z"]), helper.make_node("Relu", ["x"], ["y"])]
    assert DifferentiableGraph(graph_of(nodes))(torch.ones(1, 2))["y"].tolist() == [[1, 1]]


@pytest.mark.parametrize("kind", ["Clip", "Round", "Min"])
def test_a_clamp_hides_the_gradient_unless_it_is_straight(kind: str) -> None:
    weights = {"Clip": {"a": np.float32(0), "b": np.float32(1)}, "Min": {"b": np.ones((1, 2), "f")}}
    given = weights.get(kind, {})
    model = graph_of([helper.make_node(kind, ["x", *given], ["y"])], **given)
    for straight_through, expected in ((False, 0.0), (True, 1.0)):
        x = torch.tensor([[3.2, 7.0]], requires_grad=True)
        y = DifferentiableGraph(model, straight=straight_through)(x)["y"]
        assert y.detach().numpy() == pytest.approx(told(model, x.detach().numpy(), ["y"])[0])
        y.sum().backward()
        assert x.grad is not None
        assert x.grad.tolist() == [[expected] * 2]


def test_straight_keeps_the_value_where_the_smooth_one_is_infinite() -> None:
    x = torch.tensor([torch.inf, 1.0], requires_grad=True)
    assert straight(x.clamp(0, 1), x).tolist() == [1, 1]


def test_a_square_root_has_a_finite_slope_at_0() -> None:
    x = torch.zeros(1, 2, requires_grad=True)
    model = graph_of([helper.make_node("Sqrt", ["x"], ["y"])])
    DifferentiableGraph(model)(x)["y"].sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_the_gradient_is_that_of_the_net(published: Published, digits: DataSet) -> None:
    x = torch.from_numpy(digits.test.x[:20])
    graph = DifferentiableGraph(published.bundle.model_bytes, ["probabilities"])
    net: nn.Module = published.net.eval()
    heat = published.bundle.manifest.calibration.temperature
    gradients = []
    for answer in (
        lambda z: graph(z)["probabilities"],
        lambda z: (net(z / 16)[0] / heat).softmax(dim=1),
    ):
        given = x.clone().requires_grad_(True)
        gradients.append(torch.autograd.grad(answer(given)[:, 3].sum(), given)[0])
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-3)


def test_the_logits_of_a_probability_are_found(published: Published, digits: DataSet) -> None:
    model = published.bundle.model_bytes
    graph = DifferentiableGraph(model, OUTPUTS)
    for output, chosen in (("probabilities", False), ("perturbation_likelihood", True)):
        found = graph.before_softmax(output)
        assert found is not None
        tensor, column = found
        assert (column is not None) == chosen
        told_by = DifferentiableGraph(model, [output, tensor])(torch.from_numpy(digits.test.x[:9]))
        p = told_by[tensor].softmax(dim=1)
        torch.testing.assert_close(p if column is None else p[:, column], told_by[output])
    assert graph.before_softmax("cells") is None


def test_what_a_p_value_counts_is_found(published: Published, digits: DataSet) -> None:
    model = published.bundle.model_bytes
    score = DifferentiableGraph(model, OUTPUTS).find_compared_tensor("drift_p_value")
    assert score is not None
    told_by = DifferentiableGraph(model, ["drift_p_value", score])(
        torch.from_numpy(digits.test.x[:200])
    )
    order = told_by[score].flatten().argsort()
    assert (told_by["drift_p_value"][order].diff() <= 0).all(), "the stranger the smaller"
