"""The layer before the logits: what the score heads measure distances in."""

from dataclasses import dataclass

import numpy as np
import onnx

from models.base.errors import AdaptError
from models.wrapping.graphs.edit import Array, Builder, Index, show
from models.wrapping.graphs.runs import Runs

LAYERS = ("Gemm", "MatMul", "Conv", "FusedMatMul", "FusedGemm")
RECURRENT = ("LSTM", "GRU", "RNN", "Attention")
LARGEST = 16384  # features per row; what the feature distance can afford
SHOWN = 8  # candidates named in an error


@dataclass(frozen=True)
class Features:
    """A tensor `(N, F)`, or `(N, F, ...)` whose places are averaged."""

    tensor: str
    size: int
    places: int = 1

    def emit(self, builder: Builder) -> str:
        """The `(N, F)` float32 tensor."""
        x = builder.op("Cast", self.tensor, to=1)
        if self.places > 1:
            shape = builder.const([0, self.size, self.places])
            x = builder.op(
                "ReduceMean", builder.op("Reshape", x, shape), builder.const([2]), keepdims=0
            )
        return builder.finite(builder.op("Flatten", x))


def find_features(
    model: onnx.ModelProto, feeds: dict[str, Array], logits: str, named: str
) -> Features | None:
    """The input of the last weighted layer before `logits` that has another layer before it.

    A linear model has no such layer, and trees have no layers at all: None.

    Args:
        model: a prepared model.
        feeds: its inputs for a few rows.
        logits: the tensor of the logits.
        named: a tensor that the user names; empty to search.

    Raises:
        AdaptError: the named tensor is not there, or holds no numbers per row.
    """
    index = Index(model.graph)
    candidates = _candidates(index, logits)
    if named:
        return _measure_named(model, index, feeds, named, candidates)
    for tensor in candidates:
        try:
            features = _measure_tensor(model, feeds, tensor)
        except AdaptError:  # onnxruntime does not answer this tensor alone
            continue
        if features is not None and features.size <= LARGEST:
            return features
    return None


def _candidates(index: Index, logits: str) -> list[str]:
    """Inputs of weighted layers that come after another one, the last layer first."""
    moving, tensors = index.moving(), []
    for node in reversed(index.upstream([logits])):
        if node.op_type in LAYERS and len(node.input) > 1 and node.input[1] not in moving:
            before = index.upstream([node.input[0]])
            if any(
                n.op_type in (*LAYERS, *RECURRENT) for n in before if moving.intersection(n.output)
            ):
                tensors.append(node.input[0])
    return list(dict.fromkeys(tensors))


def _measure_named(
    model: onnx.ModelProto, index: Index, feeds: dict[str, Array], named: str, candidates: list[str]
) -> Features:
    if named not in index.producer and named not in {g.name for g in index.inputs}:
        listed = ", ".join(show(tensor) for tensor in candidates[:SHOWN]) or "there are none"
        raise AdaptError(
            f"the model has no tensor {show(named)!r} for features; candidates: {listed}"
        )
    features = _measure_tensor(model, feeds, named)
    if features is None:
        raise AdaptError(
            f"tensor {show(named)!r} cannot be features: expected finite floats, some per row"
        )
    return features


def _measure_tensor(
    model: onnx.ModelProto, feeds: dict[str, Array], tensor: str
) -> Features | None:
    """Its size, if it holds finite floats, several per row and not the same for all rows."""
    (values,) = Runs(model, [tensor]).answer(feeds)
    rows = len(next(iter(feeds.values())))
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f" or values.ndim < 2:
        return None
    flat = values.reshape(len(values), -1)
    if len(values) != rows or flat.shape[1] < 2 or not np.isfinite(flat).all():
        return None
    if rows > 1 and not flat.std(axis=0).any():
        return None
    places = int(np.prod(values.shape[2:])) if values.ndim == 4 else 1
    size = values.shape[1] if places > 1 else flat.shape[1]
    return Features(tensor, int(size), places)
