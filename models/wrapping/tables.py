"""Feeding tables: from raw rows `(N, D)` to one input, one per column, or some groups.

A category travels as its place among the column's categories. A model that takes texts gets the
text back; one that takes numbers gets the number where all categories are numbers, else the place.
"""

import re
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from models.base.errors import AdaptError
from models.versions.schema import Column, InputSchema
from models.wrapping.graph import Array, Builder, dims_of, dtype_of, kind_of, shape_text, show
from models.wrapping.scale import Scale

UNSEEN = "(unseen)"  # the text of a category that the data do not have
UNSEEN_NUMBER = -1.0
MISSING = "nan"  # the text of a missing category, as NumPy and pandas write it


@dataclass(frozen=True)
class Part:
    """One input of the model and the columns of the data that go into it."""

    name: str
    kind: int
    rank: int
    columns: tuple[int, ...]

    @property
    def texts(self) -> bool:
        """Whether it takes strings."""
        return self.kind == TensorProto.STRING


@dataclass(frozen=True)
class TablePlan:
    """A way to give raw rows to the model."""

    parts: tuple[Part, ...]
    columns: tuple[Column, ...]
    scale: Scale

    @property
    def words(self) -> dict[str, str]:
        """What the plan is, for people."""
        layout = "one input" if len(self.parts) == 1 else f"{len(self.parts)} inputs"
        return {"layout": layout, "scale": self.scale.name}

    def feeds(self, x: Array) -> dict[str, Array]:
        """The model's inputs for raw `x` `(N, D)`."""
        scaled, given = self.scale.apply(x), {}
        for part in self.parts:
            taken = [
                self._values(part, i, (x if part.texts else scaled)[:, i]) for i in part.columns
            ]
            values = np.stack(taken, axis=1).astype(dtype_of(part.kind))
            given[part.name] = values[:, 0] if part.rank == 1 else np.ascontiguousarray(values)
        return given

    def emit(self, builder: Builder, x: str, schema: InputSchema) -> None:
        """Nodes that do the same and end in the model's inputs."""
        del schema  # the columns are known already
        scaled = self.scale.emit(builder, x)
        for part in self.parts:
            tensor = self._emit_part(builder, part, x if part.texts else scaled)
            if part.rank == 1:
                tensor = builder.op("Squeeze", tensor, builder.const([1]))
            if part.texts:
                builder.op("Identity", tensor, output=part.name)
            else:
                builder.op("Cast", tensor, output=part.name, to=part.kind)

    def _emit_part(self, builder: Builder, part: Part, x: str) -> str:
        tables = [category_values(self.columns[i], texts=part.texts) for i in part.columns]
        if all(table is None for table in tables):
            everything = part.columns == tuple(range(len(self.columns)))
            if everything:
                return x
            return builder.op("Gather", x, builder.const(list(part.columns)), axis=1)
        taken = []
        for index, table in zip(part.columns, tables, strict=True):
            column = builder.op("Gather", x, builder.const([index]), axis=1)
            taken.append(column if table is None else _emit_lookup(builder, column, table))
        return taken[0] if len(taken) == 1 else builder.op("Concat", *taken, axis=1)

    def _values(self, part: Part, index: int, column: Array) -> Array:
        table = category_values(self.columns[index], texts=part.texts)
        if table is None:
            return column
        places = np.where(np.isnan(column), len(table) - 1, np.nan_to_num(column)).astype(np.int64)
        looked_up: Array = table[np.where(places < 0, len(table) - 2, places)]
        return looked_up


def category_values(column: Column, *, texts: bool) -> Array | None:
    """What the model knows the categories by, then the unseen and the missing one.

    None where the raw value goes in as it is.

    >>> category_values(Column("c", "categorical", categories=("a", "b")), texts=True).tolist()
    ['a', 'b', '(unseen)', 'nan']
    >>> category_values(Column("c", "categorical", categories=("4", "7")), texts=False).tolist()
    [4.0, 7.0, -1.0, nan]
    """
    if column.kind != "categorical":
        return None
    if texts:
        return np.array([*column.categories, UNSEEN, MISSING], dtype=object)
    try:
        numbers = [float(category) for category in column.categories]
    except ValueError:
        return None
    return np.array([*numbers, UNSEEN_NUMBER, np.nan], dtype=np.float32)


def table_plans(
    inputs: list[onnx.ValueInfoProto], schema: InputSchema, scales: list[Scale]
) -> list[TablePlan]:
    """The ways that fit what the model declares.

    Raises:
        AdaptError: inputs without a column, columns without an input, wrong widths or types.
    """
    parts = tuple(_parts(inputs, schema))
    for part in parts:
        for index in part.columns:
            column = schema.columns[index]
            if part.texts and column.kind != "categorical":
                raise AdaptError(
                    f"input {show(part.name)!r} takes text, but column {column.name!r} holds "
                    f"numbers: add --categorical {column.name}"
                )
    if all(part.texts for part in parts):
        scales = scales[:1]
    return [TablePlan(parts, schema.columns, scale) for scale in scales]


def _parts(inputs: list[onnx.ValueInfoProto], schema: InputSchema) -> list[Part]:
    widths = []
    for given in inputs:
        dims = dims_of(given)
        alone = len(inputs) == 1 and dims == (schema.size,) and schema.size > 1
        if alone or (dims is not None and len(dims) not in (1, 2)):
            raise AdaptError(
                f"the model's input {show(given.name)!r} takes {shape_text(dims)}, the data are "
                f"rows of {schema.size} columns, [N, {schema.size}]"
                + ": it has no batch dimension; export it with one"
                * alone
            )
        if dtype_of(kind_of(given)).kind not in "fiuO":
            raise AdaptError(f"input {show(given.name)!r} takes {dtype_of(kind_of(given))}")
        widths.append(1 if dims is not None and len(dims) == 1 else dims and dims[1])
    if len(inputs) == 1 and (widths[0] in (None, schema.size) or schema.size == 1):
        return [_part(inputs[0], range(schema.size))]
    if all(width in (None, 1) for width in widths):
        return _one_per_column(inputs, schema)
    return _groups(inputs, [width or 0 for width in widths], schema)


def _one_per_column(inputs: list[onnx.ValueInfoProto], schema: InputSchema) -> list[Part]:
    names = [column.name for column in schema.columns]
    plain = {_plain(name): index for index, name in enumerate(names)}
    places = {name: index for index, name in enumerate(names)}
    found = {}
    for given in inputs:
        name = show(given.name)
        index = places.get(name, plain.get(_plain(name)))
        if index is not None:
            found[name] = _part(given, [index])
    if len(found) == len(inputs):
        return list(found.values())
    if len(inputs) == len(names) and not found:
        return [_part(given, [index]) for index, given in enumerate(inputs)]
    missing = [show(given.name) for given in inputs if show(given.name) not in found]
    raise AdaptError(
        f"the model takes the columns {', '.join(show(g.name) for g in inputs)}; the data have no "
        f"column {', '.join(missing)} (they have {', '.join(names)})"
    )


def _groups(
    inputs: list[onnx.ValueInfoProto], widths: list[int], schema: InputSchema
) -> list[Part]:
    """Texts take the categorical columns in their order, numbers the rest; or simply in order."""
    columns = list(range(schema.size))
    if sum(widths) != schema.size:
        taken = ", ".join(
            f"{show(g.name)}: {w or '?'}" for g, w in zip(inputs, widths, strict=True)
        )
        raise AdaptError(
            f"the model takes {sum(widths)} columns ({taken}), the data have {schema.size} "
            f"({', '.join(c.name for c in schema.columns)}): leave columns out with --ignore, or "
            "export the encoding of the columns with the model"
        )
    texts = [kind_of(given) == TensorProto.STRING for given in inputs]
    category = [i for i in columns if schema.columns[i].kind == "categorical"]
    if any(texts) and sum(w for w, t in zip(widths, texts, strict=True) if t) == len(category):
        pools = {True: category, False: [i for i in columns if i not in category]}
    else:
        pools = {True: columns, False: columns}
    parts = []
    for given, width, text in zip(inputs, widths, texts, strict=True):
        parts.append(_part(given, pools[text][:width]))
        del pools[text][:width]
    return parts


def _part(given: onnx.ValueInfoProto, columns: "range | list[int]") -> Part:
    dims = dims_of(given)
    rank = 2 if dims is None else len(dims)
    return Part(given.name, kind_of(given), rank, tuple(columns))


def _emit_lookup(builder: Builder, column: str, table: Array) -> str:
    """The entry of `table` for every place; the last two are for the unseen and the missing."""
    missing = builder.op("IsNaN", column)
    place = builder.op(
        "Cast", builder.op("Where", missing, builder.const(np.float32(0)), column), to=7
    )
    unseen = builder.op("Less", place, builder.const(np.int64(0)))
    place = builder.op("Where", unseen, builder.const(np.int64(len(table) - 2)), place)
    place = builder.op("Where", missing, builder.const(np.int64(len(table) - 1)), place)
    return builder.op("Gather", builder.const(table), place)


def _plain(name: str) -> str:
    """A name as exporters write it: lower case, one underscore for all that is no letter."""
    return re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_")
