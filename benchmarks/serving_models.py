"""The models that are served, plain and scored, with the images that are sent to them."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from benchmarks.peers import PEERS
from models.data import DataSet, Rows
from models.versions import bundle as files
from models.versions.registry import Registry
from models.versions.schema import InputSchema, Manifest
from monitoring.scoring.instrument import Instrumented
from tests import bundles

Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Model:
    """A model in both forms."""

    state: Path  # of a service, with the scored version in its registry
    plain: Path  # the same net without scores: ONNX, its only output `logits`
    scored: bytes
    x: Float32s  # (N, *shape) distinct images; more than the detector of queries remembers


def small(folder: Path) -> Model:
    """Four convolutions of MNIST size with random weights; handwritten digits of 28 x 28."""
    data = bundles.large_digits()
    return _model(folder, "small", data, lambda: bundles.convolutional(data))


def resnet18(folder: Path) -> Model:
    """ResNet-18 with random weights for images of CIFAR-10's size."""
    data = _coloured(bundles.large_digits())

    def make() -> onnx.ModelProto:
        from models.nets import factories
        from models.nets.export import to_onnx

        net = factories.build(factories.spec_for(data.schema, len(data.classes), "resnet18"))
        return to_onnx(net, data.schema)

    return _model(folder, "resnet18", data, make)


def _model(folder: Path, name: str, data: DataSet, make: Callable[[], onnx.ModelProto]) -> Model:
    """The model with a state directory of its own; it is kept once it is made (a minute)."""
    kept = PEERS / "serving_models" / name
    if not (kept / "plain.onnx").exists():
        net = make()
        shutil.rmtree(kept, ignore_errors=True)
        _publish(kept / "registry", data, bundles.instrumented(data, net))
        (kept / "plain.onnx").write_bytes(plain_graph(net))
    state = folder / name
    shutil.copytree(kept, state)
    scored = Registry(state / "registry").open("digits").model_bytes
    x = np.concatenate([data.train.x, data.calibration.x, data.test.x])
    return Model(state, state / "plain.onnx", scored, x)


def _publish(root: Path, data: DataSet, made: Instrumented) -> None:
    registry = Registry(root)

    def make(version: int) -> tuple[dict[str, bytes], Manifest]:
        contents = {
            files.MODEL: made.model.SerializeToString(),
            files.REFERENCE: bundles.npz(made.reference),
        }
        return contents, made.manifest("digits", data.schema, data.classes, version)

    version = registry.publish("digits", make, actor="benchmark", reason="benchmark")
    registry.promote("digits", version, expected=None, actor="benchmark", reason="benchmark")


def plain_graph(model: onnx.ModelProto) -> bytes:
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    kept = [output for output in plain.graph.output if output.name == "logits"]
    del plain.graph.output[:]
    plain.graph.output.extend(kept)
    return bytes(plain.SerializeToString())


def _coloured(data: DataSet) -> DataSet:
    """Few of the digits on 3 x 32 x 32, enough to fit the heads, and some more to be sent."""
    schema = InputSchema("input", (3, 32, 32), "float32", 0.0, 1.0, "image")
    tint = np.array([1.0, 0.7, 0.4], np.float32)[:, None, None]

    def grown(rows: Rows, most: int) -> Rows:
        x = np.pad(rows.x[:most], ((0, 0), (0, 0), (2, 2), (2, 2))) * tint
        return Rows(np.ascontiguousarray(x.astype(np.float32)), rows.y[:most])

    parts = grown(data.train, 400), grown(data.calibration, 160), grown(data.test, 100)
    return DataSet("coloured_digits", schema, data.classes, *parts)
