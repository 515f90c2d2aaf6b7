"""Small real bundles without torch: a fitted classifier in ONNX, instrumented and published."""

from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression

from models.data import DataSet, Rows, load_digits, split
from models.statistics.arrays import FloatArray
from models.versions import bundle as files
from models.versions.figures import Evaluation
from models.versions.promises import CertificateFacts
from models.versions.registry import Registry
from models.versions.schema import Column, InputSchema, Manifest
from monitoring.scoring.certificates.outputs import Certifying
from monitoring.scoring.instrument import Instrumented, Material, instrument

OPSET = 18


def few_rows(data: DataSet) -> DataSet:
    """The first rows of each part: quicker to train on, to fit and to evaluate."""
    parts = ((data.train, 300), (data.calibration, 150), (data.test, 40))
    return DataSet(
        data.name, data.schema, data.classes, *(rows.take(np.arange(n)) for rows, n in parts)
    )


@cache
def digits() -> DataSet:
    """The bundled digits."""
    return load_digits()


@cache
def large_digits() -> DataSet:
    """The digits blown up to 28x28, raw values 0 to 1."""
    small = digits()

    def blown(rows: Rows) -> Rows:
        padded = np.pad(rows.x, ((0, 0), (0, 0), (3, 3), (3, 3)))
        x = np.repeat(np.repeat(padded, 2, axis=2), 2, axis=3) / np.float32(16)
        return Rows(np.ascontiguousarray(x.astype(np.float32)), rows.y)

    schema = InputSchema(
        name="input", shape=(1, 28, 28), dtype="float32", low=0.0, high=1.0, kind="image"
    )
    parts = (blown(small.train), blown(small.calibration), blown(small.test))
    return DataSet("large_digits", schema, small.classes, *parts)


@cache
def table() -> DataSet:
    """A table of 1500 rows: ten numbers that hang together (two may be missing), two categories."""
    rng, rows = np.random.default_rng(3), 1500
    y = rng.integers(0, 3, rows)
    hidden = rng.normal(size=(rows, 4)) + 1.5 * np.eye(3, 4)[y]
    numbers = hidden @ rng.normal(size=(4, 10)) + 0.2 * rng.normal(size=(rows, 10))
    numbers = numbers * 10.0 ** np.arange(-4, 6) + np.arange(10)
    numbers[:, 8:][rng.random((rows, 2)) < 0.1] = np.nan
    colour = np.where(rng.random(rows) < 0.6, y, rng.integers(0, 3, rows))
    size = np.where(rng.random(rows) < 0.05, np.nan, rng.integers(0, 2, rows))
    x = np.column_stack([numbers, colour, size]).astype(np.float32)
    train, calibration, test = split(Rows(x, y.astype(np.int64)))
    low, high = np.nanmin(train.x, axis=0), np.nanmax(train.x, axis=0)
    columns = [Column(f"n{k}", low=float(low[k]), high=float(high[k])) for k in range(10)]
    columns[8:] = [Column(c.name, low=c.low, high=c.high, missing=True) for c in columns[8:]]
    columns.append(Column("colour", "categorical", categories=("red", "green", "blue")))
    columns.append(Column("size", "categorical", categories=("S", "L"), missing=True))
    schema = InputSchema("row", (12,), "float32", 0.0, 1.0, "tabular", tuple(columns))
    return DataSet("table", schema, ("a", "b", "c"), train, calibration, test)


def asked_only(data: DataSet, *, steps: int = 10) -> onnx.ModelProto:
    """What a wrapped forest looks like: rounded, clipped probabilities as logarithms, no features.

    Most rows share their probabilities with many others.
    """
    schema, missing = data.schema, np.isnan(data.train.x)
    flat = schema.to_unit(np.where(missing, 0, data.train.x)).reshape(len(data.train), -1)
    fitted = LogisticRegression(C=10.0, max_iter=500).fit(flat, data.train.y)
    w, b = fitted.coef_.T, fitted.intercept_
    if len(data.classes) == 2:
        w, b = np.hstack([-w, w]) / 2, np.array([-b[0], b[0]]) / 2
    weights = {
        "offset": schema.offset, "span": schema.span, "zero": np.float32(0),
        "steps": np.float32(steps), "least": np.float32(1e-6), "most": np.float32(1),
        "flat": np.array([-1, schema.size]),
        "w": w.astype(np.float32), "b": b.astype(np.float32),
    }  # fmt: skip
    chain = [
        ("IsNaN", [schema.name], "missing"),
        ("Where", ["missing", "zero", schema.name], "filled"),
        ("Sub", ["filled", "offset"], "moved"),
        ("Div", ["moved", "span"], "unit"),
        ("Reshape", ["unit", "flat"], "flattened"),
        ("Gemm", ["flattened", "w", "b"], "margins"),
        ("Softmax", ["margins"], "probabilities"),  # a name that the instrumented graph needs
        ("Mul", ["probabilities", "steps"], "votes"),
        ("Round", ["votes"], "counted"),
        ("Div", ["counted", "steps"], "shares"),
        ("Clip", ["shares", "least", "most"], "clipped"),
        ("Log", ["clipped"], "logits"),
    ]
    nodes = [helper.make_node(kind, inputs, [output]) for kind, inputs, output in chain]
    return _model(nodes, weights, data, features=None)


def linear(data: DataSet, *, rows: int = 600, bend: float = 1.0) -> onnx.ModelProto:
    """Raw inputs to `logits` and `features`: random rectified features, then a fitted layer.

    `bend` scales the logits, so that two models differ in their probabilities.
    """
    schema, train = data.schema, data.train.take(np.arange(min(rows, len(data.train))))
    projection = np.random.default_rng(0).normal(size=(schema.size, 64)).astype(np.float32)
    projection /= np.sqrt(schema.size) * schema.high
    features = np.maximum(train.x.reshape(len(train), -1) @ projection, 0)
    fitted = LogisticRegression(C=100.0, max_iter=300).fit(features, train.y)
    weights = {
        "flat": np.array([0, schema.size], dtype=np.int64),
        "projection": projection,
        "w": (fitted.coef_.T * bend).astype(np.float32),
        "b": (fitted.intercept_ * bend).astype(np.float32),
    }
    nodes = [
        helper.make_node("Reshape", [schema.name, "flat"], ["flattened"]),
        helper.make_node("MatMul", ["flattened", "projection"], ["projected"]),
        helper.make_node("Relu", ["projected"], ["features"]),
        helper.make_node("Gemm", ["features", "w", "b"], ["logits"]),
    ]
    return _model(nodes, weights, data, features=64)


def convolutional(data: DataSet) -> onnx.ModelProto:
    """Four convolutions with random weights, of MNIST size: for timing only."""
    rng, weights, nodes, last = np.random.default_rng(0), {}, [], data.schema.name
    sizes = ((data.schema.shape[0], 16, 1), (16, 16, 2), (16, 32, 1), (32, 32, 2))
    for index, (before, after, stride) in enumerate(sizes):
        kernel = rng.normal(size=(after, before, 3, 3)) / np.sqrt(9 * before)
        weights[f"k{index}"] = kernel.astype(np.float32)
        nodes += [
            helper.make_node(
                "Conv", [last, f"k{index}"], [f"c{index}"], pads=[1] * 4, strides=[stride] * 2
            ),
            helper.make_node("Relu", [f"c{index}"], [f"r{index}"]),
        ]
        last = f"r{index}"
    width = 32 * int(np.prod([-(-size // 4) for size in data.schema.shape[1:]]))
    weights["w0"] = (rng.normal(size=(width, 64)) / np.sqrt(width)).astype(np.float32)
    weights["w1"] = (rng.normal(size=(64, len(data.classes))) / 8).astype(np.float32)
    nodes += [
        helper.make_node("Flatten", [last], ["flattened"]),
        helper.make_node("MatMul", ["flattened", "w0"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["features"]),
        helper.make_node("MatMul", ["features", "w1"], ["logits"]),
    ]
    return _model(nodes, weights, data, features=64)


def proving(data: DataSet, model: onnx.ModelProto) -> Certifying:
    """Certificates of what `linear` gives, for changes so small that they reach some rows."""
    import torch
    from torch import nn

    from models.certificates.layers import chain_of

    arrays = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(data.schema.size, 64), nn.ReLU(), nn.Linear(64, len(data.classes))
    )
    first, last = net[1], net[3]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        first.weight.copy_(torch.tensor(arrays["projection"].T * data.schema.high))
        first.bias.zero_()
        last.weight.copy_(torch.tensor(arrays["w"].T))
        last.bias.copy_(torch.tensor(arrays["b"]))
    return Certifying(net, chain_of(net), CertificateFacts(0.01, (0.005, 0.01)))


def instrumented(
    data: DataSet, model: onnx.ModelProto, certifying: Certifying | None = None
) -> Instrumented:
    """Heads fitted with noise for corruptions and sign noise for attacks.

    Where answers are proven, labels are known as well, for prediction sets.
    """
    rng, schema = np.random.default_rng(1), data.schema
    held, fit = data.calibration, data.train.take(np.arange(400))
    fixed = np.array([c.kind == "categorical" for c in schema.columns], dtype=bool)

    def moved(x: FloatArray, change: FloatArray) -> FloatArray:
        unit = schema.to_unit(x) + change
        if schema.kind == "image":
            return schema.from_unit(np.clip(unit, 0, 1))
        return np.where(fixed, x, schema.from_unit(unit))

    def noisy(x: FloatArray) -> FloatArray:
        return moved(x, rng.normal(0, 0.1, x.shape))

    def signs(x: FloatArray) -> FloatArray:
        return moved(x, 0.15 * rng.choice([-1, 1], x.shape))

    half = len(held) // 2
    calibration, reference = held.x[:half], held.x[half:]
    material = Material(
        references=fit.x,
        fit_clean=fit.x,
        fit_corrupted=noisy(fit.x),
        fit_adversarial=signs(fit.x),
        held_clean=calibration,
        held_corrupted=noisy(calibration),
        held_adversarial=signs(calibration),
        reference=reference,
        held_labels=None if certifying is None else held.y[:half],
    )
    source = f"held-out {data.name}"
    return instrument(model, schema, data.classes, material, source=source, certifying=certifying)


def data_of(name: str) -> DataSet:
    """The data that `prepared(name)` is for."""
    sets = {"small": digits, "certified": digits, "asked": table}
    return sets.get(name, large_digits)()


@cache
def prepared(name: str, bend: float = 1.0) -> Instrumented:
    """A version made once per session.

    `small` (8x8), `certified` (the same with certificates), `large` (28x28), `timing` (28x28,
    convolutions), `asked` (`asked_only`).
    """
    data = data_of(name)
    if name == "asked":
        return instrumented(data, asked_only(data))
    if name == "certified":
        model = linear(data)
        return instrumented(data, model, proving(data, model))
    plain = convolutional(data) if name == "timing" else linear(data, bend=bend)
    return instrumented(data, plain)


def publish(
    root: Path,
    model: str = "digits",
    *,
    name: str = "small",
    bend: float = 1.0,
    promote: bool = True,
    watched: bool = True,
    evaluation: Evaluation | None = None,
) -> int:
    """Publish a version (see `prepared`) to the registry at `root`; its number.

    One that is not `watched` has no threshold of query distances, as versions of old have none.
    """
    registry, made = Registry(root), prepared(name, bend)
    data = data_of(name)
    reference = {
        name: array
        for name, array in made.reference.items()
        if watched or not name.startswith("queries/")
    }

    def make(version: int) -> tuple[dict[str, bytes], Manifest]:
        manifest = msgspec.structs.replace(
            made.manifest(model, data.schema, data.classes, version), evaluation=evaluation
        )
        contents = {
            files.MODEL: made.model.SerializeToString(),
            files.REFERENCE: npz(reference),
        }
        return contents, manifest

    version = registry.publish(model, make, actor="test", reason="test")
    if promote:
        expected = registry.aliases(model).champion
        registry.promote(model, version, expected=expected, actor="test", reason="test")
    return version


def npz(arrays: object) -> bytes:
    """Arrays by name as the bytes of an npz file."""
    import io

    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def _model(
    nodes: list[onnx.NodeProto], weights: dict[str, FloatArray], data: DataSet, features: int | None
) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    if "projection" in weights:
        initializers = [i for i in initializers if i.name != "flat"]
        flat = np.array([-1, data.schema.size], dtype=np.int64)
        initializers.append(numpy_helper.from_array(flat, "flat"))
    shape: list[str | int | None] = ["batch", *data.schema.shape]
    outputs = {"logits": len(data.classes)} | ({"features": features} if features else {})
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(data.schema.name, TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
            for name, width in outputs.items()
        ],
        initializers,
    )
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=9)
