"""Laws of wrapping: the plain graph takes the data's raw rows and answers as the model did."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from models.base.errors import AdaptError
from models.data import DataSet, Rows, load
from models.versions.facts import LayerFacts, OutputFacts
from models.wrapping import Options, adapt, read_model
from models.wrapping.outputs import softmax
from tests import exports

GREY, BYTES = torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8, dtype=torch.uint8)


TORCH: dict[str, tuple[Callable[[], onnx.ModelProto], dict[str, Any]]] = {
    "logits": (lambda: exports.from_torch(exports.Net(exports.body()), GREY), {"scale": "unit"}),
    "softmax, opset 11": (
        lambda: exports.from_torch(exports.Net(exports.body(), nn.Softmax(1)), GREY, opset=11),
        {"scale": "unit"},
    ),
    "log-softmax": (
        lambda: exports.from_torch(exports.Net(exports.body(), nn.LogSoftmax(1)), GREY),
        {"scale": "unit"},
    ),
    "channels last": (
        lambda: exports.from_torch(exports.Net(exports.body(), last=True), GREY.view(2, 8, 8, 1)),
        {"layout": "nhwc", "scale": "unit"},
    ),
    "0 to 255": (
        lambda: exports.from_torch(exports.Net(exports.body(), divide=255.0), GREY),
        {"scale": "byte"},
    ),
    "batch of one": (
        lambda: exports.from_torch(exports.Net(exports.body()), GREY[:1], dynamic=False),
        {"scale": "unit"},
    ),
    "batch of four": (
        lambda: exports.from_torch(
            exports.Net(exports.body(), nn.Softmax(1)), GREY.repeat(2, 1, 1, 1), dynamic=False
        ),
        {"scale": "unit"},
    ),
    "new exporter, batch of one": (
        lambda: exports.from_torch(
            exports.Net(exports.body(), nn.Softmax(1)), GREY[:1], dynamic=False, dynamo=True,
            opset=18,
        ),
        {"scale": "unit"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TORCH)
def test_exports_of_torch_are_wrapped_with_their_feature_layer(name: str) -> None:
    export, expected = TORCH[name]
    data = exports.digits()
    made = adapt(export(), data)
    exports.check_contract(made, data)
    assert {key: getattr(made.facts, key) for key in expected} == expected
    assert made.facts.features.size == 32, "the layer before the last"
    logits, features = exports.answers(made, data, data.test.x[:20])
    with torch.no_grad():
        inner = exports.body()[:-1](torch.from_numpy(data.schema.to_unit(data.test.x[:20])))
    np.testing.assert_allclose(features, inner.numpy(), atol=1e-3)
    with torch.no_grad():
        wanted = exports.body()[-1](inner).numpy()
    np.testing.assert_allclose(softmax(logits), softmax(wanted), atol=1e-4)


def test_logits_before_a_softmax_are_taken_as_they_are() -> None:
    data = exports.digits()
    made = adapt(exports.from_torch(exports.Net(exports.body(), nn.Softmax(1)), GREY), data)
    (logits,) = exports.answers(made, data, data.test.x[:20], "logits")
    with torch.no_grad():
        wanted = exports.body()(torch.from_numpy(data.schema.to_unit(data.test.x[:20])))
    np.testing.assert_allclose(logits, wanted.numpy(), atol=1e-3)


@pytest.mark.parametrize("scale", ["raw", "byte"])
def test_bytes_go_into_a_byte_model_as_they_are_and_floats_rounded(scale: str) -> None:
    data = exports.byte_digits() if scale == "raw" else exports.digits()
    made = adapt(exports.from_torch(exports.Net(exports.body(), divide=255.0), BYTES), data)
    exports.check_contract(made, data)
    assert made.facts.scale == scale


@pytest.mark.parametrize(("mean", "std", "scale"), [((0.5,) * 3, (0.5,) * 3, "symmetric"),
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "imagenet")])  # fmt: skip
def test_scale_of_colour_images_is_found(
    mean: tuple[float, ...], std: tuple[float, ...], scale: str
) -> None:
    data = exports.colour_digits()
    net = exports.Net(exports.body(3, mean, std))
    made = adapt(exports.from_torch(net, torch.zeros(2, 3, 8, 8)), data)
    exports.check_contract(made, data)
    assert made.facts.scale == scale
    assert {t.scale for t in made.facts.tried} == {
        "raw", "unit", "symmetric", "imagenet", "dataset",
    }  # fmt: skip
    given = ",".join(map(str, (*mean, *std)))
    told = adapt(
        exports.from_torch(net, torch.zeros(2, 3, 8, 8)), data, options=Options(scale=given)
    )
    assert told.facts.skill == made.facts.skill
    assert len(told.facts.tried) == 1


@pytest.mark.parametrize("factor", [1.0, 1 / 16, 255 / 16])
@pytest.mark.parametrize("regularised", [True, False])
def test_scale_of_an_overconfident_model_is_found(factor: float, regularised: bool) -> None:
    data = exports.digits()
    model = exports.from_sklearn(
        LogisticRegression(C=1.0 if regularised else 1e6, max_iter=2000),
        exports.flat(data) * np.float32(factor),
        data.train.y,
    )
    made = adapt(model, data)
    assert made.facts.scale == {1.0: "raw", 1 / 16: "unit", 255 / 16: "byte"}[factor]


SKLEARN: dict[str, tuple[Callable[[], Any], int | None]] = {
    "linear": (lambda: LogisticRegression(max_iter=200), None),
    "forest": (lambda: RandomForestClassifier(40, random_state=0), None),
    "bayes": (lambda: GaussianNB(var_smoothing=1e-2), None),
    "perceptron": (lambda: MLPClassifier((48,), max_iter=60, random_state=0), 48),
}


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("name", SKLEARN)
def test_exports_of_scikit_learn_are_wrapped_flat(name: str, zipmap: bool) -> None:
    make, features = SKLEARN[name]
    data, classifier = exports.digits(), make()
    model = exports.from_sklearn(
        classifier, exports.flat(data), data.train.y, options={"zipmap": zipmap}
    )
    made = adapt(model, data)
    exports.check_contract(made, data)
    assert made.facts.layout == "flat"
    assert made.facts.scale == "raw"
    assert made.facts.classes == "from the model"
    assert (made.facts.features.size if made.facts.features else None) == features
    (logits,) = exports.answers(made, data, data.test.x, "logits")
    expected = classifier.predict_proba(data.test.x.reshape(len(data.test), -1))
    np.testing.assert_allclose(softmax(logits), expected, atol=1e-4)


def test_order_of_classes_is_read_from_the_model_or_given() -> None:
    names = tuple(f"c{k}" for k in (3, 0, 4, 1, 2, 9, 8, 7, 6, 5))
    data = dataclasses.replace(exports.digits(), classes=names)
    labels = np.array(names)[data.train.y]
    forest = RandomForestClassifier(30, random_state=0)
    made = adapt(exports.from_sklearn(forest, exports.flat(data), labels), data)
    exports.check_contract(made, data)
    assert made.facts.classes == "from the model"
    body = nn.Sequential(exports.body(), exports.Picked([3, 0, 4, 1, 2, 9, 8, 7, 6, 5]))
    shuffled = exports.from_torch(exports.Net(body), GREY)
    order = tuple(names[k] for k in (3, 0, 4, 1, 2, 9, 8, 7, 6, 5))
    made = adapt(shuffled, data, options=Options(classes=order))
    exports.check_contract(made, data)
    with pytest.raises(AdaptError, match="near chance") as told:
        adapt(shuffled, data)
    assert f"--classes {','.join(order)} it would be right on 9" in str(told.value)


def test_numbers_as_classes_need_not_stand_in_the_order_of_texts() -> None:
    """Eleven classes sorted as texts: 0, 1, 10, 2, ...; a net's columns go by number."""
    base = exports.digits()
    names = tuple(sorted(map(str, range(11))))
    place = np.array([names.index(str(k)) for k in range(10)])
    parts = [Rows(p.x, place[p.y]) for p in (base.train, base.calibration, base.test)]
    data = DataSet("eleven", base.schema, names, *parts)
    body = nn.Sequential(exports.body(), exports.Padded())
    made = adapt(exports.from_torch(exports.Net(body), GREY), data)
    assert made.facts.classes == "by number"
    assert exports.accuracy(made, data) > 0.9


def test_logits_are_taken_where_the_model_answers_both() -> None:
    data = exports.digits()
    model = exports.from_torch(exports.Net(exports.body(), nn.Softmax(1)), GREY)
    inner = model.graph.node[-1].input[0]
    model.graph.output.append(helper.make_tensor_value_info(inner, TensorProto.FLOAT, ("n", 10)))
    made = adapt(model, data)
    assert made.facts.output == OutputFacts(inner, "logits", inner)
    named = adapt(model, data, options=Options(output=inner))
    assert named.facts.output == made.facts.output


def test_features_are_those_that_are_named() -> None:
    data = exports.digits()
    model = exports.from_torch(exports.Net(exports.body()), GREY)
    flat = next(node.output[0] for node in model.graph.node if node.op_type == "Flatten")
    made = adapt(model, data, options=Options(features=flat))
    exports.check_contract(made, data)
    assert made.facts.features == LayerFacts(flat, 24 * 16)
    conv = next(node.output[0] for node in model.graph.node if node.op_type == "Relu")
    averaged = adapt(model, data, options=Options(features=conv))
    exports.check_contract(averaged, data)
    assert averaged.facts.features == LayerFacts(conv, 12), "places are averaged"
    assert adapt(model, data, options=Options(features="none")).facts.features is None


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64])
def test_other_types_of_numbers_are_cast(kind: int) -> None:
    data = exports.digits()
    fitted = LogisticRegression(max_iter=200).fit(exports.flat(data), data.train.y)
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind))
    weight_kind = np.float32 if dtype.kind == "i" else dtype
    nodes = [
        helper.make_node("MatMul", ["v", "w"], ["z"]),
        helper.make_node("Add", ["z", "b"], ["y"]),
    ]
    nodes.insert(
        0,
        helper.make_node(
            "Cast", ["x"], ["v"], to=helper.np_dtype_to_tensor_dtype(np.dtype(weight_kind))
        ),
    )
    weights = {"w": fitted.coef_.T.astype(weight_kind), "b": fitted.intercept_.astype(weight_kind)}
    model = exports.by_hand(nodes, weights, (None, 64), "y", kind=kind)
    made = adapt(model, data)
    exports.check_contract(made, data)
    half = kind == TensorProto.FLOAT16
    assert made.facts.parity.tolerance == (1e-2 if half else 1e-4)


def test_names_of_the_model_clash_with_none_of_ours() -> None:
    data = exports.digits()
    model = exports.from_torch(exports.Net(exports.body(), nn.Softmax(1)), GREY)
    for old, new in (("x", "cells"), ("y", "logits")):
        for node in model.graph.node:
            for names in (node.input, node.output):
                renamed = [new if name == old else name for name in names]
                del names[:]
                names.extend(renamed)
    model.graph.input[0].name, model.graph.output[0].name = "cells", "logits"
    model.graph.node[-1].input[0] = model.graph.node[-2].output[0] = "features"
    onnx.checker.check_model(model)
    exports.check_contract(adapt(model, data), data)


def test_branches_keep_the_weights_that_they_take_from_outside() -> None:
    data = exports.digits()
    model = exports.from_torch(exports.Net(exports.body()), GREY)
    inner = helper.make_graph(
        [helper.make_node("Add", ["y", "outside"], ["shifted"])],
        "branch",
        [],
        [helper.make_tensor_value_info("shifted", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("If", ["yes"], ["z"], then_branch=inner, else_branch=inner)
    model.graph.node.append(node)
    for name, value in (("yes", np.array(True)), ("outside", np.ones(10, np.float32))):
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    model.graph.output[0].name = "z"
    exports.check_contract(adapt(model, data), data)


def test_local_functions_are_inlined() -> None:
    data = exports.digits()
    model = exports.from_torch(exports.Net(exports.body()), GREY, opset=18)
    body = [helper.make_node("Softmax", ["a"], ["b"], axis=-1)]
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("mine", "Last", ["a"], ["b"], body, opsets))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.graph.node.append(helper.make_node("Last", ["y"], ["z"], domain="mine"))
    model.graph.output[0].name = "z"
    made = adapt(model, data)
    exports.check_contract(made, data)
    assert made.facts.output.kind == "probabilities"


def test_strange_rows_get_finite_answers() -> None:
    data = load("wine")
    pipeline = make_pipeline(StandardScaler(), MLPClassifier((16,), max_iter=300, random_state=0))
    made = adapt(exports.from_sklearn(pipeline, data.train.x, data.train.y), data)
    x = data.test.x[:2].copy()
    x[0], x[1, 0] = 3e38, -3e38
    assert all(np.isfinite(values).all() for values in exports.answers(made, data, x))


def test_keras_model_with_channels_last_is_wrapped() -> None:
    data = exports.digits()
    made = adapt(read_model(exports.KERAS), data)
    exports.check_contract(made, data)
    expected = {"layout": "nhwc", "scale": "raw", "notes": ()}
    assert {key: getattr(made.facts, key) for key in expected} == expected
    assert made.facts.features.size == 24
    x = data.test.x[:50]
    original = ort.InferenceSession(exports.KERAS.read_bytes()).run(
        None, {"image": x.transpose(0, 2, 3, 1)}
    )[0]
    np.testing.assert_allclose(
        softmax(exports.answers(made, data, x, "logits")[0]), original, atol=1e-4
    )


def test_a_reshape_to_one_row_in_a_model_of_any_batch_is_opened() -> None:
    data = exports.digits()
    nodes = [
        helper.make_node("Reshape", ["x", "one"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    fitted = LogisticRegression(max_iter=200).fit(exports.flat(data), data.train.y)
    weights = {"one": np.array([1, -1]), "w": fitted.coef_.T.astype(np.float32)}
    made = adapt(exports.by_hand(nodes, weights, (None, 1, 8, 8), "y"), data)
    exports.check_contract(made, data)
    assert "it took batches of 1 and was made to take any" in made.facts.notes


def test_the_model_that_is_given_is_not_changed() -> None:
    model = exports.from_torch(exports.Net(exports.body()), GREY[:1], dynamic=False)
    before = model.SerializeToString()
    adapt(model, exports.digits())
    assert model.SerializeToString() == before
