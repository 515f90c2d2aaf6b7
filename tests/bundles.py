"""Small real bundles without torch: a fitted classifier in ONNX, instrumented and published."""

from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression

from models import bundle as files
from models.data import DataSet, Rows, load_digits
from models.registry import Registry, utc_now
from models.schema import SCHEMA_VERSION, FloatArray, InputSchema, Manifest
from monitoring.instrument import Instrumented, Material, instrument

OPSET = 18


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


def instrumented(data: DataSet, model: onnx.ModelProto) -> Instrumented:
    """Heads fitted with noise for corruptions and sign noise for attacks."""
    rng, schema = np.random.default_rng(1), data.schema
    held, fit = data.calibration, data.train.take(np.arange(400))

    def noisy(x: FloatArray) -> FloatArray:
        return schema.from_unit(np.clip(schema.to_unit(x) + rng.normal(0, 0.1, x.shape), 0, 1))

    def signs(x: FloatArray) -> FloatArray:
        return schema.from_unit(
            np.clip(schema.to_unit(x) + 0.15 * rng.choice([-1, 1], x.shape), 0, 1)
        )

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
    )
    return instrument(model, schema, data.classes, material, source="held-out digits")


@cache
def prepared(name: str, bend: float = 1.0) -> Instrumented:
    """`small` (8x8), `large` (28x28) or `timing` (28x28, convolutions), made once per session."""
    data = digits() if name == "small" else large_digits()
    plain = convolutional(data) if name == "timing" else linear(data, bend=bend)
    return instrumented(data, plain)


def publish(
    root: Path,
    model: str = "digits",
    *,
    name: str = "small",
    bend: float = 1.0,
    promote: bool = True,
) -> int:
    """Publish a version (see `prepared`) to the registry at `root`; its number."""
    registry, made = Registry(root), prepared(name, bend)
    data = digits() if name == "small" else large_digits()

    def make(version: int) -> tuple[dict[str, bytes], Manifest]:
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            model=model,
            version=version,
            created_at=utc_now(),
            input=data.schema,
            classes=data.classes,
            channels=made.channels,
            calibration=made.calibration,
            training={},
            evaluation={},
            parent=None,
            event={},
            files={},
        )
        contents = {
            files.MODEL: made.model.SerializeToString(),
            files.REFERENCE: npz(made.reference),
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
    nodes: list[onnx.NodeProto], weights: dict[str, FloatArray], data: DataSet, features: int
) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    if "flat" in weights:
        initializers = [i for i in initializers if i.name != "flat"]
        flat = np.array([-1, data.schema.size], dtype=np.int64)
        initializers.append(numpy_helper.from_array(flat, "flat"))
    shape: list[str | int | None] = ["batch", *data.schema.shape]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(data.schema.name, TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(
                "logits", TensorProto.FLOAT, ["batch", len(data.classes)]
            ),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", features]),
        ],
        initializers,
    )
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=9)
