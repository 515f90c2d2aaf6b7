"""Classifiers as others export them: scikit-learn by skl2onnx, PyTorch by both exporters."""

import io
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import Tensor, nn

from models.data import DataSet, Rows, load_digits
from models.versions.runner import session
from models.versions.schema import Column, InputArray, InputSchema
from models.wrapping import Adapted

# Keras 3.15.1, tf2onnx 1.17.0; how it was made stands beside it.
KERAS = Path(__file__).parent / "models" / "fixtures" / "keras_digits.onnx"
CITIES = ("Bonn", "Köln", "Ulm")
SIZES = ("10", "20", "30")


@cache
def digits() -> DataSet:
    """8x8 grey images, float32, 0 to 16."""
    return load_digits()


@cache
def byte_digits() -> DataSet:
    """The same as bytes, 0 to 255."""
    schema = InputSchema("image", (1, 8, 8), "uint8", 0.0, 255.0, "image")
    return _mapped(digits(), schema, lambda x: np.rint(x * (255 / 16)).astype(np.uint8))


@cache
def colour_digits() -> DataSet:
    """Bytes in three channels that differ: as they are, dimmed, mirrored."""
    schema = InputSchema("image", (3, 8, 8), "uint8", 0.0, 255.0, "image")

    def coloured(x: InputArray) -> InputArray:
        x = np.rint(x * (255 / 16))
        return np.concatenate([x, x // 2, x[..., ::-1]], axis=1).astype(np.uint8)

    return _mapped(digits(), schema, coloured)


@cache
def people(seed: int = 0) -> DataSet:
    """A made-up table: two numbers, a city, a size that is a number; the class follows from all."""
    rng = np.random.default_rng(seed)
    n = 900
    x = np.stack(
        [rng.normal(40, 10, n), rng.normal(3, 1, n), rng.integers(0, 3, n), rng.integers(0, 3, n)],
        axis=1,
    ).astype(np.float32)
    y = ((x[:, 0] - 40) / 10 + 2.0 * (x[:, 2] == 1) - (x[:, 3] == 2) > 0.3).astype(np.int64)
    columns = (
        Column("age", low=10, high=70),
        Column("net income", low=0, high=6),
        Column("city", "categorical", categories=CITIES),
        Column("size", "categorical", categories=SIZES),
    )
    schema = InputSchema("row", (4,), "float32", 0.0, 1.0, "tabular", columns)
    parts = [Rows(x[at : at + 300], y[at : at + 300]) for at in (0, 300, 600)]
    return DataSet("people", schema, ("no", "yes"), *parts)


def flat(data: DataSet) -> InputArray:
    """Training rows as scikit-learn takes them."""
    x: InputArray = data.train.x.reshape(len(data.train), -1).astype(np.float32)
    return x


def from_sklearn(classifier: Any, x: InputArray, y: Any, **options: Any) -> onnx.ModelProto:
    """Fit on `x` `(N, D)` and export; `options` go to the converter."""
    from skl2onnx import to_onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classifier.fit(x, y)
        model: onnx.ModelProto = to_onnx(classifier, x[:1], **options)
    return model


@cache
def pipeline_of_columns(
    names: tuple[str, ...] = ("age", "net_income", "city", "size"),
) -> onnx.ModelProto:
    """A ColumnTransformer over `people`, numbers scaled and texts one-hot, then a linear model.

    One input per column with these names, or (with two names) one of numbers and one of texts.
    """
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    data = people()
    texts = np.array(CITIES, dtype=object)[data.train.x[:, 2].astype(int)]
    sizes = np.array(SIZES, dtype=object)[data.train.x[:, 3].astype(int)]
    table = np.array([*data.train.x[:, :2].T, texts, sizes], dtype=object).T
    encode = ColumnTransformer(
        [
            ("numbers", StandardScaler(), [0, 1]),
            ("texts", OneHotEncoder(handle_unknown="ignore"), [2, 3]),
        ]
    )
    fitted = make_pipeline(encode, LogisticRegression()).fit(table, data.train.y)
    width = 4 // len(names)
    kinds: list[tuple[str, Any]] = [
        (name, (FloatTensorType if at < len(names) // 2 else StringTensorType)([None, width]))
        for at, name in enumerate(names)
    ]
    model: onnx.ModelProto = to_onnx(fitted, initial_types=kinds)
    return model


class Net(nn.Module):
    """A small net for 8x8 images in the unit range, and what others put around it.

    Args:
        body: images in the unit range to logits.
        end: what is done with the logits.
        last: whether it takes images with the channels last.
        divide: what it divides its input by.
    """

    def __init__(
        self,
        body: nn.Module,
        end: nn.Module | None = None,
        *,
        last: bool = False,
        divide: float = 1.0,
    ) -> None:
        super().__init__()
        self.body, self.end = body, end or nn.Identity()
        self.last, self.divide = last, divide

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 3, 1, 2) if self.last else x
        answer: Tensor = self.end(self.body(x.float() / self.divide))
        return answer


class Picked(nn.Module):
    """Puts the columns into another order."""

    def __init__(self, order: list[int]) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.order]


class Padded(nn.Module):
    """An eleventh class that is never likely."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x.min(1, keepdim=True).values - 5], dim=1)


@cache
def body(
    channels: int = 1, mean: tuple[float, ...] = (0.0,), std: tuple[float, ...] = (1.0,)
) -> nn.Module:
    """Trained on digits in the unit range, then standardised, for a second or two."""
    data = digits() if channels == 1 else colour_digits()
    torch.manual_seed(0)
    centre, width = (torch.tensor(v).view(-1, 1, 1) for v in (mean, std))
    x = (torch.from_numpy(data.schema.to_unit(data.train.x)) - centre) / width
    y = torch.from_numpy(data.train.y)
    net = nn.Sequential(
        nn.Conv2d(channels, 12, 3, padding=1), nn.ReLU(),
        nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.BatchNorm2d(24), nn.ReLU(),
        nn.Flatten(), nn.Linear(24 * 16, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(12):
        for index in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[index]), y[index]).backward()
            optimiser.step()
    return net.eval()


def from_torch(
    net: nn.Module,
    example: Tensor,
    *,
    dynamic: bool = True,
    opset: int = 17,
    dynamo: bool = False,
    training: bool = False,
) -> onnx.ModelProto:
    """Export by the legacy exporter, or by the new one."""
    stream = io.BytesIO()
    legacy: dict[str, Any] = {"dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}} if dynamic else None}
    if training:
        legacy["training"] = torch.onnx.TrainingMode.TRAINING
    new = {"dynamic_shapes": ({0: torch.export.Dim("n", min=1)},) if dynamic else None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.onnx.export(
            net.train(training), (example,), None if dynamo else stream, input_names=["x"],
            output_names=["y"], opset_version=opset, dynamo=dynamo, verbose=False,
            **(new if dynamo else legacy),
        )  # fmt: skip
    net.eval()
    if dynamo:
        assert made is not None
        return made.model_proto
    return onnx.load_from_string(stream.getvalue())


def by_hand(
    nodes: list[onnx.NodeProto],
    weights: dict[str, InputArray],
    takes: Sequence[int | str | None],
    answers: str,
    *,
    kind: int = TensorProto.FLOAT,
    opset: int = 17,
) -> onnx.ModelProto:
    """A graph from `x` to the tensor `answers`, whose shape is left open."""
    typed = onnx.shape_inference.infer_shapes
    graph = helper.make_graph(
        nodes,
        "by_hand",
        [helper.make_tensor_value_info("x", kind, takes)],
        [helper.make_empty_tensor_value_info(answers)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    inferred: onnx.ModelProto = typed(model)
    return inferred


def answers(made: Adapted, data: DataSet, x: InputArray, *names: str) -> list[Any]:
    """What the plain graph says to raw rows."""
    runner = session(made.plain.SerializeToString())
    return list(runner.run(list(names) or None, {data.schema.name: x}))


def accuracy(made: Adapted, data: DataSet) -> float:
    (logits,) = answers(made, data, data.test.x, "logits")
    return float((logits.argmax(axis=1) == data.test.y).mean())


def check_contract(made: Adapted, data: DataSet, least: float = 0.85) -> None:
    """Input and outputs of a plain graph, for one row and for many, and its accuracy."""
    graph = made.plain.graph
    (given,) = graph.input
    assert given.name == data.schema.name
    assert [d.dim_value for d in given.type.tensor_type.shape.dim][1:] == list(data.schema.shape)
    features = made.facts.features
    wide = [] if features is None else [features.size]
    assert [o.name for o in graph.output] == ["logits", "features"][: 1 + len(wide)]
    opsets = {o.domain: o.version for o in made.plain.opset_import}
    assert opsets[""] >= 18
    assert made.plain.ir_version >= 8
    for rows in (1, 5):
        logits, *rest = answers(made, data, data.test.x[:rows])
        assert logits.shape == (rows, len(data.classes))
        assert logits.dtype == np.float32
        assert [r.shape for r in rest] == [(rows, size) for size in wide]
    assert made.facts.parity is not None
    assert made.facts.parity.largest_difference <= made.facts.parity.tolerance
    assert accuracy(made, data) > least


def _mapped(
    data: DataSet, schema: InputSchema, change: Callable[[InputArray], InputArray]
) -> DataSet:
    parts = [Rows(change(p.x), p.y) for p in (data.train, data.calibration, data.test)]
    return DataSet(data.name, schema, data.classes, *parts)
