"""What a model answers: logits, probabilities or one number for two classes, and where."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from models.base.errors import AdaptError
from models.wrapping.graphs.edit import FLOATS, Array, Builder, Index, shape_text, show
from models.wrapping.graphs.runs import Runs

Kind = Literal["logits", "probabilities", "logit", "probability"]
Floats = npt.NDArray[np.float32]

SMALLEST = 1e-8  # probabilities below count as this
TOLERANCE = 1e-4
COPIES = ("Identity", "Cast", "Flatten", "Squeeze", "Unsqueeze", "Reshape", "Dropout")


@dataclass(frozen=True)
class Reading:
    """How a tensor is read as logits of C classes.

    `logits` and `probabilities` have C columns, `logit` and `probability` one (of the second
    class). Probabilities become ln p - mean(ln p): the same softmax, and an energy that says
    something (that of ln p is 0 for every row).
    """

    tensor: str
    kind: Kind
    order: tuple[int, ...] = ()  # column of each class of the data; () = as they are

    @property
    def single(self) -> bool:
        """Whether the tensor has one number per row."""
        return self.kind in ("logit", "probability")

    def logits(self, values: Array) -> Floats:
        """`(N, C)` logits of the values `(N, ...)` of the tensor."""
        x = np.asarray(values, dtype=np.float32).reshape(len(values), -1)
        if self.kind == "logit":
            x = np.concatenate([-x / 2, x / 2], axis=1)
        if self.kind == "probability":
            x = np.concatenate([1 - x, x], axis=1)
        if self.kind in ("probability", "probabilities"):
            x = np.log(np.clip(x, SMALLEST, None))
            x = x - x.mean(axis=1, keepdims=True)
        return (x[:, list(self.order)] if self.order else x).astype(np.float32)

    def emit(self, builder: Builder) -> str:
        """The same as nodes."""
        x = builder.op("Flatten", builder.op("Cast", self.tensor, to=1))
        if self.single:  # (N,) flattens to (N, 1) already
            half = builder.op("Mul", x, builder.const(np.float32(0.5)))
            other = builder.op("Neg", half)
            if self.kind == "probability":
                half, other = x, builder.op("Sub", builder.const(np.float32(1)), x)
            x = builder.op("Concat", other, half, axis=1)
        if self.kind in ("probability", "probabilities"):
            x = builder.op("Log", builder.op("Max", x, builder.const(np.float32(SMALLEST))))
            mean = builder.op("ReduceMean", x, builder.const([1]), keepdims=1)
            x = builder.op("Sub", x, mean)
        if self.order:
            x = builder.op("Gather", x, builder.const(list(self.order)), axis=1)
        return builder.finite(x)


@dataclass(frozen=True)
class ClassOutput:
    """The output that holds the classes, and the best tensor to read them from."""

    output: str  # name of the output, or of the tensor that the user names
    surface: Reading  # of what is answered there
    inner: Reading  # of the logits before a softmax, where there is one; else as `surface`


def softmax(logits: Array) -> npt.NDArray[np.float64]:
    """Probabilities `(N, C)`.

    >>> softmax(np.array([[0.0, np.log(3)]])).round(2).tolist()
    [[0.25, 0.75]]
    """
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    shares: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def find_reading(
    model: onnx.ModelProto, feeds: dict[str, Array], classes: tuple[str, ...], named: str
) -> ClassOutput:
    """Which tensor holds the classes, and how it is to be read (with the order still open).

    Args:
        model: a prepared model.
        feeds: its inputs for some rows.
        classes: names of the classes of the data.
        named: a tensor that the user names, as the user's model has it; empty to search.

    Raises:
        AdaptError: no such tensor, no output with so many classes, or one that is no classifier.
    """
    index = Index(model.graph)
    readable = {named: named} if named else _readable(model, index)
    tensors = list(readable)
    if not tensors:
        kinds = ", ".join(_describe_output(output) for output in model.graph.output)
        raise AdaptError(
            f"the model has no output of numbers, such as logits or probabilities ({kinds}): "
            "export it with the probabilities of the classes, or name their tensor with --output"
        )
    answers = dict(zip(tensors, Runs(model, tensors).answer(feeds), strict=True))
    rows = len(next(iter(feeds.values())))
    shapes = {tensor: np.shape(values) for tensor, values in answers.items()}
    fitting = [t for t in tensors if _fits(shapes[t], rows, len(classes))]
    if not fitting:
        raise AdaptError(_misfit(shapes, rows, classes))
    readings = [Reading(t, _kind_of(answers[t], rows)) for t in fitting]
    chosen = readings[0]
    for other in readings[1:]:
        ours, theirs = (r.logits(answers[r.tensor]) for r in (chosen, other))
        if other.kind == "logits" and np.allclose(softmax(ours), softmax(theirs), atol=TOLERANCE):
            chosen = other
    inner = _before_softmax(model, index, feeds, chosen, answers[chosen.tensor])
    return ClassOutput(readable[chosen.tensor], chosen, inner)


def zip_map(index: Index, output: str) -> onnx.NodeProto | None:
    """The ZipMap that makes an output of dictionaries, if one does."""
    node = index.producer.get(index.behind(output, ("Identity",)))
    return node if node is not None and node.op_type == "ZipMap" else None


def _readable(model: onnx.ModelProto, index: Index) -> dict[str, str]:
    """Tensors of numbers that the outputs are or are made of, and the outputs."""
    tensors: dict[str, str] = {}
    for output in model.graph.output:
        mapping = zip_map(index, output.name)
        if mapping is not None:
            tensors.setdefault(mapping.input[0], output.name)
        elif output.type.tensor_type.elem_type in FLOATS:
            tensors.setdefault(output.name, output.name)
    return tensors


def _fits(shape: tuple[int, ...], rows: int, classes: int) -> bool:
    if not shape or shape[0] != rows or sum(size > 1 for size in shape[1:]) > 1:
        return False
    columns = int(np.prod(shape[1:]))
    return columns == classes or (columns == 1 and classes == 2)


def _kind_of(values: Array, rows: int) -> Kind:
    """What the numbers look like; rows that are not finite do not count."""
    flat = np.asarray(values, dtype=np.float64).reshape(rows, -1)
    flat = flat[np.isfinite(flat).all(axis=1)]
    shares = len(flat) > 0 and flat.min() >= -1e-6 and flat.max() <= 1 + 1e-5
    if flat.shape[1] == 1:
        return "probability" if shares else "logit"
    return "probabilities" if shares else "logits"


def _before_softmax(
    model: onnx.ModelProto, index: Index, feeds: dict[str, Array], reading: Reading, values: Array
) -> Reading:
    """The logits that softmax or sigmoid makes the probabilities of, if the graph has them."""
    node = index.producer.get(index.behind(reading.tensor, COPIES))
    wanted = {"probabilities": "Softmax", "probability": "Sigmoid"}.get(reading.kind)
    if node is None or node.op_type != wanted:
        return reading
    kind: Kind = "logit" if reading.single else "logits"
    before = Reading(node.input[0], kind)
    (inner,) = Runs(model, [before.tensor]).answer(feeds)
    expected = reading.logits(values)
    if len(inner) != len(values) or inner[0].size != values[0].size:
        return reading
    same = np.allclose(softmax(before.logits(inner)), softmax(expected), atol=TOLERANCE)
    return before if same else reading


def _misfit(shapes: dict[str, tuple[int, ...]], rows: int, classes: tuple[str, ...]) -> str:
    answers = ", ".join(
        f"{show(name)!r} {shape_text(('N', *shape[1:]))}"
        if shape and shape[0] == rows
        else f"{show(name)!r} {list(shape)} for {rows} rows"
        for name, shape in shapes.items()
    )
    names = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
    text = f"the data have {len(classes)} classes ({names}), the model answers {answers}"
    (first, *_) = shapes.values()
    columns = int(np.prod(first[1:])) if first and first[0] == rows else 0
    if len(shapes) == 1 and columns == 1:
        return f"{text}: one number per row is a regressor, not a classifier of these"
    if len(shapes) > 1 or columns == 0 or sum(size > 1 for size in first[1:]) > 1:
        return (
            f"{text}: none is one number per class (a detector or a sequence model?); if it is "
            "a classifier, name its tensor with --output"
        )
    return f"{text}: wrap it with data of its own classes"


def _describe_output(output: Any) -> str:
    kind = (output.type.WhichOneof("value") or "tensor").replace("_type", "")
    if kind == "tensor" and output.type.tensor_type.elem_type:
        element = TensorProto.DataType.Name(output.type.tensor_type.elem_type).lower()
        kind = f"tensor of {element}"
    return f"{show(output.name)!r} is a {kind}"
