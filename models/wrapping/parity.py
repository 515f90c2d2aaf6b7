"""Proof that the adapted graph answers as the model did, row by row."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from models.base.errors import AdaptError
from models.versions.facts import ParityFacts
from models.versions.runner import session
from models.versions.schema import InputArray, InputSchema
from models.wrapping.graphs.edit import Array, Index, attributes_of, show
from models.wrapping.graphs.prepare import make_answerable
from models.wrapping.graphs.read import every_node
from models.wrapping.graphs.runs import Feed, Runs
from models.wrapping.labels import LABELS
from models.wrapping.outputs import TOLERANCE, ClassOutput, softmax, zip_map

ALONE = 8  # rows that are also asked one by one
COARSE_TOLERANCE = 1e-2  # onnxruntime rounds in other places where the graph goes on
HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)

Floats64 = npt.NDArray[np.float64]


class Original:
    """The model as it was given, but for `make_answerable` and an output that the user names."""

    def __init__(self, model: onnx.ModelProto, *, batch: int | None) -> None:
        self._model, self._batch = onnx.ModelProto(), batch
        self._model.CopyFrom(model)
        make_answerable(self._model)

    def probabilities(
        self, classes: ClassOutput, order: tuple[int, ...], feeds: dict[str, Array]
    ) -> Floats64:
        """`(N, C)` in the order of the data's classes, for the inputs of a prepared model."""
        output = show(classes.output)
        runs = Runs(self._model, [output], batch=self._batch)
        (values,) = runs.answer({show(name): array for name, array in feeds.items()})
        if isinstance(values, list):
            values = self._from_dictionaries(values, output)
        shares = softmax(classes.surface.logits(values))
        return shares[:, list(order)] if order else shares

    def _from_dictionaries(self, rows: list[dict[Any, float]], output: str) -> Array:
        node = zip_map(Index(self._model.graph), output)
        assert node is not None
        attributes = attributes_of(node)
        (labels,) = (attributes[name] for name in LABELS if attributes.get(name))
        names = [label.decode() if isinstance(label, bytes) else label for label in labels]
        return np.array([[row[name] for name in names] for row in rows], dtype=np.float32)


def check_parity(
    original: Original,
    plain: onnx.ModelProto,
    schema: InputSchema,
    plan: Feed,
    classes: ClassOutput,
    order: tuple[int, ...],
    x: InputArray,
    *,
    opened: int | None,
) -> ParityFacts:
    """Compare the plain graph with the original on raw rows `x`.

    Args:
        opened: the batch that the model was fixed to before it was made to take any.

    Raises:
        AdaptError: another class is predicted (but for ties), probabilities differ by more than
            1e-4 (1e-2 for half floats and quantised weights), or a row's answer depends on the
            rows that come with it.
    """
    expected = original.probabilities(classes, order, plan.feeds(x))
    _check_finite(expected, x)
    answered, apart = _answers(plain, schema, x)
    difference = float(np.abs(answered - expected).max())
    tolerance, top = tolerance_of(plain), np.sort(expected, axis=1)
    clear = top[:, -1] - top[:, -2] > 2 * tolerance
    moved = (answered.argmax(axis=1) != expected.argmax(axis=1)) & clear
    if not (difference <= tolerance and apart <= tolerance) or moved.any():
        again = original.probabilities(classes, order, plan.feeds(x))
        random = not np.abs(again - expected).max() <= tolerance
        raise AdaptError(
            _reason(random=random, opened=opened, mixed=not apart <= tolerance or mixes_rows(plain))
            or f"the adapted graph differs from the model by {difference:.2g} in the "
            f"probabilities, in the class on {int(moved.sum())} of {len(x)} rows"
        )
    return ParityFacts(len(x), difference, tolerance)


def mixes_rows(model: onnx.ModelProto) -> bool:
    """Whether numbers are rounded by a scale that is taken from the whole batch."""
    return any(node.op_type == "DynamicQuantizeLinear" for node in every_node(model))


def tolerance_of(model: onnx.ModelProto) -> float:
    """How far probabilities may be apart: half floats and quantised numbers are coarse."""
    coarse = any(tensor.data_type in HALVES for tensor in model.graph.initializer) or any(
        "Quantize" in node.op_type or "QLinear" in node.op_type for node in every_node(model)
    )
    return COARSE_TOLERANCE if coarse else TOLERANCE


def _answers(plain: onnx.ModelProto, schema: InputSchema, x: InputArray) -> tuple[Floats64, float]:
    """Probabilities `(N, C)`, and how far the first rows' are from those when asked one by one."""
    running = session(plain.SerializeToString())
    together = softmax(running.run(["logits"], {schema.name: x})[0])
    alone = [running.run(["logits"], {schema.name: row[None]})[0] for row in x[:ALONE]]
    return together, float(np.abs(softmax(np.concatenate(alone)) - together[:ALONE]).max())


def _check_finite(expected: Floats64, x: InputArray) -> None:
    wrong = ~np.isfinite(expected).all(axis=1)
    if wrong.any():
        raise AdaptError(
            f"the model answers NaN or infinity to {int(wrong.sum())} of {len(x)} test rows, first "
            f"to {np.array2string(x[int(np.argmax(wrong))].ravel(), threshold=12, precision=4)}"
        )


def _reason(*, random: bool, opened: int | None, mixed: bool) -> str:
    """Why the graphs differ, if that is known."""
    if random:
        return "the model answers the same rows differently each time: export it in evaluation mode"
    if opened is not None:
        return (
            f"the model takes batches of {opened} only and cannot be made to take others: "
            "export it with a dynamic batch dimension"
        )
    if mixed:
        return (
            "the answer to a row depends on the other rows of its batch (batch normalisation in "
            "training mode, dynamic quantisation): export the model so that rows stand alone"
        )
    return ""
