"""Versions of tables and of colour images for the tests of the service, small and without torch.

A table's graph is put together by hand: logistic regression over imputed, scaled numbers and
one-hot categories.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.linear_model import LogisticRegression

from models.data import DataSet, Rows, split
from models.statistics.arrays import FloatArray
from models.versions import bundle as files
from models.versions.facts import DataFacts, TrainingFacts
from models.versions.registry import Registry
from models.versions.schema import Column, InputSchema, Manifest
from monitoring.scoring.instrument import Instrumented, Material, instrument
from service.app import Application, create_app
from service.configuration.settings import load
from tests import bundles

CELLAR = ("north", "south", "east")
COPIES = 4  # of each row that heads are fitted on
VINTAGES = ("1978", "1979", "1980")


@cache
def wine() -> DataSet:
    """Five columns of the wine set and two made-up categories; `flavanoids` may be missing."""
    source = load_wine()
    names = ("alcohol", "flavanoids", "color_intensity", "hue", "proline")
    numbers = source.data[:, [source.feature_names.index(name) for name in names]]
    rng = np.random.default_rng(0)
    place = np.minimum(source.target + rng.integers(0, 2, len(numbers)), 2)
    year = rng.integers(0, len(VINTAGES), len(numbers))
    x = np.column_stack([numbers[:, :2], place, numbers[:, 2:], year]).astype(np.float32)
    x[rng.random(len(x)) < 0.1, 1] = np.nan
    columns = [
        Column(name, low=float(low), high=float(high), missing=name == "flavanoids")
        for name, low, high in zip(names, numbers.min(0), numbers.max(0), strict=True)
    ]
    columns.insert(2, Column("cellar", "categorical", categories=CELLAR))
    columns.append(Column("vintage", "categorical", categories=VINTAGES, missing=True))
    return _table("wine", columns, x, source.target, ("barolo", "grignolino", "barbera"))


@cache
def cancer() -> DataSet:
    """The breast cancer set: 30 numeric columns, none missing."""
    source = load_breast_cancer()
    x = source.data.astype(np.float32)
    columns = [
        Column(str(name), low=float(low), high=float(high))
        for name, low, high in zip(source.feature_names, x.min(0), x.max(0), strict=True)
    ]
    return _table("cancer", columns, x, source.target, ("malignant", "benign"))


@cache
def colours() -> DataSet:
    """The digits as bytes in three channels: red, its negative, and half of it."""
    small = bundles.digits()

    def coloured(rows: Rows) -> Rows:
        red = np.rint(rows.x * (255 / 16)).astype(np.uint8)
        return Rows(np.concatenate([red, 255 - red, red // 2], axis=1), rows.y)

    schema = InputSchema(
        name="input", shape=(3, 8, 8), dtype="uint8", low=0.0, high=255.0, kind="image"
    )
    parts = (coloured(small.train), coloured(small.calibration), coloured(small.test))
    return DataSet("colours", schema, small.classes, *parts)


def publish_table(root: Path, data: DataSet) -> int:
    """Publish a champion for `wine()` or `cancer()`; its number."""
    return _publish(root, data, data.name, _instrumented(data))


def publish_colours(root: Path) -> int:
    """Publish a champion for `colours()`, instrumented; its number."""
    data = colours()
    made = bundles.instrumented(data, _of_bytes(bundles.linear(data)))
    return _publish(root, data, "colours", made)


def publish_digits(root: Path, **data_facts: str) -> int:
    """Publish a champion for the digits that says what it was trained on; its number."""
    data = bundles.digits()
    facts = {"name": "digits", "fingerprint": data.fingerprint, "source": {"path": "digits"}}
    training = TrainingFacts(data=DataFacts(**facts | data_facts), seed=0, rows=0)
    return _publish(root, data, "digits", bundles.prepared("small"), training)


@contextmanager
def served(state: Path, **settings: Any) -> Iterator[Application]:
    """An application on a state directory."""
    env = {f"HOLDFAST_{name.upper()}": str(value) for name, value in settings.items()}
    app = create_app(load({"HOLDFAST_STATE": str(state), **env}))
    try:
        yield app
    finally:
        app.service.close()


def as_objects(data: DataSet, x: FloatArray) -> list[dict[str, Any]]:
    """Raw rows `(N, D)` as a client has them: texts for categories, None for missing values."""
    return [dict(zip(names_of(data), row, strict=True)) for row in as_lists(data, x)]


def as_lists(data: DataSet, x: FloatArray) -> list[list[Any]]:
    """The same in the order of the columns."""
    return [
        [
            None
            if np.isnan(value)
            else value
            if column.kind == "numeric"
            else column.categories[int(value)]
            for column, value in zip(data.schema.columns, row, strict=True)
        ]
        for row in x.tolist()
    ]


def names_of(data: DataSet) -> list[str]:
    """Names of the columns."""
    return [column.name for column in data.schema.columns]


def _table(
    name: str, columns: list[Column], x: FloatArray, y: Any, classes: tuple[str, ...]
) -> DataSet:
    schema = InputSchema(
        "row", (len(columns),), "float32", 0.0, 1.0, "tabular", columns=tuple(columns)
    )
    return DataSet(name, schema, classes, *split(Rows(x, y.astype(np.int64))))


def _encoded(schema: InputSchema, x: FloatArray) -> FloatArray:
    """Scaled numbers (0 for missing), then one column for each category."""
    parts = []
    for index, column in enumerate(schema.columns):
        value = x[:, index]
        if column.kind == "categorical":
            parts += [(value == place).astype(float) for place in range(len(column.categories))]
        else:
            parts.append(np.nan_to_num((value - column.low) / (column.high - column.low)))
    return np.column_stack(parts)


def _graph(data: DataSet) -> onnx.ModelProto:
    """The same encoding in ONNX: z = where(isnan, 0, (x S + o)); equality for the categories."""
    schema, nodes, weights = data.schema, [], {}

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def const(name: str, value: Any, dtype: Any = np.float32) -> str:
        weights[name] = np.asarray(value, dtype=dtype)
        return name

    parts = []
    add("Split", [schema.name], "", num_outputs=len(schema.columns), axis=1)
    split_outputs = [f"x{index}" for index in range(len(schema.columns))]
    del nodes[-1].output[:]
    nodes[-1].output.extend(split_outputs)
    const("zero", 0.0)
    for index, column in enumerate(schema.columns):
        value = split_outputs[index]
        if column.kind == "categorical":
            places = const(f"places{index}", [range(len(column.categories))])
            equal = add("Equal", [value, places], f"equal{index}")
            parts.append(add("Cast", [equal], f"hot{index}", to=TensorProto.FLOAT))
        else:
            moved = add("Sub", [value, const(f"low{index}", column.low)], f"moved{index}")
            span = const(f"span{index}", column.high - column.low)
            scaled = add("Div", [moved, span], f"scaled{index}")
            missing = add("IsNaN", [scaled], f"missing{index}")
            parts.append(add("Where", [missing, "zero", scaled], f"number{index}"))
    encoded = add("Concat", parts, "features", axis=1)
    fitted = LogisticRegression(C=10.0, max_iter=2000).fit(
        _encoded(schema, data.train.x), data.train.y
    )
    w, b = fitted.coef_.T, fitted.intercept_
    if len(data.classes) == 2:
        w, b = np.column_stack([-w, w]) / 2, np.concatenate([-b, b]) / 2
    add("Gemm", [encoded, const("w", w), const("b", b)], "logits")
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
        for name, width in (("logits", len(data.classes)), ("features", len(w)))
    ]
    row = helper.make_tensor_value_info(schema.name, TensorProto.FLOAT, ["n", schema.size])
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "table", [row], outputs, initializers)
    opset = helper.make_opsetid("", bundles.OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=9)


def _instrumented(data: DataSet) -> Instrumented:
    """Heads fitted with noise for corruptions and sign noise for attacks, on the numbers."""
    rng, schema = np.random.default_rng(1), data.schema
    span = schema.span * [column.kind == "numeric" for column in schema.columns]

    def noisy(x: FloatArray) -> FloatArray:
        x = np.tile(x, (COPIES, 1))
        return (x + 0.1 * span * rng.normal(size=x.shape)).astype(np.float32)

    def signs(x: FloatArray) -> FloatArray:
        x = np.tile(x, (COPIES, 1))
        return (x + 0.15 * span * rng.choice([-1, 1], x.shape)).astype(np.float32)

    fit, held = data.train.x, data.calibration.x
    material = Material(
        references=fit,
        fit_clean=fit,
        fit_corrupted=noisy(fit),
        fit_adversarial=signs(fit),
        held_clean=held,
        held_corrupted=noisy(held),
        held_adversarial=signs(held),
        reference=held,
    )
    return instrument(_graph(data), schema, data.classes, material, source="held-out rows")


def _of_bytes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with an input of bytes, cast inside."""
    entry = model.graph.input[0]
    entry.type.tensor_type.elem_type = TensorProto.UINT8
    for node in model.graph.node:
        node.input[:] = ["as_float" if name == entry.name else name for name in node.input]
    cast = helper.make_node("Cast", [entry.name], ["as_float"], to=TensorProto.FLOAT)
    model.graph.node.insert(0, cast)
    return model


def _publish(
    root: Path,
    data: DataSet,
    model: str,
    made: Instrumented,
    training: TrainingFacts | None = None,
) -> int:
    def make(version: int) -> tuple[dict[str, bytes], Manifest]:
        manifest = made.manifest(model, data.schema, data.classes, version)
        manifest = msgspec.structs.replace(manifest, training=training)
        contents = {
            files.MODEL: made.model.SerializeToString(),
            files.REFERENCE: bundles.npz(made.reference),
        }
        return contents, manifest

    registry = Registry(root)
    version = registry.publish(model, make, actor="test", reason="test")
    registry.promote(model, version, expected=None, actor="test", reason="test")
    return version
