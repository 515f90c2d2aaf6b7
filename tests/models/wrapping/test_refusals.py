"""Laws of refusing: what cannot be wrapped is told in a sentence that names the cause."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LinearRegression, LogisticRegression
from torch import nn

from models.base.errors import AdaptError
from models.data import DataSet, Rows, load
from models.wrapping import Options, adapt, read_model
from models.wrapping.graphs import prepare, read
from tests import exports

GREY = torch.zeros(2, 1, 8, 8)


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return exports.digits()


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return exports.from_torch(exports.Net(exports.body()), GREY)


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    other = onnx.ModelProto()
    other.CopyFrom(model)
    return other


def linear(
    classes: int, *nodes: onnx.NodeProto, answers: str = "y", **more: Any
) -> onnx.ModelProto:
    """Random weights on flat digits, and nodes behind `y`."""
    weights = {"w": np.random.default_rng(0).normal(size=(64, classes)).astype(np.float32), **more}
    first = helper.make_node("MatMul", ["x", "w"], ["y"])
    return exports.by_hand([first, *nodes], weights, (None, 64), answers)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an ONNX file"),
        (b"\x89PNG\r\n\x1a\n and so on", "is not an ONNX file"),
        (b"def f(x):\n    return x\n" * 100, "is not an ONNX file"),
        (None, "cannot read .*: No such file"),
    ],
)
def test_what_is_no_onnx_file_is_refused(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AdaptError, match=message):
        read_model(path)
    with pytest.raises(AdaptError, match="cannot read"):
        read_model(tmp_path)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_truncated_file_is_refused(share: float, model: onnx.ModelProto, tmp_path: Path) -> None:
    data = model.SerializeToString()
    path = tmp_path / "net.onnx"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(AdaptError, match="truncated"):
        read_model(path)


def test_a_damaged_file_is_refused_in_a_sentence_or_works(tmp_path: Path, digits: DataSet) -> None:
    """Some bytes of a small model are changed: no class of error but ours comes out."""
    data, rng = linear(10).SerializeToString(), np.random.default_rng(0)
    path, refused = tmp_path / "net.onnx", 0
    for _ in range(150):
        changed = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            changed[place] = rng.integers(0, 256)
        path.write_bytes(changed)
        try:
            adapt(read_model(path), digits)
        except AdaptError:
            refused += 1
    assert refused > 0


@pytest.fixture
def outside(model: onnx.ModelProto, tmp_path: Path) -> Path:
    """A model that keeps its weights in a file beside it."""
    path = tmp_path / "net.onnx"
    onnx.save_model(
        copied(model), path, save_as_external_data=True, location="net.weights", size_threshold=0
    )
    return path


def test_weights_beside_the_model_are_read(
    outside: Path, model: onnx.ModelProto, digits: DataSet
) -> None:
    made, expected = adapt(read_model(outside), digits), adapt(model, digits)
    assert made.facts.skill == expected.facts.skill
    assert not any(t.data_location for t in made.plain.graph.initializer)


def test_missing_truncated_or_distant_weights_are_named(outside: Path) -> None:
    weights = outside.with_name("net.weights")
    data = weights.read_bytes()
    weights.write_bytes(data[:-100])
    with pytest.raises(AdaptError, match=r"net\.weights is truncated: \d+ bytes"):
        read_model(outside)
    weights.unlink()
    with pytest.raises(AdaptError, match=r"another file, 'net\.weights', which is missing"):
        read_model(outside)
    model = onnx.load(outside, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = "../../secret"
    outside.write_bytes(model.SerializeToString())
    with pytest.raises(AdaptError, match="lie outside its folder"):
        read_model(outside)


def test_a_model_above_two_gigabytes_is_refused(
    outside: Path, model: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole.onnx"
    whole.write_bytes(model.SerializeToString())
    monkeypatch.setattr(read, "LARGEST_BYTES", 30_000)
    with pytest.raises(AdaptError, match="models up to 2 GB"):
        read_model(whole)
    with pytest.raises(AdaptError, match="more than 2 GB with its external data"):
        read_model(outside)


def test_custom_operators_are_named_with_their_domain(
    model: onnx.ModelProto, digits: DataSet
) -> None:
    foreign = copied(model)
    foreign.graph.node[2].domain, foreign.graph.node[2].op_type = "my.company", "FastConv"
    foreign.graph.node[2].name = "third"
    with pytest.raises(AdaptError, match=r"FastConv of domain 'my.company' \(node 'third'\)"):
        adapt(foreign, digits)
    foreign.graph.node[2].domain = ""
    with pytest.raises(AdaptError, match=r"FastConv .* is not one of ONNX"):
        adapt(foreign, digits)


def test_invalid_graphs_are_refused_with_the_words_of_the_checker(
    model: onnx.ModelProto, digits: DataSet
) -> None:
    broken = copied(model)
    broken.graph.node[-1].input[0] = "nowhere"
    with pytest.raises(AdaptError, match=r"no valid ONNX model: .*nowhere"):
        adapt(broken, digits)
    lying = copied(model)
    lying.graph.initializer[0].dims[0] += 1
    with pytest.raises(AdaptError, match=r"no valid ONNX model|cannot load the model"):
        adapt(lying, digits)


def test_an_opset_that_cannot_be_upgraded_is_told_with_its_operators(
    digits: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The converter of today knows all operators: it is made to fail as it would for another."""

    def fails(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
        raise RuntimeError(f"adapter.h:23: adapt: no adapter to {version}")

    old = exports.from_torch(exports.Net(exports.body(), nn.Softmax(1)), GREY, opset=11)
    assert adapt(old, digits).facts.opset == {"ai.onnx": 11}
    monkeypatch.setattr(prepare.version_converter, "convert_version", fails)
    with pytest.raises(AdaptError, match=r"opset 11 .* to 18 \(.*Softmax.*\): .* no adapter to 18"):
        adapt(old, digits)
    newer = onnx.ModelProto()
    newer.CopyFrom(old)
    newer.opset_import[0].version = 99
    with pytest.raises(AdaptError):
        adapt(newer, digits)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (7, r"the data have 10 classes \(0, 1, .*\), the model answers 'y' \[N, 7\]: wrap it with"),
        (1, "one number per row is a regressor"),
    ],
)
def test_another_number_of_classes_is_told(classes: int, message: str, digits: DataSet) -> None:
    with pytest.raises(AdaptError, match=message):
        adapt(linear(classes), digits)


def test_regressors_of_scikit_learn_are_refused() -> None:
    data = load("wine")
    fitted = exports.from_sklearn(LinearRegression(), data.train.x, data.train.y.astype(float))
    with pytest.raises(AdaptError, match=r"3 classes .* one number per row is a regressor"):
        adapt(fitted, data)


def test_a_detector_is_refused(digits: DataSet) -> None:
    nodes = [
        helper.make_node("Reshape", ["y", "boxes"], ["b"]),
        helper.make_node("Identity", ["y"], ["scores"]),
    ]
    detector = linear(40, *nodes, answers="b", boxes=np.array([0, 10, 4]))
    detector.graph.output.append(
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ("n", 40))
    )
    with pytest.raises(
        AdaptError, match=r"'b' \[N, 10, 4\], 'scores' \[N, 40\]: none is one number"
    ):
        adapt(detector, digits)


def test_a_sequence_as_output_is_refused(digits: DataSet) -> None:
    model = linear(10, helper.make_node("SequenceConstruct", ["y"], ["s"]), answers="s")
    with pytest.raises(AdaptError, match=r"no output of numbers.*'s' is a sequence"):
        adapt(model, digits)


@pytest.mark.parametrize(
    ("takes", "message"),
    [
        ((None, 3, 8, 8), r"takes \[\?, 3, 8, 8\], the data are images of \[\?, 1, 8, 8\] or"),
        ((None, 1, 28, 28), "resize or convert the data"),
        ((None, 784), r"takes \[\?, 784\]"),
        ((8, 8, 1), "it has no batch dimension"),
        ((None, None, 1, 8, 8), "sequences and volumes are not supported"),
    ],
)
def test_another_shape_of_input_is_told_with_both(
    takes: tuple[int | None, ...], message: str, digits: DataSet
) -> None:
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    weights = {"w": np.ones((int(np.prod([d or 1 for d in takes[1:]])), 10), np.float32)}
    model = exports.by_hand(nodes, weights, takes, "y")
    with pytest.raises(AdaptError, match=message):
        adapt(model, digits)


def test_layout_and_scale_that_mean_nothing_are_refused(
    model: onnx.ModelProto, digits: DataSet
) -> None:
    with pytest.raises(AdaptError, match="layout nhwc was asked for"):
        adapt(model, digits, options=Options(layout="nhwc"))
    for scale, message in (
        ("huge", "expected auto, raw, unit"),
        ("0.5", "1 numbers; expected a mean and a deviation"),
        ("0.5,0", "deviations must be above 0"),
        ("0.5,nan", "all numbers finite"),
        ("1,2,3,4,5,6", "6 numbers"),
    ):
        with pytest.raises(AdaptError, match=message):
            adapt(model, digits, options=Options(scale=scale))
    table = load("wine")
    fitted = exports.from_sklearn(LogisticRegression(), table.train.x, table.train.y)
    with pytest.raises(AdaptError, match="is for images; the data are a table"):
        adapt(fitted, table, options=Options(layout="nchw"))


def test_columns_that_do_not_fit_are_told() -> None:
    data, wine = exports.people(), load("wine")
    with pytest.raises(AdaptError, match=r"takes 13 columns .* the data have 4 \(age, net income"):
        adapt(exports.from_sklearn(LogisticRegression(), wine.train.x, wine.train.y), data)
    named = exports.pipeline_of_columns(("age", "salary", "city", "size"))
    with pytest.raises(AdaptError, match="no column salary"):
        adapt(named, data)
    numbers = msgspec.structs.replace(
        data.schema,
        columns=(
            *data.schema.columns[:3],
            msgspec.structs.replace(data.schema.columns[3], kind="numeric"),
        ),
    )
    plain = DataSet("p", numbers, data.classes, data.train, data.calibration, data.test)
    with pytest.raises(AdaptError, match=r"takes text, but .* add --categorical size"):
        adapt(exports.pipeline_of_columns(), plain)


def test_accuracy_near_chance_tells_what_was_tried(digits: DataSet) -> None:
    with pytest.raises(AdaptError, match=r"near chance; tried: flat raw .*%; flat unit") as told:
        adapt(linear(10), digits)
    assert "--scale MEAN,STD" in str(told.value)
    assert "--classes" in str(told.value)


def test_classes_that_are_not_the_data_s_are_refused(digits: DataSet) -> None:
    model = exports.from_sklearn(
        LogisticRegression(), exports.flat(digits), np.array([f"n{k}" for k in digits.train.y])
    )
    with pytest.raises(AdaptError, match=r"the model's classes are n0, n1.* say with --classes"):
        adapt(model, digits)
    with pytest.raises(AdaptError, match=r"--classes: expected 0, 1, .* got a, b"):
        adapt(model, digits, options=Options(classes=("a", "b")))
    made = adapt(model, digits, options=Options(classes=digits.classes))
    assert made.facts.classes == "as given"


def test_two_classes_changed_for_each_other_are_noticed(digits: DataSet) -> None:
    swapped = [0, 3, 2, 1, *range(4, 10)]
    body = nn.Sequential(exports.body(), exports.Picked(swapped))
    model = exports.from_torch(exports.Net(body), GREY)
    with pytest.raises(AdaptError, match=r"another order; with --classes 0,3,2,1,4,5,6,7,8,9"):
        adapt(model, digits)


def test_nan_is_told_with_its_row(digits: DataSet) -> None:
    nan = linear(10, helper.make_node("Log", ["y"], ["z"]), answers="z")
    with pytest.raises(AdaptError, match=r"answers none .* rows give NaN or infinity, the first"):
        adapt(nan, digits)


def test_tensors_that_do_not_exist_are_told_with_those_that_do(
    model: onnx.ModelProto, digits: DataSet
) -> None:
    with pytest.raises(AdaptError, match=r"no tensor 'fc1' for features; candidates: .*Relu"):
        adapt(model, digits, options=Options(features="fc1"))
    with pytest.raises(AdaptError, match="no tensor 'head'; its outputs: y"):
        adapt(model, digits, options=Options(output="head"))
    shape = copied(model)
    shape.graph.node.append(helper.make_node("Shape", ["x"], ["size"]))
    with pytest.raises(AdaptError, match="'size' cannot be features"):
        adapt(shape, digits, options=Options(features="size"))


def test_a_batch_that_cannot_be_opened_is_refused(digits: DataSet) -> None:
    """The weights of a layer are tied to a batch of two: rows are mixed."""
    nodes = [
        helper.make_node("MatMul", ["mix", "x"], ["m"]),
        helper.make_node("MatMul", ["m", "w"], ["y"]),
    ]
    weights = {
        "mix": np.eye(2, dtype=np.float32),
        "w": np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32),
    }
    model = exports.by_hand(nodes, weights, (2, 64), "y")
    with pytest.raises(
        AdaptError, match="takes batches of 2 only and cannot be made to take others"
    ):
        adapt(model, digits)


def test_rows_that_change_each_other_s_answers_are_noticed(digits: DataSet) -> None:
    net = exports.Net(nn.Sequential(exports.body(), Centred()))
    with pytest.raises(AdaptError, match="depends on the other rows of its batch"):
        adapt(exports.from_torch(net, GREY), digits)


def test_answers_by_chance_are_noticed(digits: DataSet) -> None:
    net = exports.Net(nn.Sequential(exports.body(), nn.Dropout(0.3)))
    model = exports.from_torch(net, GREY, training=True)
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            del node.attribute[:], node.output[1:]
    with pytest.raises(AdaptError, match="differently each time: export it in evaluation mode"):
        adapt(model, digits)


def test_a_model_of_several_inputs_is_none_for_images(digits: DataSet) -> None:
    model = linear(10, helper.make_node("Add", ["y", "more"], ["z"]), answers="z")
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ("n", 10)))
    answer = helper.make_tensor_value_info("z", TensorProto.FLOAT, ("n", 10))
    model.graph.output[0].CopyFrom(answer)
    with pytest.raises(AdaptError, match=r"takes 2 inputs \('x', 'more'\); an image is one"):
        adapt(model, digits)


def test_weights_alone_are_no_model(digits: DataSet) -> None:
    model = linear(10)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 64), np.float32), "x"))
    with pytest.raises(AdaptError, match="the model has no input"):
        adapt(model, digits)


def test_data_without_held_out_rows_are_refused(model: onnx.ModelProto, digits: DataSet) -> None:
    none = Rows(digits.test.x[:0], digits.test.y[:0])
    data = DataSet("d", digits.schema, digits.classes, digits.train, none, digits.test)
    with pytest.raises(AdaptError, match="no held-out rows"):
        adapt(model, data)


class Centred(nn.Module):
    """Subtracts the mean over the batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - 0.5 * x.mean(0, keepdim=True)
