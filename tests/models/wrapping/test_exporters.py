"""A battery of models by real exporters: each is wrapped and as right as the model itself."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    StackingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor, nn

from models.base.errors import AdaptError
from models.data import DataSet, Rows, load
from models.wrapping import adapt
from tests import exports

GREY = torch.zeros(2, 1, 8, 8)

SKLEARN: dict[str, Callable[[], Any]] = {
    "gradient boosting": lambda: GradientBoostingClassifier(n_estimators=10),
    "extra trees": lambda: ExtraTreesClassifier(20, random_state=0),
    "boosted stumps": lambda: AdaBoostClassifier(n_estimators=15, random_state=0),
    "bagging": lambda: BaggingClassifier(n_estimators=8, random_state=0),
    "tree": lambda: DecisionTreeClassifier(max_depth=5, random_state=0),
    "vectors with probabilities": lambda: make_pipeline(
        StandardScaler(), CalibratedClassifierCV(SVC(), ensemble=False)
    ),
    "vectors without": lambda: make_pipeline(StandardScaler(), SVC()),
    "neighbours": lambda: make_pipeline(StandardScaler(), KNeighborsClassifier()),
    "bayes": GaussianNB,
    "counts": lambda: make_pipeline(MinMaxScaler(), MultinomialNB()),
    "quadratic": lambda: QuadraticDiscriminantAnalysis(reg_param=0.1),
    "ridge": lambda: make_pipeline(StandardScaler(), RidgeClassifier()),
    "gradient descent": lambda: make_pipeline(
        StandardScaler(), SGDClassifier(loss="log_loss", random_state=0)
    ),
    "one against the rest": lambda: OneVsRestClassifier(
        make_pipeline(StandardScaler(), LogisticRegression())
    ),
    "products": lambda: make_pipeline(
        SimpleImputer(), StandardScaler(), PolynomialFeatures(2), LogisticRegression(max_iter=300)
    ),
    "stacking": lambda: StackingClassifier(
        [("bayes", GaussianNB()), ("tree", DecisionTreeClassifier(max_depth=3))]
    ),
}


@pytest.mark.parametrize("name", ["wine", "breast_cancer"])
@pytest.mark.parametrize("kind", SKLEARN)
def test_tables_of_scikit_learn_keep_their_accuracy(kind: str, name: str) -> None:
    data, fitted = load(name), SKLEARN[kind]()
    model = exports.from_sklearn(fitted, data.train.x, data.train.y)
    made = adapt(model, data)
    right = float((fitted.predict(data.test.x) == data.test.y).mean())
    exports.check_contract(made, data, least=right - 0.04)
    assert exports.accuracy(made, data) == pytest.approx(right, abs=0.04)  # a row on an edge


@pytest.mark.parametrize("options", [{}, {"zipmap": False}])
def test_numbers_of_64_bits_are_wrapped_with_and_without_names(options: dict[str, bool]) -> None:
    """With names, onnxruntime cannot load what skl2onnx writes: its map takes float32."""
    data = load("wine")
    fitted = make_pipeline(StandardScaler(), LogisticRegression())
    x = data.train.x.astype(np.float64)
    made = adapt(exports.from_sklearn(fitted, x, data.train.y, options=options), data)
    exports.check_contract(made, data)


def test_whole_numbers_are_wrapped() -> None:
    data = exports.digits()
    fitted = ExtraTreesClassifier(30, random_state=0)
    x = exports.flat(data).astype(np.int64)
    made = adapt(exports.from_sklearn(fitted, x, data.train.y), data)
    exports.check_contract(made, data)


class Bytes(nn.Module):
    """Bytes with the channels last in, probabilities out."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x.float().permute(0, 3, 1, 2) / 255)
        return logits.softmax(1)


class Several(nn.Module):
    """Label, probabilities and features, as servers like them."""

    def __init__(self, body: nn.Sequential) -> None:
        super().__init__()
        self.body, self.last = body[:-1], body[-1]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.body(x)
        logits = self.last(features)
        return logits.argmax(1), logits.softmax(1), features


class Placed(nn.Module):
    """Adds what says where a row stands: attention does not see that."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(rows, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.place


class Rows8(nn.Module):
    """An image read row by row by a recurrent net, or all at once by attention."""

    def __init__(self, reader: nn.Module, width: int) -> None:
        super().__init__()
        self.reader, self.last = reader, nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        read = self.reader(x.squeeze(1))
        read = read[0][:, -1] if isinstance(read, tuple) else read.mean(1)
        logits: Tensor = self.last(read)
        return logits


def fit(net: nn.Module, data: DataSet, epochs: int = 20) -> nn.Module:
    """Train on images in the unit range."""
    x = torch.from_numpy(data.schema.to_unit(data.train.x))
    y, optimiser = torch.from_numpy(data.train.y), torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[index]), y[index]).backward()
            optimiser.step()
    return net.eval()


def recurrent() -> onnx.ModelProto:
    torch.manual_seed(0)
    net = fit(Rows8(nn.LSTM(8, 32, batch_first=True), 32), exports.digits())
    return exports.from_torch(net, GREY)


def attention() -> onnx.ModelProto:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
    reader = nn.Sequential(nn.Linear(8, 32), Placed(8, 32), layer)
    net = fit(Rows8(reader, 32), exports.digits())
    return exports.from_torch(net, GREY)


def several() -> onnx.ModelProto:
    stream = io.BytesIO()
    names = ["label", "probabilities", "features"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Several(exports.body()).eval(), (GREY,), stream, input_names=["x"], output_names=names,
            dynamic_axes={name: {0: "n"} for name in ("x", *names)}, opset_version=17, dynamo=False,
        )  # fmt: skip
    return onnx.load_from_string(stream.getvalue())


def halves() -> onnx.ModelProto:
    """Weights, input and output as half floats."""
    model = exports.from_torch(exports.Net(exports.body(), nn.Softmax(1)), GREY)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            narrow = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(narrow, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.t.data_type == onnx.TensorProto.FLOAT:
                narrow = onnx.numpy_helper.to_array(attribute.t).astype(np.float16)
                attribute.t.CopyFrom(onnx.numpy_helper.from_array(narrow))
            if node.op_type == "Cast" and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = onnx.TensorProto.FLOAT16
    del model.graph.value_info[:]
    return model


TORCH: dict[str, tuple[Callable[[], onnx.ModelProto], Callable[[], DataSet]]] = {
    "bytes, channels last, softmax": (
        lambda: exports.from_torch(
            Bytes(exports.body(3)), torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
        ),
        exports.colour_digits,
    ),
    "recurrent": (recurrent, exports.digits),
    "attention": (attention, exports.digits),
    "label, probabilities and features": (several, exports.digits),
    "half floats": (halves, exports.digits),
    "opset 9": (
        lambda: exports.from_torch(exports.Net(exports.body(), nn.Softmax(1)), GREY, opset=9),
        exports.digits,
    ),
}


@pytest.mark.parametrize("name", TORCH)
def test_nets_of_torch_are_wrapped(name: str) -> None:
    export, data = TORCH[name]
    exports.check_contract(adapt(export(), data()), data())


def parity(data: DataSet) -> DataSet:
    """Digits as even and odd."""
    parts = [Rows(p.x, p.y % 2) for p in (data.train, data.calibration, data.test)]
    return DataSet("parity", data.schema, ("even", "odd"), *parts)


@pytest.mark.parametrize("end", [nn.Identity(), nn.Sigmoid(), nn.Flatten(0)])
def test_nets_with_one_number_for_two_classes_are_wrapped(end: nn.Module) -> None:
    data = parity(exports.digits())
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 2))
    fit(net, data)
    difference = nn.Linear(2, 1, bias=False)
    difference.weight.data = torch.tensor([[-1.0, 1.0]])
    body = nn.Sequential(net, difference)
    exports.check_contract(adapt(exports.from_torch(exports.Net(body, end), GREY), data), data)


@pytest.mark.parametrize("static", [True, False])
def test_quantised_nets_are_wrapped_or_refused_in_a_sentence(static: bool, tmp_path: Path) -> None:
    """One scale for a whole batch makes the answer to a row depend on the other rows."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    data, plain, small = exports.digits(), tmp_path / "plain.onnx", tmp_path / "small.onnx"
    onnx.save(exports.from_torch(exports.Net(exports.body()), GREY), plain)
    if not static:
        quantization.quantize_dynamic(plain, small)
        with pytest.raises(AdaptError, match="depends on the other rows of its batch"):
            adapt(onnx.load(small), data)
        return
    batches = iter([{"x": data.schema.to_unit(data.train.x[:200])}])

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc,name-defined]
        def get_next(self) -> dict[str, Any] | None:
            return next(batches, None)

    quantization.quantize_static(plain, small, Reader())
    exports.check_contract(adapt(onnx.load(small), data), data)


def test_a_model_that_answers_only_the_label_is_refused_with_what_to_do() -> None:
    model = several()
    del model.graph.output[1:]
    with pytest.raises(AdaptError, match=r"'label' is a tensor of int64\): export it with"):
        adapt(model, exports.digits())
