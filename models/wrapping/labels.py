"""Which column of the model's answer is which class of the data."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from scipy.optimize import linear_sum_assignment

from models.base.errors import AdaptError
from models.statistics.arrays import IntArray
from models.wrapping.graphs.edit import Array, Index, attributes_of
from models.wrapping.graphs.runs import Runs
from models.wrapping.outputs import zip_map

NAMING = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.STRING)
SAME = 0.98  # share of rows on which columns and labels must agree
LABELS = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")


@dataclass(frozen=True)
class ColumnOrder:
    """A guess: `columns[k]` is the model's column of the data's class k; () is as they stand."""

    name: str
    columns: tuple[int, ...] = ()


def labels_of(model: onnx.ModelProto, tensor: str) -> tuple[str, ...] | None:
    """The class names that a model of scikit-learn carries, in the order of its columns."""
    index = Index(model.graph)
    outputs = [output.name for output in model.graph.output]
    mappings = [node for output in outputs if (node := zip_map(index, output)) is not None]
    for node in (*mappings, *reversed(index.upstream([tensor, *outputs]))):
        if node.domain == "ai.onnx.ml":
            names = _names_in(node, index)
            if names is not None:
                return names
    return None


def orders(
    labels: tuple[str, ...] | None, classes: tuple[str, ...], given: tuple[str, ...]
) -> list[ColumnOrder]:
    """The orders to try: what the user gave, else what the model carries, else the likely ones.

    Raises:
        AdaptError: names that are not the data's classes.
    """
    if given:
        return [ColumnOrder("as given", _columns(given, classes, "--classes"))]
    if labels is not None and set(labels) == set(classes):
        return [ColumnOrder("from the model", _columns(labels, classes, "the model"))]
    numbers = tuple(str(i) for i in range(len(classes)))
    if labels is not None and labels != numbers:
        raise AdaptError(
            f"the model's classes are {_list(labels)}, those of the data {_list(classes)}: "
            "say with --classes which class of the data each of its columns is"
        )
    likely = [ColumnOrder("as in the data")]
    if set(classes) == set(numbers) and classes != numbers:
        likely.append(ColumnOrder("by number", _columns(numbers, classes, "")))
    return likely


def order_by_own_labels(
    model: onnx.ModelProto, feeds: dict[str, Array], logits: Array, classes: tuple[str, ...]
) -> ColumnOrder | None:
    """The order of columns that gives the classes which the model names itself in another output.

    Exporters write scores of some models (a support vector machine without probabilities) the
    other way round. None where no output names classes, or where the columns agree with it.

    Args:
        model: a prepared model.
        feeds: its inputs for some rows.
        logits: `(N, C)` of those rows, in the order that the columns are thought to have.
        classes: of the data.
    """
    for output in model.graph.output:
        if output.type.tensor_type.elem_type not in NAMING:
            continue
        (values,) = Runs(model, [output.name]).answer(feeds)
        names = [_text(value) for value in np.asarray(values).ravel().tolist()]
        numbers = tuple(str(place) for place in range(len(classes)))
        known = classes if set(names) <= set(classes) else numbers  # names, or places among them
        if len(names) != len(logits) or not set(names) <= set(known):
            continue
        y = np.array([known.index(name) for name in names], dtype=np.int64)
        columns, agreement = best_order(logits, y)
        if agreement > max(SAME, float((logits.argmax(axis=1) == y).mean())):
            return ColumnOrder("by the labels that the model names", columns)
    return None


def best_order(logits: Array, y: IntArray) -> tuple[tuple[int, ...], float]:
    """The order of columns that fits labels best, and its accuracy (Hungarian assignment).

    Args:
        logits: `(N, C)` in the model's own order.
        y: `(N,)` classes of the data.

    >>> best_order(np.eye(3)[[1, 1, 2, 0]], np.array([0, 0, 1, 2]))
    ((1, 2, 0), 1.0)
    """
    classes, predicted = logits.shape[1], logits.argmax(axis=1)
    counts = np.zeros((classes, classes))
    np.add.at(counts, (y, predicted), 1)
    _, columns = linear_sum_assignment(-counts)
    columns = tuple(int(c) for c in columns)
    return columns, float(counts[np.arange(classes), columns].sum() / len(y))


def in_model_order(columns: tuple[int, ...], classes: tuple[str, ...]) -> str:
    """What to write behind `--classes` for an order."""
    names = {column: classes[k] for k, column in enumerate(columns)}
    return ",".join(names[column] for column in sorted(names))


def _columns(names: tuple[str, ...], classes: tuple[str, ...], whose: str) -> tuple[int, ...]:
    if sorted(names) != sorted(classes):
        raise AdaptError(f"{whose}: expected {_list(classes)} in any order, got {_list(names)}")
    columns = tuple(names.index(name) for name in classes)
    return () if columns == tuple(range(len(columns))) else columns


def _names_in(node: onnx.NodeProto, index: Index) -> tuple[str, ...] | None:
    attributes = attributes_of(node)
    for name in LABELS:
        if len(attributes.get(name, ())) > 1:
            return tuple(_text(value) for value in attributes[name])
    if node.op_type == "ArrayFeatureExtractor":
        values = index.constant(node.input[0])
        if values is not None and values.size > 1:
            return tuple(_text(value) for value in values.ravel())
    return None


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
