"""The categories that a graph itself holds, column by column of one of its inputs.

Encoders of scikit-learn, LightGBM and Keras carry their categories as attributes or weights. What
stands between the input and the encoder only picks, joins, casts or reshapes columns.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx

from models.wrapping.graphs.edit import Array, Index, attributes_of

Category = str | float
Columns = tuple[int, ...]
Tracked = dict[str, Columns]

COPIES = (
    "Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "StringNormalizer",
    "Imputer", "Where", "FeatureVectorizer",
)  # fmt: skip
ENCODERS = {
    "OneHotEncoder": ("cats_strings", "cats_int64s"),
    "LabelEncoder": ("keys_strings", "keys_int64s", "keys_floats", "keys_tensor"),
    "CategoryMapper": ("cats_strings",),
}
PICKED_BY_EQUALITY = b"BRANCH_EQ"


def known_categories(graph: onnx.GraphProto, name: str, width: int) -> list[tuple[Category, ...]]:
    """What the graph compares each column of the input `name` with; () where it does not.

    Args:
        graph: of a prepared model.
        name: of an input `(N, width)` or, with one column, `(N,)`.
        width: number of its columns.
    """
    index, tracked = Index(graph), {name: tuple(range(width))}
    categories: list[dict[Category, None]] = [{} for _ in range(width)]
    for node in graph.node:
        for column, values in _compared(node, index, tracked):
            categories[column] |= dict.fromkeys(values)
        columns = _follow(node, index, tracked)
        if columns is not None:
            for output, part in zip(node.output, columns, strict=False):
                tracked[output] = part
    return [tuple(values) for values in categories]


def _compared(
    node: onnx.NodeProto, index: Index, tracked: Tracked
) -> Iterable[tuple[int, list[Category]]]:
    """Columns that the node compares with categories, each with them."""
    columns = [tracked[name] for name in node.input if name in tracked]
    if not columns:
        return
    attributes = attributes_of(node)
    if node.op_type in ENCODERS:
        keys = [attributes[name] for name in ENCODERS[node.op_type] if name in attributes]
        for column in columns[0]:
            yield column, [value for key in keys for value in _plain(key)]
    elif node.op_type == "Equal":
        for constant in map(index.constant, node.input):
            if constant is not None:
                for column in columns[0]:
                    yield column, _plain(constant)
    elif node.op_type.startswith("TreeEnsemble") and "nodes_modes" in attributes:
        places, values = attributes["nodes_featureids"], attributes.get("nodes_values", ())
        for place, value, mode in zip(places, values, attributes["nodes_modes"], strict=False):
            if mode == PICKED_BY_EQUALITY and place < len(columns[0]):
                yield columns[0][place], [float(value)]


def _follow(node: onnx.NodeProto, index: Index, tracked: Tracked) -> list[Columns] | None:
    """The columns that each output holds, unchanged; None where they are computed with."""
    inputs = [tracked[name] for name in node.input if name in tracked]
    if not inputs:
        return None
    if node.op_type in COPIES:
        return [inputs[0]]
    if node.op_type == "Concat" and len(inputs) == len(node.input):
        return [tuple(column for part in inputs for column in part)]
    follow = PICKERS.get(node.op_type)
    return None if follow is None else follow(node, index, inputs[0])


def _gather(node: onnx.NodeProto, index: Index, columns: Columns) -> list[Columns] | None:
    places = index.constant(node.input[1])
    return None if places is None else [_take(columns, places.ravel())]


def _slice(node: onnx.NodeProto, index: Index, columns: Columns) -> list[Columns] | None:
    starts, ends, axes = (
        None if len(node.input) <= place else index.constant(node.input[place])
        for place in (1, 2, 3)
    )
    if starts is None or ends is None or starts.size != 1:
        return None
    if axes is not None and axes.ravel()[0] not in (1, -1):
        return [columns]  # rows are cut, not columns
    return [columns[int(starts.ravel()[0]) : int(ends.ravel()[0])]]


def _split(node: onnx.NodeProto, index: Index, columns: Columns) -> list[Columns] | None:
    sizes = index.constant(node.input[1]) if len(node.input) > 1 else None
    each = len(columns) // len(node.output)
    widths = [each] * len(node.output) if sizes is None else [int(size) for size in sizes.ravel()]
    ends = np.cumsum(widths).tolist()
    return [columns[end - width : end] for end, width in zip(ends, widths, strict=True)]


Picker = Callable[[onnx.NodeProto, Index, Columns], list[Columns] | None]
PICKERS: dict[str, Picker] = {
    "Gather": _gather,
    "ArrayFeatureExtractor": _gather,
    "Slice": _slice,
    "Split": _split,
}


def _take(columns: Columns, places: Array) -> Columns:
    return tuple(columns[int(place)] for place in places if -len(columns) <= place < len(columns))


def _plain(values: Any) -> list[Category]:
    """Attributes, tensors and arrays as texts and numbers."""
    if isinstance(values, onnx.TensorProto):
        values = onnx.numpy_helper.to_array(values)
    if isinstance(values, np.ndarray):
        values = values.ravel().tolist()
    return [_text_or_number(value) for value in values]


def _text_or_number(value: Any) -> Category:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else float(value)
